"""The page answers under its own address alone, in no frame, keeps no photo on disk, and ends with its parent."""

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.errors import DataError
from scripts.age_app import main, parse_arguments
from scripts.page.server import OwnHost, UploadLimit, keep_in_memory, own_names, refuse_address, serve, server_options

needs_streamlit = pytest.mark.skipif(
    importlib.util.find_spec("streamlit") is None, reason="streamlit is not installed (requirements-app.txt)"
)
# Starts the page, says its process id, and waits to be killed.
PARENT = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as where the tests were not started by nohup
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-m", "scripts.age_app", *sys.argv[1:]]).pid, flush=True)
time.sleep(600)
"""


def free_port() -> int:
    """A port of this machine that nobody serves."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(port: int, alive=lambda: True) -> None:
    """Wait until something answers on a port of this machine."""
    for _ in range(480):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert alive()
            time.sleep(0.25)
    raise TimeoutError("the page does not answer")


def start_page(folder: Path, *words: str) -> tuple[subprocess.Popen, str]:
    """Serve the page on a free port, with its temporary files in `folder`; returns the process and HOST:PORT."""
    port = free_port()
    command = [sys.executable, "-m", "scripts.age_app", "--port", str(port), *words]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"TMPDIR": str(folder)})
    wait_for(port, lambda: server.poll() is None)
    return server, f"127.0.0.1:{port}"


def left(folder: Path) -> list[str]:
    """What lies in the folder for temporary files."""
    return sorted(path.name for path in folder.iterdir() if path.name != "log")


def asked(
    host: str, origins: tuple[str, ...] = (), further: tuple = (), server: tuple[str, int] = ("127.0.0.1", 7860)
) -> dict:
    """An ASGI request for the page."""
    headers = [(b"host", host.encode()), *((b"origin", origin.encode()) for origin in origins), *further]
    return {"type": "http", "headers": headers, "server": server}


@pytest.mark.parametrize(
    ("host", "origins", "allowed"),
    [
        ("127.0.0.1:7860", (), True),
        ("LocalHost:7860", ("http://localhost:7860",), True),
        ("[::1]:7860", (), True),
        ("attacker.example:7860", ("http://attacker.example:7860",), False),
        ("127.0.0.1.attacker.example:7860", (), False),
        ("127.0.0.1:7861", (), False),
        ("127.0.0.1", (), False),
        ("", (), False),
        ("127.0.0.1:7860", ("http://127.0.0.1:8000",), False),
        ("127.0.0.1:7860", ("http://localhost:7860",), False),
        ("127.0.0.1:7860", ("null",), False),
        ("127.0.0.1:7860", ("ftp://127.0.0.1:7860",), False),
        ("127.0.0.1:7860", ("https://127.0.0.1:7860",), True),
        ("127.0.0.1:7860", ("http://127.0.0.1:7860", "http://attacker.example"), False),
    ],
)
def test_only_its_own_host_and_origin_are_answered(host, origins, allowed):
    assert OwnHost(None, own_names("127.0.0.1", 7860, []), False).allows(asked(host, origins)) == allowed


@pytest.mark.parametrize(
    ("site", "dest", "allowed"),
    [
        ("none", "document", True),
        ("same-origin", "empty", True),
        ("cross-site", "document", True),
        ("same-site", "image", False),
        ("same-site", "empty", False),
        ("cross-site", "iframe", False),
    ],
)
def test_a_foreign_page_may_link_to_it_and_nothing_else(site, dest, allowed):
    further = ((b"sec-fetch-site", site.encode()), (b"sec-fetch-dest", dest.encode()))
    guard = OwnHost(None, own_names("127.0.0.1", 7860, []), False)
    assert guard.allows(asked("127.0.0.1:7860", (), further)) == allowed


def test_a_request_without_a_host_or_with_two_is_refused():
    guard = OwnHost(None, own_names("127.0.0.1", 7860, []), False)
    both = asked("127.0.0.1:7860")
    both["headers"].append((b"host", b"attacker.example"))
    assert not guard.allows(both) and not guard.allows({"type": "http", "headers": [], "server": ("127.0.0.1", 7860)})


def test_the_names_are_those_that_host_and_name_give():
    assert own_names("192.168.1.5", 80, []) == {"192.168.1.5", "192.168.1.5:80"}
    assert own_names("fe80::5", 7860, ["Ages.example"]) == {"[fe80::5]:7860", "ages.example"}
    everywhere = OwnHost(None, own_names("0.0.0.0", 7860, []), True)
    assert everywhere.allows(asked("192.168.1.5:7860", server=("192.168.1.5", 7860)))
    assert everywhere.allows(asked("localhost:7860")) and not everywhere.allows(asked("192.168.1.5:7860"))
    assert not everywhere.allows(asked("attacker.example:7860", server=("192.168.1.5", 7860)))


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("127.0.0.1", 0, "port must be 1-65535"),
        ("127.0.0.1", 70000, "port must be 0-65535"),
        ("192.0.2.7", 7860, "Cannot assign requested address"),
    ],
)
def test_an_address_that_cannot_be_served_is_named(host, port, reason):
    with pytest.raises(DataError, match=f"^The page cannot be served at {host}:{port} .*{reason}"):
        refuse_address(host, port)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(DataError, match=f"127.0.0.1:{port} .Address already in use.; see --host and --port"):
            refuse_address("127.0.0.1", port)


def test_it_is_served_to_this_machine_alone_and_sends_no_statistics():
    options = server_options(parse_arguments(["--max-mb", "7"]))
    assert options["server.address"] == "127.0.0.1" and options["browser.gatherUsageStats"] is False
    assert options["server.maxUploadSize"] == 7 and options["logger.hideWelcomeMessage"] is True


