"""Births that a family tree (GEDCOM 5.5 to 7) states of people: only names and birth dates of individuals are read.

ged4py splits the lines and knows the encodings. Pointers are never followed and notes never joined, so that reading
takes time in proportion to the file, whatever is in it.
"""

import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from common.data.labels import person_key, person_name
from common.errors import DataError

LARGEST = 64 * 2**20  # bytes of a tree
MOST_NAMES = 1_000_000  # people and names of them; they take 300 bytes each
LONGEST_LINE = 2**20  # bytes; the standard says 255 characters, programs write whole notes
LONGEST_TEXT = 120  # characters kept of a name or a date
SHOWN = 5  # names in a sentence
HEAD = re.compile(rb"(?:\xef\xbb\xbf)?\s*0 +HEAD\b")
NO_LEVEL = re.compile(rb"\s*\d{4}")  # ged4py takes quadratic time to refuse a long number
LINE, NEWLINE = re.compile(rb"[^\n]+"), re.compile(rb"[\r\n]\s*")
CODECS = ("utf-8", "ascii", "gedcom", "cp4", "cp8", "cp125", "iso8859", "mac-roman")  # "gedcom" is ANSEL
GREGORIAN = re.compile(r"@#DGREGORIAN@|\bGREGORIAN\b", re.IGNORECASE)
OTHER_CALENDAR = re.compile(r"@#D|\b(?:JULIAN|FRENCH_R|HEBREW)\b", re.IGNORECASE)
INTERPRETED = re.compile(r"^INT\s+([^(]+?)\s*(?:\(.*)?$", re.IGNORECASE)


class Births(NamedTuple):
    """Births as written, by person; remarks that change nothing; a sentence for each person whose birth is refused."""

    stated: dict[str, str]
    remarks: list[str]
    refused: list[str]


@dataclass
class Individual:
    """Somebody in a tree: names (given, surname, suffix), nicknames (with the surname), birth as written or ''."""

    names: list[tuple[str, str, str]] = field(default_factory=list)
    nicknames: list[tuple[str, str]] = field(default_factory=list)
    born: str = ""

    def __str__(self) -> str:
        name = " ".join(part for part in self.names[0] if part)
        return f"{name} ({f'born {self.born}' if self.born else 'no birth date'})"

    def add(self, within: str, tag: str, text: str) -> None:
        """Enter the text of a line with this tag, below one with the tag `within` ('' on level 1)."""
        if (within, tag) == ("", "NAME") and any(parts := split_name(text)):
            self.names.append(parts)
        elif (within, tag) == ("NAME", "NICK") and text and self.names:
            self.nicknames.append((text, self.names[-1][1]))
        elif (within, tag) == ("BIRT", "DATE"):
            self.born = self.born or text  # the first is the preferred one

    def full_keys(self) -> set[str]:
        """What full names are compared by: given name or nickname with the surname, also with what follows it."""
        texts = {" ".join(parts[:count]) for parts in self.names for count in (2, 3)}
        return {name_key(text) for text in texts | {" ".join(parts) for parts in self.nicknames}} - {""}

    def given_keys(self) -> set[str]:
        """What given names and nicknames are compared by."""
        return {name_key(parts[0]) for parts in [*self.names, *self.nicknames]} - {""}


def births_in_tree(path: str | Path, people: Iterable[str]) -> Births:
    """Births of people by their full names, else by given names or nicknames that one individual alone has.

    Names that several have, and dates of other calendars than the Gregorian, are refused. Raises DataError for a file
    that cannot be read.
    """
    individuals, births = read_individuals(path), Births({}, [], [])
    full, given = _by_key(individuals, Individual.full_keys), _by_key(individuals, Individual.given_keys)
    nobody, undated, guessed = [], [], []
    for name in _first_spellings(people):
        key = name_key(name)
        found = full.get(key) or given.get(key, [])
        if not found:
            nobody.append(name)
        elif len(found) > 1:
            several = f"{name}: {path} has {len(found)} people of that name, {_some(found)}"
            births.refused.append(f"{several}; use the full name or a CSV of births; it is taken as unknown")
        elif not found[0].born:
            undated.append(name)
        elif OTHER_CALENDAR.search(text := GREGORIAN.sub("", found[0].born)):
            wrong = f"{name}: '{text[:40]}' is no date of the Gregorian calendar; it is taken as unknown"
            births.refused.append(wrong)
        else:
            births.stated[name] = INTERPRETED.sub(r"ABT \1", text.strip())
            guessed += [] if key in full else [f"{name} is {found[0]}"]
    kinds = {"nobody is called": nobody, "no birth date of": undated, "by given name or nickname alone,": guessed}
    births.remarks.extend(f"{path}: {said} {_some(which)}" for said, which in kinds.items() if which)
    return births


def _first_spellings(people: Iterable[str]) -> list[str]:
    """Names without the empty ones, each once, sorted."""
    names = [person_name(name) for name in people]
    return sorted({person_key(name): name for name in reversed(names) if name}.values())


def _some(things: list) -> str:
    more = f" and {len(things) - SHOWN} more" if len(things) > SHOWN else ""
    return ", ".join(map(str, things[:SHOWN])) + more


