"""A page in your browser: drop photos, see each face's age, its interval and what it was compared with; or an API.

    pip install -r requirements-app.txt
    python scripts/age_app.py                       # http://127.0.0.1:7860
    python scripts/age_app.py --port 8000 --max-mb 50
    python scripts/age_app.py --api                 # POST /estimate, on this machine alone
    curl -F images=@photo.jpg http://127.0.0.1:7860/estimate

The page is served to this machine alone (--host changes that), under its own address alone, and asks nothing of any
other. Photos are kept in memory, never in a file; they are gone when the visit, or the command that started the page,
ends.
"""

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import DataError, UserError
from common.files import WEIGHTS
from scripts.page.server import end_with_parent, is_local, refuse_address, serve

NEEDED = {"page": "streamlit", "API": "fastapi"}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to serve (127.0.0.1: this machine alone)")
    add("--port", type=int, default=7860, help="port to serve (7860)")
    add("--name", action="append", default=[], metavar="NAME[:PORT]", help="what a proxy before the page is called")
    add("--max-mb", type=int, default=20, help="largest photo in megabytes (20)")
    add("--api", action="store_true", help="serve POST /estimate instead of the page, to this machine alone")
    add("--weights", type=Path, default=WEIGHTS / "DiffPipeline6", metavar="DIR", help="weights")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; exit status 0 stopped by Ctrl-C, 2 the page cannot be served."""
    arguments = parse_arguments(argv)
    kind = "API" if arguments.api else "page"
    try:
        if importlib.util.find_spec(NEEDED[kind]) is None:
            raise DataError(f"the {kind} needs {NEEDED[kind]}; pip install -r requirements-app.txt")
        if not (arguments.weights / "config.json").is_file():
            raise DataError(f"There are no weights in {arguments.weights}; check --weights.")
        if arguments.max_mb < 1:
            raise DataError(f"--max-mb must be 1 or more, not {arguments.max_mb}.")
        if arguments.api and not is_local(arguments.host):
            raise DataError(f"The API is served to this machine alone, not at {arguments.host}; leave --host out.")
        refuse_address(arguments.host, arguments.port)
        end_like_ctrl_c()
        end_with_parent()
        print(f"The {kind}: http://{arguments.host}:{arguments.port} (Ctrl-C ends it)", flush=True)
        if arguments.api:
            from scripts.page.api import serve_api

            serve_api(arguments)
        else:
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
    """End at once: nothing waits for a photo that is still being estimated."""
    sys.stdout.flush()
    os._exit(status)


def command() -> None:
    """The console command age-app."""
    leave(main())


if __name__ == "__main__":
    command()
