"""From a frozen config dataclass to a command line and JSON, and back (jsonargparse does the work)."""

import difflib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from jsonargparse import ArgumentParser, Namespace

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


class ConfigParser(ArgumentParser):
    """A parser that says every mistake in one line, with the nearest key, and exits with status 2."""

    keys: Sequence[str] = ()

    def format_help(self, *args: Any, **options: Any) -> str:
        """The help, with - in every key (_ is understood too)."""
        return re.sub(r"--\w+", lambda flag: flag[0].replace("_", "-"), super().format_help(*args, **options))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one line and leave with exit status 2."""
        wrong = re.search(r"(?:unrecognized arguments: -*|[Kk]ey '|Option '|does not accept option ')([\w-]+)", message)
        text = " ".join(message.split())
        if wrong:
            word = wrong[1].replace("-", "_")
            nearest = difflib.get_close_matches(word, self.keys, 1, cutoff=0.4)
            text = f"unknown key '{word}'" + (f"; did you mean '{nearest[0]}'?" if nearest else ".")
        self.exit(2, f"{self.prog}: {text}\n")


def parse_config(
    kind: type[Config], presets: dict[str, dict[str, Any]], description: str, argv: Sequence[str] | None = None
) -> tuple[Config, Namespace]:
    """Read a training command line: --preset, then --config FILE.json, then every other --key value.

    Parameters
    ----------
    kind : frozen dataclass; each of its fields is a key (written with - or _)
    presets : values by key, by preset name; the first is the default
    description : printed by --help
    argv : arguments after the program's name (sys.argv by default)

    Returns
    -------
    the config, and a namespace with `data` (list of folders), `resume` (run folder or None), `preset`.
    A mistake is one line on stderr naming the nearest key, exit status 2; so is, beside --resume, a value that is not
    the one of the run.
    """
    arguments = [_underscored(word) for word in (sys.argv[1:] if argv is None else argv)]
    parser = ConfigParser(description=description, parser_mode="json", allow_abbrev=False)
    parser.keys = [*(field.name for field in fields(kind)), "config", "preset", "data", "resume"]
    parser.add_argument("--preset", choices=list(presets), default=next(iter(presets)), help="named set of keys")
    parser.add_argument("--config", action="config", help="JSON file of keys")
    parser.add_argument("--data", nargs="+", default=[], help="prepared folders (none: synthetic)")
    parser.add_argument("--resume", default=None, help="run folder to go on with")
    parser.add_class_arguments(kind, None)
    preset = _value_of("--preset", arguments) or next(iter(presets))
    parser.set_defaults(presets.get(preset, {}))
    begun = _begun(kind, _value_of("--resume", arguments))
    if begun:
        given = _value_of("--preset", arguments)
        parser.set_defaults({field.name: getattr(begun, field.name) for field in fields(kind)})
        parser.set_defaults(presets.get(given, {}))
    config_file = _value_of("--config", arguments)
    if config_file and not Path(config_file).is_file():
        parser.error(f"there is no config file at {config_file}.")
    chosen = parser.parse_args(arguments)
    try:
        config = kind(**{field.name: getattr(chosen, field.name) for field in fields(kind)})
    except ValueError as error:
        parser.error(str(error))
    if begun:
        wrong = _difference(config, begun) or _other_data(chosen.data, Path(chosen.resume))
        if wrong:
            parser.error(f"a resumed run keeps its settings: {wrong}; leave it out, or start a new run.")
    return config, Namespace(data=chosen.data, resume=chosen.resume, preset=chosen.preset)


def _begun(kind: type[Config], folder: str) -> Config | None:
    """The config of the run that is resumed; None without one, or if it is unreadable (`open_run` says why)."""
    try:
        return read_config(kind, Path(folder) / "config.json") if folder else None
    except (OSError, ValueError, TypeError):
        return None


def _difference(config: Any, begun: Any) -> str:
    """The first key that two configs differ in, with both values ("" without one)."""
    new, old = (json.loads(json.dumps(asdict(each), default=str)) for each in (config, begun))
    return next((f"{key} is {old[key]!r} there, not {new[key]!r}" for key in old if new[key] != old[key]), "")


def _other_data(folders: list[str], run: Path) -> str:
    """What --data names that the run was not started with, with both ("" if it is the same or not given)."""
    try:
        old = json.loads((run / "data.json").read_text())
    except (OSError, ValueError):
        return ""
    new = [str(Path(name).resolve()) for name in folders]
    return f"data is {' '.join(map(str, old))} there, not {' '.join(new)}" if folders and new != old else ""


def _underscored(word: str) -> str:
    if not word.startswith("--"):
        return word
    key, equals, value = word[2:].partition("=")
    return "--" + key.replace("-", "_") + equals + value


def _value_of(key: str, arguments: Sequence[str]) -> str:
    for position, word in enumerate(arguments):
        if word.startswith(key + "="):
            return word.removeprefix(key + "=")
        if word == key and position + 1 < len(arguments):
            return arguments[position + 1]
    return ""


def read_config(kind: type[Config], path: str | Path) -> Config:
    """Read a config saved as JSON; raises ValueError naming the nearest key for an unknown one."""
    values = json.loads(Path(path).read_text())
    known = [field.name for field in fields(kind)]
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, 1, cutoff=0.4)
            raise ValueError(f"{path}: unknown key '{key}'" + (f"; did you mean '{nearest[0]}'?" if nearest else "."))
    return kind(**values)