def _by_key(individuals: list[Individual], keys: Callable[[Individual], set[str]]) -> dict[str, list[Individual]]:
    found: dict[str, list[Individual]] = {}
    for individual in individuals:
        for key in keys(individual):
            found.setdefault(key, []).append(individual)
    return found


def name_key(text: str) -> str:
    """What spellings of one name have in common that differ in capitals, accents and spaces.

    Examples
    --------
    >>> name_key("Zoë  MÜLLER") == name_key("zoe muller")
    True
    """
    bare = (mark for mark in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(mark))
    return " ".join("".join(bare).split())


def split_name(text: str) -> tuple[str, str, str]:
    """Given name, surname and suffix of a name whose surname stands between slashes, first or second.

    Examples
    --------
    >>> split_name("Karl /Huber/ Jr."), split_name("/Huber/ Karl"), split_name("Karl")
    (('Karl', 'Huber', 'Jr.'), ('Karl', 'Huber', ''), ('Karl', '', ''))
    """
    before, _, rest = text.partition("/")
    surname, _, after = rest.partition("/")
    given, surname, after = (person_name(part) for part in (before, surname, after))
    return (given, surname, after) if given else (after, surname, "")


def read_individuals(path: str | Path) -> list[Individual]:
    """The named individuals of a GEDCOM file, in its order.

    Raises DataError for no such file, one that is too large, damaged or in an unknown encoding, and one without
    individuals; also where ged4py is not installed.
    """
    path = Path(path)
    data = _read(path)
    try:
        from ged4py.parser import IntegrityError, ParserError
    except ImportError:
        raise DataError(f"The family tree {path} is read by ged4py; install it: pip install ged4py") from None
    try:
        people = [person for person in _individuals(data, path) if person.names]
    except DataError:
        raise
    except UnicodeDecodeError as error:
        codec = "ANSEL" if error.encoding == "gedcom" else error.encoding
        raise DataError(f"{path} holds text that is not {codec}, as it should be; export the tree as UTF-8.") from None
    except (ParserError, IntegrityError, OSError, LookupError, ValueError) as error:
        raise DataError(f"{path} is no GEDCOM file that can be read ({_clean(str(error))}).") from None
    if not people:
        raise DataError(f"{path} names nobody: it has no individual (INDI) with a name.")
    return people


def _read(path: Path) -> bytes:
    """The bytes of a tree, without blank lines, that ged4py can take; raises DataError."""
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is no family tree: it is no regular file.")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise DataError(f"There is no family tree at {path}; check the name.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None
    if len(data) > LARGEST:
        raise DataError(f"{path} is larger than {LARGEST >> 20} MB; export a part of the tree.")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path} is written in UTF-16; export the tree as UTF-8.")
    if not HEAD.match(data):
        raise DataError(f"{path} is no GEDCOM file: it does not begin with '0 HEAD'.")
    data = NEWLINE.sub(b"\n", data.rstrip(b"\r\n\t \x1a\0"))
    for number, line in enumerate(LINE.finditer(data), 1):
        if line.end() - line.start() > LONGEST_LINE or NO_LEVEL.match(data, line.start()):
            raise DataError(f"{path} is no GEDCOM file: line {number} is too long, or begins with too large a level.")
    return data


def _individuals(data: bytes, path: Path) -> Iterator[Individual]:
    """The individuals of a tree, each when its last line is read; raises what ged4py and decoding raise."""
    from ged4py.parser import GedcomReader

    codec, start = _codec(data, path)
    person, within, count = None, "", 0
    with GedcomReader(io.BytesIO(data), encoding=codec) as reader:
        for line in reader.GedcomLines(start):
            count += line.tag in ("INDI", "NAME", "NICK")
            if count > MOST_NAMES:
                raise DataError(f"{path} holds more than {MOST_NAMES} people and names; export a part of the tree.")
            if line.level == 0:
                if person:
                    yield person
                person = Individual() if line.tag == "INDI" else None
            elif person and line.level < 3:
                within = "" if line.level == 1 else within
                if line.tag in ("NAME", "NICK", "DATE"):
                    person.add(within, line.tag, _clean((line.value or b"").decode(codec)))
                within = line.tag if line.level == 1 else within
    if person:
        yield person


def _codec(data: bytes, path: Path) -> tuple[str, int]:
    """Name of the encoding of a tree, and how many bytes stand before its text; raises as `_individuals`."""
    from ged4py.parser import guess_codec

    codec, start = guess_codec(io.BytesIO(data), warn=False)
    if codec == "gedcom" and _is_utf8(data):  # version 7 is UTF-8 and does not say so; ANSEL is never valid UTF-8
        codec = "utf-8"
    if not codec.startswith(CODECS):
        raise DataError(f"{path} is written in {codec}; export the tree as UTF-8.")
    return codec, start


def _is_utf8(data: bytes) -> bool:
    try:
        return bool(data.decode())
    except UnicodeDecodeError:
        return False


def _clean(text: str) -> str:
    """A stranger's text as it may be printed: no control characters, single spaces, not long."""
    return person_name("".join(mark if mark.isprintable() else " " for mark in text[:LONGEST_TEXT]))
