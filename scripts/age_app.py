"""A page in your browser: drop photos, see each face's age, its interval and what it was compared with.

    pip install -r requirements-app.txt
    python scripts/age_app.py                       # http://127.0.0.1:7860
    python scripts/age_app.py --port 8000 --max-mb 50

The page is served to this machine alone (--host changes that), under its own address alone, and asks nothing of any
other. Photos are kept in memory and, while they are estimated, in a folder that is removed at once; what a killed page
leaves there is removed at the next start.
"""

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from common.errors import DataError, UserError
from common.files import WEIGHTS
from scripts.page.server import folder_of_this_process, refuse_address, serve

if TYPE_CHECKING:
    from common.difference.bank import ReferenceBank
    from common.pipeline import AgePipeline

PROBABILITY = 0.9  # of an interval to hold the age
ITSELF = "you"  # whose references a personal bank holds


@dataclass(frozen=True)
class Upload:
    """A file of the browser: its name there and its bytes; age at the photo in years, where it is a reference."""

    name: str
    data: bytes
    age: float = float("nan")


@dataclass(frozen=True)
class Estimated:
    """table: predictions as infer2 writes them; photos: PNGs with the ages drawn in; faces: PNGs beside references."""

    table: pd.DataFrame
    photos: list[bytes]
    faces: list[bytes]


def estimate_uploads(
    uploads: Sequence[Upload], pipeline: "AgePipeline", mode: str, bank: "ReferenceBank | None" = None
) -> Estimated:
    """Estimate photos exactly as DiffPipeline6__infer2.py does; `mode` is full or bypass.

    A photo that cannot be used has a row whose `status` says why. With `bank` (mode full) its references are those of
    the person shown.
    """
    from common.inference.drawings import draw_photos
    from common.inference.estimates import Request
    from common.inference.evidence import draw_evidence
    from common.inference.inputs import list_inputs, read_faces
    from common.inference.options import InferenceOptions
    from common.inference.run import EXPLAINED
    from common.inference.table import predictions_of

    with TemporaryDirectory() as name:
        folder, drawn = Path(name), Path(name) / "drawn"
        names = dict(zip(write_uploads(uploads, folder), (upload.name for upload in uploads), strict=True))
        options = InferenceOptions(pipeline.weights, tuple(names), mode=mode)
        manifest = list_inputs(options)
        asked = pipeline if mode == "full" else pipeline.bypass()
        request = Request(
            [] if bank is None else [bank], None if bank is None else ITSELF, interval=PROBABILITY,
            votes=True, evidence=EXPLAINED if mode == "full" else 0,
        )  # fmt: skip
        faces = asked.estimate_faces(read_faces(manifest, options, pipeline.base), request).faces
        table = predictions_of(faces, manifest)
        draw_photos(table, drawn)
        draw_evidence(faces, drawn)
        pictures = {path: path.read_bytes() for path in sorted(drawn.glob("*.png"))}
        table = table.assign(path=table["path"].map(names))
    beside = [data for path, data in pictures.items() if path.stem.endswith("_references")]
    photos = [data for path, data in pictures.items() if not path.stem.endswith("_references")]
    return Estimated(table, photos, beside)


def write_uploads(uploads: Sequence[Upload], folder: Path) -> list[str]:
    """Write each upload to a file of its own name in a numbered subfolder; returns the files."""
    files = []
    for number, upload in enumerate(uploads):
        file = folder / str(number) / (Path(upload.name).name or "photo")
        file.parent.mkdir()
        file.write_bytes(upload.data)
        files.append(str(file))
    return files


def personal_bank(uploads: Sequence[Upload], pipeline: "AgePipeline") -> tuple["ReferenceBank", list[str]]:
    """The bank of one person's dated photos, and a sentence for each that cannot be used.

    Raises DataError if none can.
    """
    from scripts.build_reference_bank import Picture, enter_pictures

    with TemporaryDirectory() as folder:
        files = write_uploads(uploads, Path(folder))
        pictures = [
            Picture(Path(file), upload.name, "no age given" if np.isnan(upload.age) else upload.age, ITSELF)
            for file, upload in zip(files, uploads, strict=True)
        ]
        return enter_pictures(pictures, pipeline.base, crops_given=False)


def age_at_photo(upload: Upload, birth: str) -> float:
    """Age in years at a photo from a birth date (YYYY-MM-DD) and the camera's own date in the file; NaN if unknown."""
    from scripts.build_reference_bank import age_between, exif_date

    with TemporaryDirectory() as folder:
        (file,) = write_uploads([upload], Path(folder))
        age = age_between(birth, exif_date(Path(file)))
    return float("nan") if isinstance(age, str) else round(age, 1)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to serve (127.0.0.1: this machine alone)")
    add("--port", type=int, default=7860, help="port to serve (7860)")
    add("--name", action="append", default=[], metavar="NAME[:PORT]", help="what a proxy before the page is called")
    add("--max-mb", type=int, default=20, help="largest photo in megabytes (20)")
    add("--weights", type=Path, default=WEIGHTS / "DiffPipeline6", metavar="DIR", help="weights")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit status 0 stopped by Ctrl-C, 2 the page cannot be served."""
    arguments = parse_arguments(argv)
    try:
        if importlib.util.find_spec("streamlit") is None:
            raise DataError("the page needs Streamlit; pip install -r requirements-app.txt")
        if not (arguments.weights / "config.json").is_file():
            raise DataError(f"There are no weights in {arguments.weights}; check --weights.")
        refuse_address(arguments.host, arguments.port)
        end_like_ctrl_c()
        with folder_of_this_process():
            print(f"The page: http://{arguments.host}:{arguments.port} (Ctrl-C ends it)", flush=True)
            serve(arguments)
    except UserError as error:
        print(f"age_app: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


def end_like_ctrl_c() -> None:
    """Let a request to end (SIGTERM), and a terminal that closes (SIGHUP), be what Ctrl-C is."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def leave(status: int) -> None:
    """End at once: nothing waits for a photo that is still being estimated, whose folder is gone."""
    sys.stdout.flush()
    os._exit(status)


def command() -> None:
    """The console command age-app."""
    leave(main())


if __name__ == "__main__":
    command()
