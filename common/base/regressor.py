"""`AgePredictBasicPipeline`: photos or crops in, base ages out, in a few lines of Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeGuard

import numpy as np
import torch

from common.base.model import BAR, central_view, estimate, estimate_views
from common.base.onnx import FAST_FILE, OnnxBase, load_onnx
from common.base.weights import fingerprint, load_bar
from common.errors import WeightsError
from common.faces.detection import FaceCrop, FaceDetector
from common.faces.images import Photo, open_photo
from common.files import WEIGHTS

RELEASED = WEIGHTS / "AgeRegBaseline"


def pick_device(name: str) -> str:
    """'cuda' or 'cpu' for 'auto', else the name itself; raises WeightsError for a device that is not there."""
    if name not in ("auto", "cpu", "cuda"):
        raise WeightsError(f"There is no device '{name}'; use auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise WeightsError("This machine (or this build of torch) has no CUDA device; use --device cpu.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


class AgePrediction(NamedTuple):
    """ages [N] float32 years; log_probs [N, n_ages] float32; embeddings [N, E] float32 (NaN where no face)."""

    ages: np.ndarray
    log_probs: np.ndarray
    embeddings: np.ndarray


class AgePredictBasicPipeline:
    """The base regressor with everything around it: faces found, aligned, estimated in batches.

    >>> pipeline = AgePredictBasicPipeline.from_weights()             # doctest: +SKIP
    >>> faces = pipeline.faces("photo.jpg")                           # doctest: +SKIP
    >>> pipeline.predict([face.crop for face in faces]).ages          # doctest: +SKIP
    array([36.1], dtype=float32)
    """

    def __init__(self, model: BAR, device: str = "cpu", weights: str = "", graph: OnnxBase | None = None):
        self.model, self.device = model, device
        self.graph = graph  # the same network for a CPU, twice as fast; without it torch estimates
        self.fingerprint = weights  # SHA-1 of the weights file, what a reference bank is tied to
        self.multi_crop = False  # average six views of each face instead
        self.detector: FaceDetector | None = None

    @classmethod
    def from_weights(cls, path: str | Path = RELEASED, device: str = "auto") -> "AgePredictBasicPipeline":
        """Load released weights (those of this repository by default); raises WeightsError."""
        device = pick_device(device)
        model = load_bar(path, device)
        return cls(model, device, fingerprint(path), load_onnx(path, model) if device == "cpu" else None)

    def compute_in_8_bits(self) -> None:
        """Estimate by the 8-bit graph of the weights from now on; raises WeightsError where there is none."""
        if self.device != "cpu":
            raise WeightsError("--fast is for a CPU; leave it out, or add --device cpu.")
        graph = None if self.graph is None else load_onnx(self.graph.folder, self.model, FAST_FILE)
        if graph is None:
            raise WeightsError(
                f"--fast needs a {FAST_FILE} beside the base weights; make it with "
                "scripts/export_onnx.py --weights DIR --fast PREPARED_DIR (it is no gain for networks with EdgeFace)."
            )
        self.graph = graph

    @property
    def ages(self) -> np.ndarray:
        """The ages [n_ages] float32 in years that the columns of `log_probs` stand for."""
        return self.model.ages.cpu().numpy()

    def faces(self, image: str | Path | np.ndarray | Photo) -> list[FaceCrop]:
        """Faces of a photo (a file, a Photo, or [H, W, 3] uint8 RGB), the largest first; raises ImageError."""
        self.detector = self.detector or FaceDetector()
        picture = image if isinstance(image, np.ndarray | Photo) else open_photo(image)
        return self.detector.crops(picture, self.model.config.crop_size)

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
        config = self.model.config
        ages = np.full(len(crops), np.nan, np.float32)
        log_probs = np.full((len(crops), len(self.model.ages)), np.nan, np.float32)
        embeddings = np.full((len(crops), config.embedding_size), np.nan, np.float32)
        for start in range(0, len(found), batch_size):
            part = found[start : start + batch_size]
            places, batch = [place for place, _ in part], np.stack([crop for _, crop in part])  # [B, S, S, 3]
            ages[places], log_probs[places], embeddings[places] = self._forward(batch)
        return AgePrediction(ages, log_probs, embeddings)

    @torch.inference_mode()
    def _forward(self, crops: np.ndarray) -> AgePrediction:
        network, faces = self.graph or self.model, torch.from_numpy(crops).to(self.device)  # [B, S, S, 3]
        if self.multi_crop:
            output = estimate_views(network, faces)
        else:
            output = estimate(network, central_view(faces, self.model.config))
        return AgePrediction(*(tensor.cpu().numpy() for tensor in output))

    def _is_crop(self, image: np.ndarray | str | Path) -> TypeGuard[np.ndarray]:
        size = self.model.config.crop_size
        return isinstance(image, np.ndarray) and image.shape == (size, size, 3)

    def _largest(self, image: np.ndarray | str | Path) -> np.ndarray | None:
        faces = self.faces(image)
        return faces[0].crop if faces else None
