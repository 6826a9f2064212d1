"""What all pipelines share."""

import os

# Nothing leaves the machine: onnxruntime reports its use to its maker unless this is set before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
