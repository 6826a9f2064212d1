"""`AgePredictBasicPipeline`: photos or crops in, base ages out, in a few lines of Python."""

import sys
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from common.base.config import BARConfig, read_config
from common.base.onnx import FAST_FILE, OnnxBase, load_onnx
from common.base.prediction import AgePrediction as AgePrediction
from common.base.prediction import predict_crops, predict_views
from common.base.weight_files import CONFIG_FILE, MODEL_FILE, fingerprint, require, verified
from common.errors import WeightsError
from common.faces.detection import FaceCrop, FaceDetector
from common.faces.images import Photo, open_photo
from common.files import WEIGHTS

if TYPE_CHECKING:
    from common.base.model import BAR

RELEASED = WEIGHTS / "AgeRegBaseline"
DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # there is one of these where torch may find a GPU


def pick_device(name: str) -> str:
    """'cuda' or 'cpu' for 'auto', else the name itself; raises WeightsError for a device that is not there."""
    kind, _, number = name.partition(":")
    if name not in ("auto", "cpu") and not (kind == "cuda" and (number.isdecimal() or name == "cuda")):
        raise WeightsError(f"There is no device '{name}'; use auto, cpu, cuda or cuda:N.")
    if name == "cpu" or (name == "auto" and not _may_have_gpu()):
        return "cpu"
    try:
        import torch
    except ImportError:
        if name == "auto":
            return "cpu"
        raise WeightsError("A GPU is used by torch, which is not installed; use --device cpu.") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise WeightsError("This machine (or this build of torch) has no CUDA device; use --device cpu.")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise WeightsError(f"There is no device '{name}'; this machine has {torch.cuda.device_count()} of them.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def gpu_count() -> int:
    """How many GPUs torch can use here."""
    if not _may_have_gpu():
        return 0
    import torch

    return torch.cuda.device_count()


def _may_have_gpu() -> bool:
    """Whether it is worth a second to ask torch."""
    return "torch" in sys.modules or sys.platform == "win32" or any(map(Path.exists, map(Path, DRIVERS)))


class AgePredictBasicPipeline:
    """The base regressor with everything around it: faces found, aligned, estimated in batches.

    >>> pipeline = AgePredictBasicPipeline.from_weights()             # doctest: +SKIP
    >>> faces = pipeline.faces("photo.jpg")                           # doctest: +SKIP
    >>> pipeline.predict([face.crop for face in faces]).ages          # doctest: +SKIP
    array([36.1], dtype=float32)
    """

    def __init__(self, folder: Path, config: BARConfig, device: str = "cpu", graph: OnnxBase | None = None):
        self.folder, self.config, self.device = folder, config, device
        self.graph = graph  # the network for a CPU; without it torch computes
        self.fingerprint = fingerprint(folder)  # SHA-1 of the weights file, what a reference bank is tied to
        self.multi_crop = False  # multi-scale test-time augmentation
        self.detector: FaceDetector | None = None
        self._lock = threading.Lock()  # of the detector, which is loaded when it is first needed

    @classmethod
    def from_weights(
        cls, path: str | Path = RELEASED, device: str = "auto", threads: int | None = None
    ) -> "AgePredictBasicPipeline":
        """Load released weights (those of this repository by default); raises WeightsError.

        `threads` compute on a CPU (None: OMP_NUM_THREADS, or all cores).
        """
        folder, device = Path(path), pick_device(device)
        require(folder, (MODEL_FILE, CONFIG_FILE), "released")
        pipeline = cls(folder, read_config(folder), device)
        if device == "cpu":
            verified(folder / MODEL_FILE)
            pipeline.graph = load_onnx(folder, pipeline.config, threads=threads)
        if pipeline.graph is None:
            _ = pipeline.model  # whatever is wrong with it is said now
        return pipeline

    @cached_property
    def model(self) -> "BAR":
        """The network in torch, in evaluation mode on the device; raises WeightsError."""
        from common.base.weights import load_bar

        return load_bar(self.folder, self.device)

    def use_int8(self) -> None:
        """Estimate by the INT8 graph of the weights from now on; raises WeightsError where there is none."""
        if self.device != "cpu":
            raise WeightsError("--fast is for a CPU; leave it out, or add --device cpu.")
        graph = None if self.graph is None else load_onnx(self.folder, self.config, FAST_FILE)
        if graph is None:
            raise WeightsError(
                f"--fast needs a {FAST_FILE} beside the base weights; make it with "
                "scripts/export_onnx.py --weights DIR --fast PREPARED_DIR (it is no gain for networks with EdgeFace)."
            )
        self.graph = graph

    @property
    def ages(self) -> np.ndarray:
        """The ages [n_ages] float32 in years that the columns of `log_probs` stand for."""
        return np.arange(self.config.min_age, self.config.max_age + 1, dtype=np.float32)

    def faces(self, image: str | Path | np.ndarray | Photo) -> list[FaceCrop]:
        """Faces of a photo (a file, a Photo, or [H, W, 3] uint8 RGB), the largest first; raises ImageError."""
        with self._lock:
            self.detector = self.detector or FaceDetector()
        picture = image if isinstance(image, np.ndarray | Photo) else open_photo(image)
        return self.detector.crops(picture, self.config.crop_size)

    def predict(self, images: np.ndarray | Sequence[np.ndarray | str | Path], batch_size: int = 64) -> AgePrediction:
        """Estimate ages.

        Parameters
        ----------
        images : crops [N, S, S, 3] uint8 RGB (S = crop_size of the weights, also as a list), or a list of photos
            (files or [H, W, 3] uint8), of each of which the largest face is taken
        batch_size : crops estimated at once

        Returns
        -------
        AgePrediction; a photo without a face gets NaN in all three. Raises ImageError for a bad file.
        """
        crops = [image if self._is_crop(image) else self._largest(image) for image in images]
        found = [(place, crop) for place, crop in enumerate(crops) if crop is not None]
        config = self.config
        ages = np.full(len(crops), np.nan, np.float32)
        log_probs = np.full((len(crops), len(self.ages)), np.nan, np.float32)
        embeddings = np.full((len(crops), config.embedding_size), np.nan, np.float32)
        for start in range(0, len(found), batch_size):
            part = found[start : start + batch_size]
            places, batch = [place for place, _ in part], np.stack([crop for _, crop in part])  # [B, S, S, 3]
            ages[places], log_probs[places], embeddings[places] = self._forward(batch)
        return AgePrediction(ages, log_probs, embeddings)

    def _forward(self, crops: np.ndarray) -> AgePrediction:
        if self.graph is None:
            from common.base.model import predict_by_torch

            return predict_by_torch(self.model, crops, self.multi_crop)
        predict = predict_views if self.multi_crop else predict_crops
        return predict(self.graph, crops, self.config)

    def _is_crop(self, image: np.ndarray | str | Path) -> TypeGuard[np.ndarray]:
        size = self.config.crop_size
        return isinstance(image, np.ndarray) and image.shape == (size, size, 3)

    def _largest(self, image: np.ndarray | str | Path) -> np.ndarray | None:
        faces = self.faces(image)
        return faces[0].crop if faces else None
