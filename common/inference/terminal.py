"""Sentences on a terminal that may be closed, may not know a letter, and must not obey a file's name."""

import os
import signal
import sys
import threading
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from common.errors import UserError

CLOSED = 141  # exit status of a command whose output nobody reads any more: that of SIGPIPE in a shell
Result = TypeVar("Result")


def printable(text: str) -> str:
    r"""A name as it may stand on a terminal: control characters, and bytes that are no UTF-8, are escaped.

    Examples
    --------
    >>> print(printable("a\x1b[2Jb\u202e"), printable("caf\udce9"))
    a\x1b[2Jb\u202e caf\udce9
    """
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in hidden else letter
        for letter in text
    )


def command(pipeline: str) -> str:
    """What a message begins with: `age-photos` where that was typed, else the pipeline's name."""
    typed = Path(sys.argv[0]).stem
    return typed if typed.startswith("age-") else pipeline


@contextmanager
def patient_output() -> Iterator[None]:
    """Let nothing that is printed end the command: letters that the terminal does not know are escaped, and what is
    printed after its reader has gone (`| head`) is dropped."""
    warnings.filterwarnings("ignore", module="PIL")  # of broken EXIF and large images; ours are sentences
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    yield
    unless_closed(lambda: None)


@contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """Let a request to end (SIGTERM), and a terminal that closes (SIGHUP), be what Ctrl-C is: KeyboardInterrupt."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        heeded = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # nohup goes on
        before = {number: signal.signal(number, _interrupt) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def unless_closed(action: Callable[[], Result]) -> Result | None:
    """Print something; after its reader has gone (`| head`) it is dropped, with all that would follow."""
    try:
        result = action()
        sys.stdout.flush()
        return result
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return None


def until_closed(main: Callable[[], int]) -> int:
    """The exit status of a command; CLOSED, and no traceback, where it ends early because its reader has gone."""
    status = unless_closed(main)
    return CLOSED if status is None else status


def attempt(action: Callable[[], None]) -> bool:
    """Draw something; what cannot be written costs one sentence. Whether it was done."""
    try:
        unless_closed(action)
    except (OSError, UserError) as error:
        print(f"not drawn: {printable(str(error))}", file=sys.stderr)
        return False
    return True
