"""How the page and the API are served: under their own address alone, in no frame, and not longer than their parent."""

import argparse
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from common.errors import DataError

PAGE = Path(__file__).with_name("page.py")
LOCAL = ("127.0.0.1", "localhost", "[::1]")
REFUSED = "This page answers only under the address it is served at: {}.\n"
TOO_MUCH = "This visit holds {} MB of photos already, the most there may be; remove some.\n"
UPLOAD = re.compile(r"/_stcore/upload_file/([^/]+)/[^/]+")
MOST_HELD = 25  # times --max-mb: what the photos of one visit may take in memory
MEGABYTE = 2**20
# Nothing is loaded from, sent to, or shown inside another page; Streamlit's own page needs inline code and eval (Vega).
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' data: blob:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'self'; object-src 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

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

    A name that an attacker's DNS points to this machine (rebinding) stands in Host, a foreign page in Origin (with its
    port) or Sec-Fetch-Site; all are answered 403, websockets too. `names` are the own values of Host; with
    `any_address` the address that the connection came to is another. Every answer has HEADERS.
    """

    def __init__(self, app: Application, names: frozenset[str], any_address: bool):
        self.app, self.names, self.any_address = app, names, any_address

    def allows(self, scope: Scope) -> bool:
        """Whether the one Host of a request is a name of ours, each Origin the same, and no foreign page asks."""
        hosts, origins = values_of(scope, b"host"), values_of(scope, b"origin")
        names = self.names | {_address(scope["server"])} if self.any_address else self.names
        own = len(hosts) == 1 and hosts[0] in names and all(o in _origins(hosts[0]) for o in origins)
        foreign = {"cross-site", "same-site"} & set(values_of(scope, b"sec-fetch-site"))
        return own and (not foreign or values_of(scope, b"sec-fetch-dest") == ["document"])  # a link may lead here

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection (ASGI)."""

        async def with_headers(message: Scope) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in HEADERS}
                kept = [pair for pair in message.get("headers", []) if pair[0].lower() not in names]
                message = {**message, "headers": [*kept, *HEADERS]}
            await send(message)

        if scope["type"] == "lifespan" or self.allows(scope):
            await self.app(scope, receive, with_headers)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the server answers 403
        else:
            await answer_text(with_headers, 403, REFUSED.format(", ".join(sorted(self.names))))


def values_of(scope: Scope, name: bytes) -> list[str]:
    """The values of a request's header (its name in small letters), in small letters."""
    return [value.decode("latin-1").lower() for key, value in scope["headers"] if key == name]


def _origins(host: str) -> tuple[str, str]:
    return f"http://{host}", f"https://{host}"  # the latter behind a proxy


async def answer_text(send: Send, status: int, text: str, kind: str = "text/plain") -> None:
    """Answer an HTTP request by a text (ASGI)."""
    body = text.encode()
    headers = [(b"content-type", f"{kind}; charset=utf-8".encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class UploadLimit:
    """ASGI application around Streamlit: one visit holds `most` bytes of photos at most, what is on its way included.

    `held` says how many bytes of a session's photos are in memory.
    """

    def __init__(self, app: Application, most: int, held: Callable[[str], int]):
        self.app, self.most, self.held = app, most, held
        self.coming: Counter[str] = Counter()  # bytes by session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection (ASGI)."""
        match = UPLOAD.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "PUT" else None
        if match is None:
            await self.app(scope, receive, send)
            return
        (size,) = values_of(scope, b"content-length") or ["0"]
        session, count = match[1], int(size) if size.isdecimal() else 0
        if not size.isdecimal() or self.held(session) + self.coming[session] + count > self.most:
            await answer_text(send, 413, TOO_MUCH.format(self.most // MEGABYTE))
            return
        self.coming[session] += count
        try:
            await self.app(scope, receive, send)
        finally:
            self.coming -= Counter({session: count})


class BodyLimit:
    """ASGI application around another: a request brings `most` bytes at most, or is answered 413 by one sentence."""

    def __init__(self, app: Application, most: int):
        self.app, self.most = app, most
        self.told = f"A request brings {most / MEGABYTE:g} MB at most; send fewer or smaller images."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        (size,) = values_of(scope, b"content-length")[:1] or ["0"]
        if size.isdecimal() and int(size) > self.most:
            await answer_text(send, 413, json.dumps({"error": self.told}), "application/json")
            return
        await self.app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        count = 0

        async def counted() -> Scope:
            from starlette.exceptions import HTTPException

            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > self.most:  # of a length that was not stated
                raise HTTPException(413, self.told)
            return message

        return counted


def held_by(session: str) -> int:
    """Bytes of the photos that Streamlit holds for a session."""
    from streamlit.runtime import get_instance

    storage = get_instance().uploaded_file_mgr.file_storage
    return sum(len(file.data) for file in list(storage.get(session, {}).values()))


def _address(server: tuple[str, int]) -> str:
    host, port = server
    host = host.removeprefix("::ffff:")  # an IPv4 address that came to an IPv6 socket
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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


def end_with_parent(every: float = 0.5) -> None:
    """End this process when the one that started it has ended, unless it was told to outlive it (nohup, a service)."""
    parent = os.getppid()
    hangup = getattr(signal, "SIGHUP", None)
    if parent == 1 or (hangup is not None and signal.getsignal(hangup) == signal.SIG_IGN):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def guard_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of OwnHost for a command line."""
    names = own_names(arguments.host, arguments.port, arguments.name)
    return {"names": names, "any_address": is_any(arguments.host)}


def keep_in_memory(largest: int) -> None:
    """Let files of up to `largest` bytes that a form brings stay in memory, where Starlette writes to a disk."""
    from starlette.formparsers import MultiPartParser

    MultiPartParser.spool_max_size = largest


def serve(arguments: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    from starlette.middleware import Middleware
    from streamlit import net_util
    from streamlit.starlette import App

    net_util.get_external_ip = net_util.get_internal_ip = lambda: None  # it asks checkip.amazonaws.com
    keep_in_memory(2 * arguments.max_mb * MEGABYTE)
    guard = Middleware(OwnHost, **guard_of(arguments))
    limit = Middleware(UploadLimit, most=MOST_HELD * arguments.max_mb * MEGABYTE, held=held_by)
    sys.argv = [str(PAGE), str(arguments.weights.resolve())]  # what the page is run with
    App(PAGE, middleware=[guard, limit]).run(config=server_options(arguments))
