"""Readers of sets whose labels stand in the names of files and folders: AFAD, AgeDB, All-Age-Faces."""

import re

from common.data.source import Entry, Problem, Source, from_names, gender_of, published_part

AFAD_PATH = re.compile(r"^(?:.*/)?(\d{1,3})/(111|112)/([^/]+)$")
AFAD_GENDER = {"111": "male", "112": "female"}
AGEDB_NAME = re.compile(r"^(\d+)_(.+)_(\d{1,3})_([mf])\.jpe?g$", re.IGNORECASE)
AAF_NAME = re.compile(r"^(\d{5})A(\d{2,3})\.jpe?g$", re.IGNORECASE)
AAF_WOMEN = 7381  # numbers 00000 to 07380 are women, 07381 to 13321 men


def read_afad(source: Source, options: dict) -> list[Entry | Problem]:
    """AFAD and AFAD-Lite (Niu et al., 2016): age/111/… men, age/112/… women, as 15/111/638660-1.jpg.

    The number before the hyphen is taken for the person, as the benchmark of Paplham & Franc does.
    """
    entries: list[Entry | Problem] = []
    for name in source.images():
        match = AFAD_PATH.match(name)
        if match is None:
            entries.append(Problem(name, "misplaced: expected age/111/file (a man) or age/112/file (a woman)"))
            continue
        person = match[3].rsplit(".", 1)[0].split("-")[0]
        gender = AFAD_GENDER[match[2]]
        entries.append(
            Entry(name, float(match[1]), person=person, gender=gender, group="asian", ready_crop=options["crops"])
        )
    return entries


def read_agedb(source: Source, options: dict) -> list[Entry | Problem]:
    """AgeDB (Moschoglou et al., 2017): 0_MariaCallas_35_f.jpg is Maria Callas at 35; whole photos."""

    def describe(name: str, match: re.Match) -> Entry:
        gender = gender_of(match[4])
        return Entry(name, float(match[3]), person=match[2], gender=gender, ready_crop=options["crops"])

    return from_names(source.images(), AGEDB_NAME, "a name like 0_MariaCallas_35_f.jpg", describe)


def read_aaf(source: Source, options: dict) -> list[Entry | Problem]:
    """All-Age-Faces (Cheng et al., 2019): 00000A02.jpg is person 00000 at 2; a different person in every image.

    Of the folders `original images` and `aligned faces`, which show the same, the originals are read if they are
    there. `image sets/val.txt`, if it is there, is the published evaluation part (our `test`), the rest its training.
    """
    images = source.images()
    originals = [name for name in images if "original images" in name.split("/")]
    evaluation = _listed(source, "val.txt")

    def describe(name: str, match: re.Match) -> Entry:
        gender = "female" if int(match[1]) < AAF_WOMEN else "male"
        stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        part = published_part("test" if stem in evaluation else "train") if evaluation else {}
        return Entry(name, float(match[2]), person=match[1], gender=gender, ready_crop=options["crops"], **part)

    return from_names(originals or images, AAF_NAME, "a name like 00000A02.jpg", describe)


def _listed(source: Source, file_name: str) -> set[str]:
    """First words of the lines of a text file, without a file ending; empty if there is no such file."""
    found = source.find(file_name)
    if not found:
        return set()
    _, content = next(source.read({found}))
    lines = content.decode(errors="replace").splitlines()
    return {line.split()[0].rsplit(".", 1)[0] for line in lines if line.strip()}
