"""Nothing leaves the machine: onnxruntime's reporting is off in every entry point."""

import os
import subprocess
import sys

import pytest

DETECT = (
    "import skimage.data; from common.faces.detection import FaceDetector; "
    "print(len(FaceDetector().detect(skimage.data.astronaut())))"
)


def test_onnxruntime_makes_no_identity_and_no_queue_of_reports(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "ORT_"))}
    words = [sys.executable, "-c", DETECT]
    done = subprocess.run(words, env=environment | {"HOME": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    left = [str(path) for path in tmp_path.rglob("*") if "onnxruntime" in path.name or "Microsoft" in path.parts]
    assert left == []


@pytest.mark.parametrize("said", [None, "0"])
def test_reporting_is_off_whatever_the_user_has_set(said):
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {} if said is None else {"ORT_DISABLE_TELEMETRY": said}
    script = "import common, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
