"""POST /estimate: photos in, ages as JSON out, with a page that says how; served to this machine alone."""

import argparse
import math
from typing import Annotated, Literal

from fastapi import FastAPI, File, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from common.errors import DataError, UserError
from common.inference.estimates import FaceAge
from scripts.page.photos import PROBABILITY, Found, Upload, Workshop
from scripts.page.server import MEGABYTE, Application, BodyLimit, OwnHost, guard_of, keep_in_memory

MOST_IMAGES = 50  # of one request
MOST_TOGETHER = 10  # times --max-mb: the bytes of one request
AT_ONCE = 16  # requests that are answered at once; the next one is told to come again (503)
NO_IMAGES = "Send photos as multipart form fields called images: curl -F images=@photo.jpg {}estimate"
ABOUT = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Age by difference: the API</title>
<style>:root{{color-scheme:light dark}} body{{max-width:46rem;margin:2rem auto;padding:0 1rem;
font:1rem/1.5 sans-serif}} pre{{overflow-x:auto;padding:.7rem;background:rgba(128,128,128,.15)}}
td{{padding:.2rem .8rem .2rem 0;vertical-align:top}}
</style><h1>POST /estimate</h1><pre>curl -F images=@a.jpg -F images=@b.jpg "{address}estimate?interval=0.9"</pre>
<p>One entry for each face, the photos in their order; a photo without a face, or a broken one, has an entry whose
<code>status</code> says why. At most {images} images of {size} MB, {together} MB in all. <code>mode</code> is
<code>full</code> (corrected by references) or <code>bypass</code>; <code>interval</code> the probability with which
<code>low</code> to <code>high</code> holds. <a href="/openapi.json">openapi.json</a> describes it for programs.</p>
<table>{fields}</table>
<p>Apparent age from one image, wrong by several years as a rule. Not for decisions on people.</p></html>"""


class FaceAnswer(BaseModel):
    """One face of a photo, or why the photo has none."""

    photo: str = Field(description="name of the file")
    face: int | None = Field(description="number among the faces of the photo, the largest is 0; null without one")
    box: list[float] | None = Field(description="left, top, right, bottom in pixels of the photo")
    base_age: float | None = Field(description="years, by one look at the face")
    age: float | None = Field(description="years, corrected by references")
    low: float | None = Field(description="lower end of the interval, years")
    high: float | None = Field(description="upper end of the interval, years")
    references: int = Field(description="how many corrected the age")
    status: str = Field(description="ok, what is wrong, or 'doubtful: ' and why the age should not be trusted")
    turned: int = Field(description="degrees by which the photo was turned counter-clockwise to stand upright")

    @classmethod
    def of(cls, face: FaceAge) -> "FaceAnswer":
        """The answer of a FaceAge, numbers with two decimals, null for what there is not."""
        numbers = {name: _number(getattr(face, name)) for name in ("base_age", "age", "low", "high")}
        box = None if face.box is None else [round(edge, 1) for edge in face.box]
        texts = {name: getattr(face, name) for name in ("photo", "face", "references", "status", "turned")}
        return cls(box=box, **numbers, **texts)


class Problem(BaseModel):
    """Why a request cannot be answered."""

    error: str


def _number(value: float) -> float | None:
    return round(value, 2) if math.isfinite(value) else None


def make_app(workshop: Workshop, max_mb: int, address: str) -> FastAPI:
    """The application; `address` is where it is served, with a slash at its end, `max_mb` the largest image."""
    answers = {status: {"model": Problem} for status in (400, 413, 422)}
    app = FastAPI(title="Age by difference", docs_url=None, redoc_url=None, responses=answers)  # these load from a CDN
    _tell_errors(app, NO_IMAGES.format(address))

    @app.post("/estimate", summary="Ages of all faces in one or several photos")
    def estimate(
        images: Annotated[list[UploadFile], File(description="photos: JPEG, PNG, WebP, HEIC and others")],
        mode: Annotated[Literal["full", "bypass"], Query(description="full: corrected by references")] = "full",
        interval: Annotated[float, Query(gt=0, lt=1, description="probability of low to high")] = PROBABILITY,
    ) -> list[FaceAnswer]:
        if len(images) > MOST_IMAGES:
            raise DataError(f"{len(images)} images are too many for one request; send {MOST_IMAGES} at most.")
        found = [_find(workshop, image, max_mb) for image in images]
        return [FaceAnswer.of(face) for face in workshop.estimate(found, mode, interval=interval).faces]

    @app.get("/", include_in_schema=False)
    def about() -> HTMLResponse:
        rows = [
            f"<tr><td><code>{name}</code><td>{field.description}" for name, field in FaceAnswer.model_fields.items()
        ]
        limits = {"images": MOST_IMAGES, "size": max_mb, "together": MOST_TOGETHER * max_mb}
        return HTMLResponse(ABOUT.format(address=address, fields="".join(rows), **limits))

    return app


def _find(workshop: Workshop, image: UploadFile, max_mb: int) -> Found:
    name = image.filename or "photo"
    if (image.size or 0) > max_mb * MEGABYTE:
        return Found([FaceAge(name, status=f"the file is too large (more than {max_mb} MB)")], b"", [])
    return workshop.find(Upload(name, image.file.read()), drawn=False)


def _tell_errors(app: FastAPI, no_images: str) -> None:
    """Let every error be {"error": one sentence}."""

    @app.exception_handler(UserError)
    def user(request: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, 422)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["loc"][0] == "body":
            return JSONResponse({"error": no_images}, 422)
        return JSONResponse({"error": f"{first['loc'][-1]}: {first['msg'][:1].lower()}{first['msg'][1:]}."}, 422)

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> JSONResponse:
        told = {404: "There is nothing here; POST photos to /estimate.", 405: "POST photos to /estimate."}
        return JSONResponse({"error": told.get(error.status_code, str(error.detail))}, error.status_code)


def guarded(app: Application, arguments: argparse.Namespace) -> Application:
    """The application behind the guard of hosts and origins, with its limit of bytes."""
    return OwnHost(BodyLimit(app, MOST_TOGETHER * arguments.max_mb * MEGABYTE), **guard_of(arguments))


def serve_api(arguments: argparse.Namespace) -> None:
    """Serve the API until Ctrl-C."""
    import uvicorn

    from common.pipeline import AgePipeline

    keep_in_memory(MOST_TOGETHER * arguments.max_mb * MEGABYTE)
    address = f"http://{arguments.host}:{arguments.port}/"
    app = make_app(Workshop(AgePipeline.from_weights(arguments.weights)), arguments.max_mb, address)
    uvicorn.run(
        guarded(app, arguments), host=arguments.host, port=arguments.port, log_level="warning", server_header=False,
        limit_concurrency=AT_ONCE,
    )  # fmt: skip
