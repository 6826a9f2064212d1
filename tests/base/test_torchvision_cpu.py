import subprocess
import sys

import pytest
import torch

from common.base.torchvision_cpu import OPERATORS, allow_torchvision_import


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_torchvision_imports_after_the_call_and_builds_vgg16():
    code = (
        "from common.base.torchvision_cpu import allow_torchvision_import as allow; allow(); import torchvision;"
        "print(sum(p.numel() for p in torchvision.models.vgg16().parameters()))"
    )
    assert run(code) == "138357544"


def test_a_second_call_and_a_call_after_the_import_declare_nothing():
    code = (
        "from common.base.torchvision_cpu import allow_torchvision_import as allow; allow(); again = allow();"
        "import torchvision; print(again, allow())"
    )
    assert run(code) == "[] []"


def test_existing_operators_are_left_alone():
    code = (
        "import torch; from common.base.torchvision_cpu import OPERATORS, SCHEMA, allow_torchvision_import as allow\n"
        "for name in OPERATORS: torch.library.define(f'torchvision::{name}', SCHEMA)\n"
        "print(allow())"
    )
    assert run(code) == "[]"


def test_a_cuda_build_is_left_alone(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr("common.base.torchvision_cpu.operators_load", lambda: pytest.fail("must not be asked"))
    assert allow_torchvision_import() == []
    assert OPERATORS == ("nms", "qnms")
