"""The API: the ages of infer2 as JSON, one sentence for every bad input, nothing for foreign pages."""

import importlib.util
import io
import json
import math

import numpy as np
import pytest
import skimage.data
from PIL import Image

from common.pipeline import AgePipeline
from scripts.age_app import parse_arguments

if importlib.util.find_spec("fastapi") is None:
    pytest.skip("fastapi is not installed (requirements-app.txt)", allow_module_level=True)

from starlette.testclient import TestClient

from scripts.page.api import MOST_IMAGES, FaceAnswer, guarded, make_app
from scripts.page.photos import Workshop

ADDRESS = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def pipeline():
    return AgePipeline.from_weights(device="cpu")


@pytest.fixture(scope="module")
def client(pipeline):
    arguments = parse_arguments(["--api", "--max-mb", "1"])
    app = guarded(make_app(Workshop(pipeline), arguments.max_mb, f"{ADDRESS}/"), arguments)
    return TestClient(app, base_url=ADDRESS)


@pytest.fixture(scope="module")
def portrait():
    """The bytes of the public-domain portrait of the demo."""
    stream = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(stream, "PNG")
    return stream.getvalue()


def sent(*files: tuple[str, bytes]) -> list:
    """Files as multipart fields."""
    return [("images", file) for file in files]


@pytest.mark.parametrize("mode", ["full", "bypass"])
def test_it_says_what_the_pipeline_says(client, pipeline, portrait, mode):
    asked = pipeline if mode == "full" else pipeline.bypass()
    (face,) = asked.estimate(skimage.data.astronaut(), interval=0.8)
    (told,) = client.post("/estimate", files=sent(("me.png", portrait)), params={"mode": mode, "interval": 0.8}).json()
    assert set(told) == set(FaceAnswer.model_fields) and told["photo"] == "me.png" and told["status"] == "ok"
    for name in ("age", "base_age", "low", "high"):
        assert told[name] == pytest.approx(getattr(face, name), abs=0.006)
    assert np.allclose(told["box"], face.box, atol=0.06) and told["references"] == face.references
    assert (told["face"], told["turned"], told["references"] > 0) == (0, 0, mode == "full")


def test_a_bad_image_has_a_sentence_and_loses_nobody_else(client, portrait):
    plain = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(plain, "PNG")
    names = [
        "text.jpg",
        "![x](http://e.example/x.png) <b>\x01" + "x" * 200 + ".png",
        "empty.png",
        "big.png",
        "green.png",
    ]
    files = [b"hello", portrait, b"", bytes(2**20 + 1), plain.getvalue()]
    answer = client.post("/estimate", files=sent(*zip(names, files, strict=True)))
    told = answer.json()
    assert answer.status_code == 200 and len(told) == 5
    assert [face["age"] is None for face in told] == [True, False, True, True, True]
    assert "not an image" in told[0]["status"] and "empty" in told[2]["status"]
    assert told[3]["status"] == "the file is too large (more than 1 MB)" and told[4]["status"] == "no face found"
    assert told[1]["photo"].startswith("![x](http") and told[1]["photo"].endswith("xxx.png")


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "sentence"),
    [
        ("POST", "/estimate", {}, 422, "Send photos as multipart form fields called images"),
        ("POST", "/estimate", {"data": {"images": "text"}}, 422, "Send photos as multipart form fields called images"),
        (
            "POST",
            "/estimate",
            {"files": sent(("a.png", b"x")), "params": {"interval": 2}},
            422,
            "interval: input",
        ),
        ("POST", "/estimate", {"files": sent(("a.png", b"x")), "params": {"mode": "x"}}, 422, "mode: input should"),
        ("POST", "/estimate", {"files": sent(*[("a.png", b"x")] * (MOST_IMAGES + 1))}, 422, "51 images are too many"),
        ("POST", "/estimate", {"files": sent(*[("a.png", bytes(2**20))] * 11)}, 413, "A request brings 10 MB at most"),
        ("POST", "/estimate", {"content": (bytes(2**20) for _ in range(11))}, 422, "Send photos"),
        ("GET", "/estimate", {}, 405, "POST photos to /estimate"),
        ("GET", "/docs", {}, 404, "There is nothing here"),
    ],
)
def test_what_cannot_be_answered_costs_one_sentence(client, method, path, more, status, sentence):
    answer = client.request(method, path, **more)
    assert answer.status_code == status and answer.json()["error"].startswith(sentence)


def test_a_body_of_unstated_length_is_cut_off(client):
    head = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'
    parts = iter([head, *[bytes(2**20)] * 12, b"\r\n--x--\r\n"])
    answer = client.post("/estimate", content=parts, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 413 and answer.json()["error"].startswith("A request brings 10 MB at most")


@pytest.mark.parametrize(
    "headers",
    [{"Host": "attacker.example"}, {"Origin": "http://127.0.0.1:8000"}, {"Origin": "http://attacker.example"}],
)
def test_foreign_pages_are_refused(client, portrait, headers):
    answer = client.post("/estimate", files=sent(("me.png", portrait)), headers=headers)
    assert answer.status_code == 403 and "answers only under the address" in answer.text


def test_its_page_and_its_description_need_no_other_host(client):
    page, description = client.get("/"), client.get("/openapi.json").json()
    assert "http" not in page.text.replace(ADDRESS, "") and "curl -F images=@a.jpg" in page.text
    assert page.headers["x-frame-options"] == "DENY"
    assert list(description["paths"]) == ["/estimate"] and "FaceAnswer" in description["components"]["schemas"]
    assert all(field in page.text for field in FaceAnswer.model_fields)


def test_no_photo_is_written_anywhere(client, portrait, monkeypatch):
    import tempfile

    def refuse(*given, **named):
        raise AssertionError("a temporary file")

    for name in ("mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile"):
        monkeypatch.setattr(tempfile, name, refuse)
    (told,) = client.post("/estimate", files=sent(("me.png", portrait))).json()
    assert 20 < told["age"] < 45 and math.isfinite(told["low"]) and json.dumps(told, allow_nan=False)
