"""Screenshots of the page for docs/: the example portrait and the simulated album, wide and on a phone, light and dark.

    python scripts/release/screenshots.py --out docs       # needs requirements-dev.txt and chromium

Exit status: 0 done, 2 there is no browser, or the page does not answer.
"""

import argparse
import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import DataError, UserError
from scripts.page.ages_tab import ALBUM, PORTRAIT

VIEWS = {"wide": (1280, 900), "phone": (390, 1100)}  # name: width and height in pixels
WAITING = 60  # seconds for the page to answer
SHOWN = {PORTRAIT: ("portrait", ".age-years"), ALBUM: ("album", ".stVegaLiteChart")}  # button: name, what comes last


@contextmanager
def served() -> Iterator[str]:
    """Serve the page on a free port while the block runs; yields its address, DataError if it does not answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "scripts.age_app", "--port", str(port)]
    page = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(WAITING):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(1)
        else:
            raise DataError(f"The page does not answer within {WAITING} seconds; start scripts/age_app.py by itself.")
        yield f"http://127.0.0.1:{port}"
    finally:
        page.terminate()
        page.wait(WAITING)


def take(browser: Any, address: str, out: Path) -> list[Path]:
    """Take every screenshot of a page with a browser of playwright; returns the files."""
    files = []
    for view, (width, height) in VIEWS.items():
        for scheme in ("light", "dark"):
            for button, (name, done) in SHOWN.items():
                size = {"width": width, "height": height}
                context = browser.new_context(viewport=size, color_scheme=scheme)
                page = context.new_page()
                page.goto(address)
                page.get_by_role("button", name=button).click(timeout=1000 * WAITING)
                page.locator(done).first.wait_for(timeout=1000 * WAITING)
                page.wait_for_timeout(2000)  # charts appear after their data
                files.append(out / f"page_{name}_{view}_{scheme}.jpg")
                page.screenshot(path=files[-1], type="jpeg", quality=80)
                context.close()
    return files


def main(argv: list[str] | None = None) -> int:
    """Entry point; see the module for the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the screenshots")
    arguments = parser.parse_args(argv)
    try:
        chromium = shutil.which("chromium")
        if chromium is None or importlib.util.find_spec("playwright") is None:
            raise DataError("Screenshots need chromium and playwright; pip install -r requirements-dev.txt")
        from playwright.sync_api import sync_playwright

        arguments.out.mkdir(parents=True, exist_ok=True)
        with served() as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            print("\n".join(map(str, take(browser, address, arguments.out))))
            browser.close()
    except UserError as error:
        print(f"screenshots: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
