"""What the processes of a training agree on, draw and write; `accelerate launch` or torchrun starts several."""

import ctypes
import os
import signal
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list

T = TypeVar("T")
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


def launched() -> int:
    """How many processes train together, 1 for a program started by itself."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def from_main(make: Callable[[], T], device: str) -> T:
    """What `make` gives on the main process, on every process; the others do not call it but wait.

    `device` is that of the config: "cpu" keeps a training off the GPUs that are there.
    """
    if launched() == 1:
        return make()
    state = PartialState(cpu=device == "cpu")
    values = [make() if state.is_main_process else None]
    return broadcast_object_list(values)[0]


def averaged(accelerator: Accelerator, *values: float) -> list[float]:
    """Means of numbers over all processes, the same on each; in one process the numbers themselves."""
    if accelerator.num_processes == 1:
        return list(values)
    together = torch.tensor(values, dtype=torch.float32, device=accelerator.device)
    return accelerator.reduce(together, "mean").tolist()


def own_part(accelerator: Accelerator, numbers: np.ndarray) -> np.ndarray:
    """The faces of a batch [B] that this process trains on; together the processes take each exactly once."""
    return numbers[accelerator.process_index :: accelerator.num_processes]


def draw_seed(accelerator: Accelerator, seed: int, number: int) -> int:
    """Seed of everything that is drawn in step `number`, another one in every process."""
    return seed * 1_000_003 + number + accelerator.process_index * 1_000_000_007


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next tensor; does nothing where it is not glibc.

    On a CPU a training step otherwise spends up to 40 % of its time on fresh pages.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt:
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 256 << 20)):
            mallopt(parameter, value)


class StopRequest:
    """Within it, Ctrl-C (or SIGTERM) only notes that a stop is wanted; a second one interrupts at once."""

    def __enter__(self) -> "StopRequest":
        self.wanted = False
        self.earlier = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _note(self, number: int, frame: object) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self.earlier.items():
            signal.signal(number, handler)
