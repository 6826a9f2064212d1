"""The documents: their sizes, links, commands, marked tables and versions; and that requirements pin what they need."""

import re
import subprocess
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from common.files import REPOSITORY
from scripts.release.refresh_tables import MARK, documents

LONGEST_PROSE, LONGEST_CODE, LONGEST_README, MOST_LINES = 160, 100, 6500, 120
LABORATORY = ("code that was not kept", "aim:", "drawn faces", "8 bits", "measured once, by", "rivals", "say an age")
LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
BUILD = ("nvidia-", "cuda-", "triton")  # what other builds of torch pin themselves
REQUIREMENTS = ("requirements.txt", "requirements-app.txt", "requirements-dev.txt")


@cache
def texts() -> dict[str, str]:
    """Text of every document by its path from the root."""
    return {str(path.relative_to(REPOSITORY)): path.read_text() for path in documents()}


def parts(text: str) -> tuple[list[str], list[str]]:
    """Lines of code (within fences), and all others."""
    code, prose, inside = [], [], False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside
        else:
            (code if inside else prose).append(line)
    assert not inside
    return code, prose


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    heads = [line.lstrip("#").strip().lower() for line in parts(text)[1] if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in heads}


def commands(text: str) -> list[str]:
    """Commands of our scripts in the code of a document, lines that end in a backslash joined."""
    code = re.sub(r"\\\n\s*", "", "\n".join(parts(text)[0]))
    return [line.split("#")[0] for line in code.splitlines() if re.search(r"\w+/\w+\.py|^age-", line)]


@cache
def source() -> str:
    """All Python source of the repository."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return "\n".join((REPOSITORY / name).read_text() for name in listed.stdout.split())


@pytest.mark.parametrize("name", sorted(texts()))
def test_lines_are_short_and_in_the_words_of_the_field(name):
    code, prose = parts(texts()[name])
    long = [line for line in code if len(line) > LONGEST_CODE]
    long += [
        line for line in prose if len(line) > LONGEST_PROSE and not line.startswith(("|", "<!-- table", "title: "))
    ]
    assert long == []
    assert [words for words in LABORATORY if words in texts()[name]] == []


def test_the_front_page_and_the_pipelines_are_short():
    assert len(texts()["README.md"]) <= LONGEST_README
    pages = {
        name: text for name, text in texts().items() if re.fullmatch(r"(\w*Pipeline\w*|AgeReg\w+)/README.md", name)
    }
    assert len(pages) == 5 and all(len(text.splitlines()) <= MOST_LINES for text in pages.values())


@pytest.mark.parametrize("name", sorted(texts()))
def test_links_lead_somewhere(name):
    dead = []
    for match in LINK.finditer(re.sub(r"```.*?```", "", texts()[name], flags=re.DOTALL)):
        path, _, anchor = (match[1] or match[2]).partition("#")
        if path.startswith(("http:", "https:")):
            continue
        target = (REPOSITORY / name).parent / path if path else REPOSITORY / name
        found = target.exists() and (not anchor or anchor in anchors(target.read_text()))
        dead += [] if found else [match[0]]
    assert dead == []


@pytest.mark.parametrize("name", sorted(texts()))
def test_commands_name_scripts_and_options_that_there_are(name):
    for command in commands(texts()[name]):
        for script in re.findall(r"(?<!/)\b((?:scripts|tests|\w+Pipeline\w*|AgeRegBaseline)/[\w/]+\.py)", command):
            assert (REPOSITORY / script).is_file(), command
        for option in re.findall(r"--[a-z][\w-]+", command.partition("torchrun")[0].partition("accelerate")[0]):
            field = option.strip("-").replace("-", "_")
            assert f'"{option}"' in source() or re.search(rf"^    {field}: ", source(), re.MULTILINE), command


def test_marked_tables_are_filled_and_their_files_are_there():
    marked = [(name, match) for name, text in texts().items() for match in MARK.finditer(text)]
    assert len(marked) > 20
    for name, match in marked:
        assert match[3].count("\n") > 2, (name, match[2])
        for path in re.findall(r"weights/[\w./-]+", match[2]):
            assert (REPOSITORY / path).exists(), (name, path)
    assert all(len(re.findall(r"^<!-- table", text, re.M)) == len(MARK.findall(text)) for text in texts().values())


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (REPOSITORY / "CITATION.cff").read_text()
    assert texts()["CHANGELOG.md"].split("## ")[1].startswith(f"{version}\n")
    assert f"version={{{version}}}" in texts()["README.md"]


def test_every_folder_of_weights_has_a_licence_and_a_card():
    for folder in {path.parent for path in (REPOSITORY / "weights").glob("*/config.json")}:
        card = (folder / "README.md").read_text()
        assert card.startswith("---\nlicense: ") and "datasets:\n- " in card and "metrics:\n- mae\n" in card
        shared = folder.name.endswith("-large")
        assert ("license: cc-by-nc-sa-4.0" in card) == shared
        assert ("CC BY-NC-SA 4.0 (https" in (folder / "LICENSE").read_text()) == shared


def pinned(name: str) -> dict[str, Requirement]:
    """Requirements of a file by name, each with its exact version."""
    lines = [line.split("#")[0].strip() for line in (REPOSITORY / name).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("-")]
    assert all(re.fullmatch(r"==[\w.]+", str(requirement.specifier)) for requirement in found)
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def test_requirements_and_constraints_pin_all_that_is_installed():
    direct = {key: requirement for name in REQUIREMENTS for key, requirement in pinned(name).items()}
    known = direct | pinned("constraints.txt")
    assert len(known) == len(direct) + len(pinned("constraints.txt"))  # nothing is pinned twice
    todo, seen = [(key, requirement.extras) for key, requirement in direct.items()], set()
    while todo:
        key, extras = todo.pop()
        if (key, frozenset(extras)) in seen:
            continue
        seen.add((key, frozenset(extras)))
        if key.startswith(BUILD):
            continue
        assert key in known, f"{key} is in no requirements file and not in constraints.txt"
        try:
            needed = [Requirement(line) for line in distribution(key).requires or []]
        except PackageNotFoundError:
            continue
        for part in needed:
            if part.marker is None or any(part.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                todo.append((canonicalize_name(part.name), part.extras))
