"""Two face-recognition networks side by side as one backbone: what one overlooks, the other may see."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.base.edgeface import FEATURES as EDGEFACE_FEATURES
from common.base.edgeface import EdgeFace
from common.base.mobilefacenet import FEATURES as MOBILEFACENET_FEATURES
from common.base.mobilefacenet import MobileFaceNet

VIEW = {"input_size": 120, "crop_fraction": 1.28125, "crop_rise": 0.140625}  # of a crop; the windows are cut from it
MOBILEFACENET_WINDOW = (slice(29, 117), slice(16, 104))  # rows, columns: what the preset `released` looks at
MOBILEFACENET_SIDE = 92  # px at which the released base reads that window of 88
EDGEFACE_WINDOW = (slice(1, 113), slice(4, 116))  # what the preset `large` looks at


class TwoNetworks(nn.Module):
    """Images [B, 3, 120, 120] float (normalised) to features [B, 816] float: MobileFaceNet's, then EdgeFace's."""

    enlarge: Tensor  # [92, 88] of the state: weights that read at another side have another fingerprint

    def __init__(self):
        super().__init__()
        self.mobilefacenet, self.edgeface = MobileFaceNet(), EdgeFace()
        self.register_buffer("enlarge", enlarging(88, MOBILEFACENET_SIDE))

    def forward(self, images: Tensor) -> Tensor:
        """See the class; raises ValueError for images of another size."""
        size = VIEW["input_size"]
        if images.shape[2:] != (size, size):
            raise ValueError(f"images must be [B, 3, {size}, {size}], not {tuple(images.shape)}.")
        window = images[:, :, *MOBILEFACENET_WINDOW]  # [B, 3, 88, 88]
        first = self.mobilefacenet(self.enlarge @ window @ self.enlarge.T)  # [B, 512]
        second = self.edgeface(images[:, :, *EDGEFACE_WINDOW])  # [B, 304]
        return torch.cat([first, second], dim=1)


def enlarging(side: int, larger: int) -> Tensor:
    """The matrix [larger, side] float32 that interpolates linearly: a graph has it as two products, not as a resize."""
    return F.interpolate(torch.eye(side)[None], larger, mode="linear")[0].T.contiguous()


def build_two_networks() -> tuple[TwoNetworks, int]:
    """A fresh pair and the width of its features."""
    return TwoNetworks(), MOBILEFACENET_FEATURES + EDGEFACE_FEATURES
