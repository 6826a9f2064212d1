"""How the page is served: under its own address alone, with every temporary file in a folder that dies with it."""

import argparse
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from common.errors import DataError

PAGE = Path(__file__).with_name("page.py")
PREFIX = "age-app-"
FOLDER = re.compile(PREFIX + r"[a-z0-9_]{8}")  # as tempfile.mkdtemp names it
LOCK = "held"  # by the process of the folder, as long as it lives
TRIES = 100  # of making a folder before another process sweeps it away
LOCAL = ("127.0.0.1", "localhost", "[::1]")
REFUSED = "This page answers only under the address it is served at: {}.\n"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def own_names(host: str, port: int, further: list[str]) -> frozenset[str]:
    """The values of the header Host under which a page at `host` and `port` is asked for, in small letters.

    A page for this machine has each of its local names; `further` are names of a proxy before it (NAME or NAME:PORT).
    """
    address = f"[{host}]" if ":" in host else host
    names = {address, *LOCAL} if is_local(host) or is_any(host) else {address}
    with_port = {f"{name}:{port}" for name in names} | (names if port == 80 else set())
    return frozenset(name.lower() for name in (*with_port, *further))


def is_local(host: str) -> bool:
    """Whether this is a name of the machine itself."""
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def is_any(host: str) -> bool:
    """Whether this stands for every address of the machine (0.0.0.0, ::)."""
    return _is_address(host) and ip_address(host).is_unspecified


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class OwnHost:
    """ASGI application around another: refuse what is asked under a foreign name, or by a page from elsewhere.

    A name that an attacker's DNS points to this machine (rebinding) stands in Host, a foreign page in Origin; both
    are answered 403, websockets too. `names` are the own values of Host; with `any_address` the address that the
    connection came to is another.
    """

    def __init__(self, app: Application, names: frozenset[str], any_address: bool):
        self.app, self.names, self.any_address = app, names, any_address

    def allows(self, scope: Scope) -> bool:
        """Whether each Host of a request is one of our names, and each Origin the same as it."""
        hosts, origins = (
            [value.decode("latin-1").lower() for key, value in scope["headers"] if key == name]
            for name in (b"host", b"origin")
        )
        names = self.names | {_address(scope["server"])} if self.any_address else self.names
        return len(hosts) == 1 and hosts[0] in names and all(o.partition("://")[2] == hosts[0] for o in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection (ASGI)."""
        if scope["type"] == "lifespan" or self.allows(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the server answers 403
        else:
            body = REFUSED.format(", ".join(sorted(self.names))).encode()
            kind = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": kind})
            await send({"type": "http.response.body", "body": body})


def _address(server: tuple[str, int]) -> str:
    host, port = server
    host = host.removeprefix("::ffff:")  # an IPv4 address that came to an IPv6 socket
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def folder_of_this_process() -> Iterator[Path]:
    """A folder (mode 0700) that holds every temporary file of this process from now on; removed at the end.

    What killed processes left is removed first. Raises DataError if there is no place for temporary files.
    """
    try:
        place = Path(tempfile.gettempdir())
        sweep(place)
        folder, lock = _locked_folder(place)
    except OSError as error:
        raise DataError(f"There is no place for temporary files ({error.strerror}); set TMPDIR.") from None
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(place: Path) -> tuple[Path, FileLock]:
    for _ in range(TRIES):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        lock = FileLock(folder / LOCK, timeout=0)
        try:
            lock.acquire()
        except (Timeout, OSError):  # another start is sweeping it, or has
            continue
        if (folder / LOCK).exists():
            return folder, lock
        lock.release()
    raise DataError(f"No folder for temporary files can be kept in {place}; set TMPDIR.")


def sweep(place: Path) -> None:
    """Remove the folders in `place` of processes that were killed: our own user's, whose lock nobody holds.

    Links are not followed, and other names not touched.
    """
    for entry in list(os.scandir(place)):
        try:
            if FOLDER.fullmatch(entry.name) and _is_own_folder(entry):
                with FileLock(Path(entry.path) / LOCK, timeout=0):
                    shutil.rmtree(entry.path, ignore_errors=True)
        except (Timeout, OSError):  # it lives, or another start removes it
            continue


def _is_own_folder(entry: os.DirEntry) -> bool:
    user = os.getuid() if hasattr(os, "getuid") else None
    return entry.is_dir(follow_symlinks=False) and user in (None, entry.stat(follow_symlinks=False).st_uid)


def server_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Streamlit's options: one address, no statistics, no look at one's own address outside, no file watcher, menus."""
    return {
        "server.address": arguments.host, "server.port": arguments.port, "server.headless": True,
        "server.maxUploadSize": arguments.max_mb, "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False, "client.toolbarMode": "minimal", "client.showErrorDetails": "none",
        "logger.hideWelcomeMessage": True, "server.enableCORS": True, "server.enableXsrfProtection": True,
    }  # fmt: skip


def refuse_address(host: str, port: int) -> None:
    """Raise DataError if no page can be served at this address."""
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(kind) as trial:
            if os.name != "nt":  # elsewhere a port is free as soon as its server has ended
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
        if port == 0:
            raise OverflowError("port must be 1-65535")
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"The page cannot be served at {host}:{port} ({reason}); see --host and --port.") from None


def serve(arguments: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    from starlette.middleware import Middleware
    from streamlit.starlette import App

    names = own_names(arguments.host, arguments.port, arguments.name)
    guard = Middleware(OwnHost, names=names, any_address=is_any(arguments.host))
    sys.argv = [str(PAGE), str(arguments.weights.resolve())]  # what the page is run with
    App(PAGE, middleware=[guard]).run(config=server_options(arguments))
