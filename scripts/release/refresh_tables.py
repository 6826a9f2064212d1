"""Write the tables of the documents anew from stored predictions, or check that they are what the commands print.

    python scripts/release/refresh_tables.py            # every Markdown file of the repository
    python scripts/release/refresh_tables.py --check    # change nothing, name the tables that are out of date
    python scripts/release/refresh_tables.py README.md  # only this one

A table is made by the command in the comment before it: `<!-- table 2: scripts/report_metrics.py a=b.csv -->` puts the
second Markdown table that this command prints, run from the root, in the place of the table that follows. Prose is left
alone: read it again where figures changed.
"""

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from os.path import relpath
from pathlib import Path

from common.errors import DataError, UserError
from common.files import REPOSITORY, write_whole

MARK = re.compile(r"^<!-- table (\d+): (.+) -->\n((?:\|.*\n)*)", re.MULTILINE)
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)


@cache
def tables_of(command: str) -> tuple[str, ...]:
    """The Markdown tables that a command (arguments after `python`) prints; raises DataError if it fails."""
    words = [sys.executable, *shlex.split(command)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"'{command}' ended with status {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return tuple(TABLE.findall(done.stdout + "\n"))


def refreshed(text: str, tables: Callable[[str], tuple[str, ...]] = tables_of) -> str:
    """A document's text with every marked table made anew; raises DataError if a command prints too few tables."""

    def made(match: re.Match) -> str:
        number, command = int(match[1]), match[2]
        found = tables(command)
        if not 1 <= number <= len(found):
            raise DataError(f"'{command}' prints {len(found)} tables, not {number}.")
        return f"<!-- table {number}: {command} -->\n{found[number - 1]}"

    return MARK.sub(made, text)


def documents() -> list[Path]:
    """The Markdown files under version control, in the order of their names."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [REPOSITORY / name for name in listed.stdout.split()]


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 all tables are right now, 1 some are not (--check), 2 a command failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="Markdown files (all of the repository)")
    parser.add_argument("--check", action="store_true", help="change nothing")
    arguments = parser.parse_args(argv)
    status = 0
    try:
        for path in [file.resolve() for file in arguments.files] or documents():
            text = path.read_text()
            anew = refreshed(text)
            if not MARK.search(text):
                continue
            if anew == text:
                print(f"{relpath(path, REPOSITORY)}: {len(MARK.findall(text))} tables, as printed", flush=True)
                continue
            print(f"{relpath(path, REPOSITORY)}: {'out of date' if arguments.check else 'written'}")
            if arguments.check:
                status = 1
            else:
                write_whole(path, anew)
    except (UserError, OSError) as error:
        print(f"refresh_tables: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
