"""Data flows one way: scripts, pipelines, common; and inside common from the lower rooms to the higher ones."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PIPELINES = ("AgeRegBaseline", "AlbumPipeline", "DiffPipeline6", "Ep3Pipeline", "RangeClassOrdinalPipeline")
FLOORS = (
    ("errors", "files"),
    ("faces", "data", "figures"),
    ("base",),
    ("difference",),
    ("evaluation", "training", "inference"),
    ("pipeline",),
)


def imports(text: str) -> Iterator[str]:
    """The modules that a Python file imports from, at any depth."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def floor(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def wrong(path: Path, text: str) -> list[str]:
    """The imports of a file that point up; `path` is relative to the repository."""
    home = path.with_suffix("").parts
    if home[0] != "common":
        return [name for name in imports(text) if name.split(".")[0] == "scripts"]
    outside = [name for name in imports(text) if name.split(".")[0] in ("scripts", "tests", *PIPELINES)]
    inside = [name for name in imports(text) if name.startswith("common.")]
    return outside + [name for name in inside if floor(name.split(".")[1]) > floor(home[1])]


def files() -> list[Path]:
    found = [path for folder in ("common", *PIPELINES) for path in (REPOSITORY / folder).rglob("*.py")]
    return [path.relative_to(REPOSITORY) for path in found if path.name != "__init__.py"]


@pytest.mark.parametrize("path", files(), ids=str)
def test_no_import_points_up(path):
    assert wrong(path, (REPOSITORY / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("common/data/x.py", "from common.base.model import BAR"),
        ("common/faces/x.py", "def f():\n    from scripts.benchmark import main"),
        ("common/base/x.py", "from DiffPipeline6.DiffPipeline6__model import load_model"),
        ("AgeRegBaseline/AgeRegBaseline__x.py", "import scripts.prepare_data"),
    ],
)
def test_an_import_that_points_up_is_seen(path, text):
    assert len(wrong(Path(path), text)) == 1


def test_the_repository_holds_no_links():
    """A link that is committed can replace a folder of somebody who pulls, ignored data in it too."""
    command = ["git", "ls-files", "--stage"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(listed) > 300
    assert [line for line in listed if line.startswith("120000")] == []
