"""The page answers under its own address alone, and leaves no photo behind however it ends."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from common.errors import DataError
from scripts.age_app import parse_arguments
from scripts.page.server import LOCK, OwnHost, folder_of_this_process, own_names, refuse_address, server_options, sweep

needs_streamlit = pytest.mark.skipif(
    importlib.util.find_spec("streamlit") is None, reason="streamlit is not installed (requirements-app.txt)"
)
ENDS = [signal.SIGTERM, signal.SIGINT, signal.SIGKILL]
# The page's main with a server that does nothing but estimate one photo again and again, as a visitor's click does.
ESTIMATING = """
import sys, threading, time
from pathlib import Path
from scripts import age_app

def serve(arguments):
    from common.pipeline import AgePipeline
    pipeline = AgePipeline.from_weights(arguments.weights, "cpu")
    photo = age_app.Upload("me.png", Path(sys.argv[1]).read_bytes())
    def estimate():
        while True:
            age_app.estimate_uploads([photo], pipeline, "full")
    threading.Thread(target=estimate).start()
    while True:
        time.sleep(1)

age_app.serve = serve
age_app.leave(age_app.main([]))
"""


def start_page(folder: Path, *words: str) -> tuple[subprocess.Popen, str]:
    """Serve the page on a free port, with its temporary files in `folder`; returns the process and HOST:PORT."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "scripts.age_app", "--port", str(port), *words]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"TMPDIR": str(folder)})
    for _ in range(240):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return server, f"127.0.0.1:{port}"
        except OSError:
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.25)
    raise TimeoutError("the page does not answer")


def left(folder: Path) -> list[str]:
    """What lies in the folder for temporary files."""
    return sorted(path.name for path in folder.iterdir() if path.name != "log")


def asked(host: str, origins: tuple[str, ...] = (), server: tuple[str, int] = ("127.0.0.1", 7860)) -> dict:
    """An ASGI request for the page."""
    headers = [(b"host", host.encode()), *((b"origin", origin.encode()) for origin in origins)]
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
        ("127.0.0.1:7860", ("http://127.0.0.1:7860", "http://attacker.example"), False),
    ],
)
def test_only_its_own_host_and_origin_are_answered(host, origins, allowed):
    assert OwnHost(None, own_names("127.0.0.1", 7860, []), False).allows(asked(host, origins)) == allowed


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


def answer(address: str, path: str, *headers: str) -> str:
    """The first line and the body of an answer to a request with these headers."""
    with socket.create_connection(tuple(address.split(":")), timeout=20) as line:
        line.sendall("\r\n".join([f"GET {path} HTTP/1.1", *headers, "Connection: close", "", ""]).encode())
        text = line.makefile("rb").read().decode(errors="replace")
    return text.split("\r\n", 1)[0] + " " + text.split("\r\n\r\n", 1)[1]


def upgrade(address: str, host: str, origin: str) -> socket.socket:
    """A connection that asks for the page's websocket."""
    line = socket.create_connection(tuple(address.split(":")), timeout=20)
    words = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"]
    words += ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol: streamlit"]
    request = ["GET /_stcore/stream HTTP/1.1", f"Host: {host}", f"Origin: {origin}", *words, "", ""]
    line.sendall("\r\n".join(request).encode())
    return line


@needs_streamlit
def test_a_rebound_name_gets_no_page_no_file_and_no_websocket_and_nothing_is_left(tmp_path):
    server, address = start_page(tmp_path)
    try:
        for path in ("/", "/static/x", "/_stcore/health", "/_stcore/upload_file/a/b", "/media/a.png"):
            told = answer(address, path, "Host: attacker.example")
            assert told.startswith("HTTP/1.1 403 ") and "answers only under the address" in told
        assert answer(address, "/", f"Host: {address}").startswith("HTTP/1.1 200 ")
        assert answer(address, "/", f"Host: {address}", "Origin: http://127.0.0.1:1").startswith("HTTP/1.1 403 ")
        for host, origin in (("attacker.example", "http://attacker.example"), (address, "http://127.0.0.1:1")):
            with upgrade(address, host, origin) as line:
                assert line.recv(12) == b"HTTP/1.1 403"
        with upgrade(address, address, f"http://{address}") as line:
            assert line.recv(12) == b"HTTP/1.1 101"
            assert len(left(tmp_path)) == 1
            server.kill()
            server.wait(20)
        assert len(left(tmp_path)) == 1
        server, address = start_page(tmp_path)
        assert len(left(tmp_path)) == 1
        with upgrade(address, address, f"http://{address}") as line:
            assert line.recv(12) == b"HTTP/1.1 101"
            server.terminate()
            assert server.wait(20) == 0 and left(tmp_path) == []
    finally:
        server.kill()


@needs_streamlit
@pytest.mark.parametrize("end", ENDS)
def test_no_photo_is_left_when_it_ends_in_the_middle_of_one(tmp_path, end):
    from common.inference.inputs import demo_photo

    command = [sys.executable, "-c", ESTIMATING, str(demo_photo())]
    process = subprocess.Popen(command, env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("me*.png")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    (folder,) = tmp_path.glob("age-app-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    process.send_signal(end)
    process.wait(30)
    if end == signal.SIGKILL:
        assert list(folder.rglob("me*.png"))
        sweep(tmp_path)
    assert left(tmp_path) == []


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A place for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_only_folders_of_the_dead_are_swept(place, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "photo.png").write_text("mine")
    for name in ("age-app-dead0000", "age-app-alive000", "age-app-notours-", "other-dead0000"):
        (place / name).mkdir()
        (place / name / "photo.png").write_text("x")
    (place / "age-app-dead0000" / "link").symlink_to(elsewhere)
    (place / "age-app-link0000").symlink_to(elsewhere)
    (place / "age-app-file0000").write_text("x")
    with FileLock(place / "age-app-alive000" / LOCK):
        with folder_of_this_process() as folder:
            kept = ["age-app-alive000", "age-app-file0000", "age-app-link0000", "age-app-notours-", "other-dead0000"]
            assert left(place) == sorted([*kept, folder.name])
            assert Path(tempfile.mkdtemp()).parent == folder
        assert left(place) == kept
    assert (elsewhere / "photo.png").read_text() == "mine"


def test_many_pages_that_start_at_once_do_not_sweep_each_other(place):
    stop, seen = threading.Event(), []

    def sweeping():
        while not stop.wait(0.001):
            sweep(place)

    with ThreadPoolExecutor() as pool:
        others = [pool.submit(sweeping) for _ in range(3)]
        try:
            for _ in range(50):
                tempfile.tempdir = str(place)
                with folder_of_this_process() as folder:
                    (folder / "photo.png").write_text("x")
                    seen.append((folder / "photo.png").is_file())
        finally:
            stop.set()
        assert [other.result() for other in others] == [None] * 3
    assert all(seen) and left(place) == []


def test_without_a_place_for_temporary_files_one_sentence(place):
    tempfile.tempdir = str(place / "missing")
    told = r"There is no place for temporary files \(No such file or directory\)"
    with pytest.raises(DataError, match=told), folder_of_this_process():
        pass
