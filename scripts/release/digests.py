"""What a stage of a release was made of: digests of its commands and of the files and folders these read."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from common.base.weight_files import BANK_FILE, CONFIG_FILE, MODEL_FILE, read_settings
from common.errors import DataError, WeightsError
from common.files import write_whole
from scripts.release.stages import RUNS, Stage

NOT_READ = ("--out", "--json", "--runs", "--target", "--sources")  # the word after one of these is no input
PREPARED_FILES = ("manifest.csv", "crops.csv", "crops.npy")  # what a prepared folder says to who reads it
MISSING = "missing"


class State(NamedTuple):
    """What a stage would be made of now: digest of all, and of each input by its name."""

    digest: str
    inputs: dict[str, str]


class Digests:
    """SHA-256 of files, read again only when their size or time of change is another; `memory` keeps them."""

    def __init__(self, root: Path, memory: Path):
        self.root, self.memory = root, memory
        try:
            self.known: dict[str, list] = json.loads(memory.read_text())
        except (OSError, ValueError):
            self.known = {}

    def save(self) -> None:
        """Write what is known to the memory."""
        self.memory.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.memory, json.dumps(self.known, indent=0) + "\n")

    def file(self, path: Path) -> str:
        """SHA-256 of a file's bytes; raises DataError if it cannot be read."""
        try:
            about = path.stat()
            noted = self.known.get(str(path))
            if not noted or noted[:2] != [about.st_size, about.st_mtime_ns]:
                with path.open("rb") as file:
                    noted = [about.st_size, about.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()]
                self.known[str(path)] = noted
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); a release needs it.") from None
        return noted[2]

    def path(self, name: str) -> str:
        """Digest of a file, a folder or all files that a pattern means; of weights and prepared sets what counts."""
        path = self.root / name
        if "*" in name:
            found = {str(part.relative_to(self.root)): self.file(part) for part in self.root.glob(name)}
        elif not path.exists():
            return MISSING
        elif path.is_file():
            return self.file(path)
        elif (path / MODEL_FILE).is_file():
            found = {part: self.file(path / part) for part in (MODEL_FILE, BANK_FILE) if (path / part).is_file()}
            found |= {CONFIG_FILE: _learnt_settings(path)}
        elif (path / PREPARED_FILES[0]).is_file():
            found = {part: self.file(path / part) for part in PREPARED_FILES if (path / part).is_file()}
        else:
            files = sorted(part for part in path.rglob("*") if part.is_file())
            parts = {str(part.relative_to(path)): part for part in files}
            found = {name: self.file(part) for name, part in parts.items() if not name.startswith(".")}
        return _digest(sorted(found.items()))

    def state(self, stage: Stage) -> State:
        """What a stage is made of now; a path in a command counts by what is there, not by where it lies."""
        inputs = {short(name): self.path(resolved(name, self.root)) for name in inputs_of(stage, self.root)}
        commands = [[short(word) for word in command] for command in stage.commands]
        return State(_digest([commands, stage.trains, stage.release, sorted(inputs.items())]), inputs)


def _learnt_settings(folder: Path) -> str:
    """Digest of the part of config.json that says which network the weights are of."""
    try:
        settings = read_settings(folder)
    except WeightsError:
        return MISSING
    return _digest([settings.get("model"), settings.get("head")])


def _digest(said: object) -> str:
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def short(word: str) -> str:
    """A word of a command, of an absolute path only the name: archives may move."""
    return Path(word).name if Path(word).is_absolute() else word


def inputs_of(stage: Stage, root: Path) -> list[str]:
    """The files and folders that a stage reads: those that its commands name, and its `reads`."""
    words = set()
    for command in stage.commands:
        for before, word in zip(command, command[1:], strict=False):
            name = word.partition("=")[2] or word
            if before not in NOT_READ and "/" in name and (name.startswith("@") or (root / name).exists()):
                words.add(name.removesuffix("/manifest.csv"))  # the crops beside it are read too
    return sorted(words | set(stage.reads))


def outputs_of(stage: Stage, root: Path) -> list[Path]:
    """The files and folders that the commands of a stage say they write."""
    outputs = [
        root / word
        for command in stage.commands
        for before, word in zip(command, command[1:], strict=False)
        if before in NOT_READ[:2]
    ]
    return outputs + ([root / "weights" / stage.release / MODEL_FILE] if stage.release else [])


def runs_of(stage: str, pipeline: str, root: Path) -> list[Path]:
    """Run folders of a training stage, the oldest first; later ones are those of its controls."""
    return sorted(path for path in (root / RUNS / stage / pipeline).glob("*") if path.is_dir())


def resolved(word: str, root: Path) -> str:
    """A word of a command, `@STAGE/PIPELINE?FOLDER` as where the weights of that training lie below the root."""
    if not word.startswith("@"):
        return word
    word, _, otherwise = word.partition("?")
    stage, pipeline, *rest = word[1:].split("/")
    found = runs_of(stage, pipeline, root)
    if otherwise and not found:
        return otherwise
    run = found[0].name if found else "<run>"
    return "/".join([RUNS, stage, pipeline, run, "weights", *rest])
