"""Where the parts of this repository lie; importing it costs nothing."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
WEIGHTS = REPOSITORY / "weights"