def answer(address: str, path: str, *headers: str, whole: bool = False) -> str:
    """The first line and the body (or the whole) of an answer to a request with these headers."""
    with socket.create_connection(tuple(address.split(":")), timeout=20) as line:
        line.sendall("\r\n".join([f"GET {path} HTTP/1.1", *headers, "Connection: close", "", ""]).encode())
        text = line.makefile("rb").read().decode(errors="replace")
    return text if whole else text.split("\r\n", 1)[0] + " " + text.split("\r\n\r\n", 1)[1]


def upgrade(address: str, host: str, origin: str) -> socket.socket:
    """A connection that asks for the page's websocket."""
    line = socket.create_connection(tuple(address.split(":")), timeout=20)
    words = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    words += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol: streamlit"]
    request = ["GET /_stcore/stream HTTP/1.1", f"Host: {host}", f"Origin: {origin}", *words, "", ""]
    line.sendall("\r\n".join(request).encode())
    return line


@needs_streamlit
def test_a_rebound_name_and_another_port_get_no_page_no_file_and_no_websocket(tmp_path):
    server, address = start_page(tmp_path)
    try:
        for path in ("/", "/static/x", "/_stcore/health", "/_stcore/upload_file/a/b", "/media/a.png"):
            told = answer(address, path, "Host: attacker.example")
            assert told.startswith("HTTP/1.1 403 ") and "answers only under the address" in told
            assert answer(address, path, f"Host: {address}", "Origin: http://127.0.0.1:1").startswith("HTTP/1.1 403 ")
        told = answer(address, "/", f"Host: {address}", whole=True)
        assert told.startswith("HTTP/1.1 200 ") and "x-frame-options: DENY" in told and "frame-ancestors 'none'" in told
        framed = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Dest: iframe")
        assert answer(address, "/", f"Host: {address}", *framed).startswith("HTTP/1.1 403 ")
        for host, origin in (("attacker.example", "http://attacker.example"), (address, "http://127.0.0.1:1")):
            with upgrade(address, host, origin) as line:
                assert line.recv(12) == b"HTTP/1.1 403"
        with upgrade(address, address, f"http://{address}") as line:
            assert line.recv(12) == b"HTTP/1.1 101"
            server.terminate()
            assert server.wait(20) == 0 and left(tmp_path) == []
    finally:
        server.kill()


@needs_streamlit
def test_no_other_host_is_asked_and_no_upload_goes_to_a_disk(monkeypatch):
    from starlette.formparsers import MultiPartParser
    from streamlit import net_util
    from streamlit.starlette import App
    from streamlit.web.server.server_util import is_url_from_allowed_origins

    given, refused = [], []
    for name in ("get_external_ip", "get_internal_ip"):
        monkeypatch.setattr(net_util, name, lambda: refused.append(1))
    monkeypatch.setattr(sys, "argv", ["age-app"])
    monkeypatch.setattr(MultiPartParser, "spool_max_size", 1)
    monkeypatch.setattr(App, "run", lambda app, config: given.append(config))
    serve(parse_arguments(["--max-mb", "7"]))
    assert not is_url_from_allowed_origins("http://ages.example") and refused == []
    assert given[0]["server.maxUploadSize"] == 7 and MultiPartParser.spool_max_size == 14 * 2**20
    keep_in_memory(5)
    assert MultiPartParser.spool_max_size == 5


def put(limit: UploadLimit, path: str, length: str | None) -> int:
    """The status with which an upload of so many bytes is answered."""
    headers, statuses = [] if length is None else [(b"content-length", length.encode())], []

    async def send(message):
        statuses.append(message.get("status"))

    scope = {"type": "http", "method": "PUT", "path": path, "headers": headers}
    asyncio.run(limit(scope, None, send))
    return statuses[0]


def test_a_visit_holds_so_many_bytes_of_photos_and_no_more():
    held = {"a": 0, "b": 0}

    async def app(scope, receive, send):
        held[scope["path"].split("/")[3]] += int(scope["headers"][0][1])
        await send({"status": 204})

    limit = UploadLimit(app, 100, lambda session: held[session])
    assert [put(limit, "/_stcore/upload_file/a/1", size) for size in ("60", "41", "40", "1")] == [204, 413, 204, 413]
    assert put(limit, "/_stcore/upload_file/b/1", "100") == 204 and held == {"a": 100, "b": 100}
    assert put(limit, "/_stcore/upload_file/b/1", "-5") == 413 and not limit.coming


@needs_streamlit
@pytest.mark.parametrize("kind", ["page", "api"])
def test_it_ends_when_its_parent_is_killed(tmp_path, kind):
    port = free_port()
    words = ["--port", str(port), *(["--api"] if kind == "api" else [])]
    if kind == "api":
        pytest.importorskip("fastapi")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *words], stdout=subprocess.PIPE, text=True)
    number = int(parent.stdout.readline())
    wait_for(port)
    parent.kill()
    parent.wait(20)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            break
        time.sleep(0.1)
    else:
        os.kill(number, signal.SIGKILL)
        raise AssertionError("the page outlives its parent")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--max-mb", "0"], "--max-mb must be 1 or more"),
        (["--api", "--host", "0.0.0.0"], "The API is served to this machine alone"),
    ],
)
def test_what_cannot_be_served_costs_one_sentence(words, told, capsys):
    assert main(words) == 2 and told in capsys.readouterr().err
