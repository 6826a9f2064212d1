"""What decides the shape and the reading of a base regressor; without torch, so that a CPU inference needs none."""

from dataclasses import dataclass, fields
from pathlib import Path

from common.base.weight_files import CONFIG_FILE, read_settings
from common.data.labels import OLDEST
from common.errors import WeightsError

BACKBONES = ("mobilefacenet", "edgeface", "vgg16", "two_networks", "tiny")
HEADS = ("distribution", "mean_variance", "regression")
DECODES = ("mean", "median")
LARGEST = 4096  # pixels of a side


@dataclass(frozen=True)
class BARConfig:
    """Everything that decides the shape and the reading of a BAR.

    Attributes:
        backbone: Network under the embedding: mobilefacenet, edgeface, vgg16, two_networks (mobilefacenet and edgeface
            side by side), or tiny (three convolutions, to try things out).
        head: distribution (KL), mean_variance, or regression.
        crop_size: Side in pixels of the packed crops the model is given.
        crop_fraction: Side of the square that the model looks at, as a part of the crop's (above 1: edges repeated).
        crop_rise: How far above the crop's centre that of the square is, as a part of the crop's side.
        input_size: Side in pixels of the network's input.
        min_age: Youngest age of the distribution, in years.
        max_age: Oldest age of the distribution, in years (included).
        embedding_size: Width of the trained layer before the head.
        dropout: Probability of dropping a backbone feature in training.
        sigma: Spread in years of the target distribution, and of a regression head's distribution.
        decode: Read-out of the age from the distribution: mean or median.
        mirror: Estimate from the face and its mirror image, averaged (twice the time).
    """

    backbone: str = "mobilefacenet"
    head: str = "distribution"
    crop_size: int = 128
    crop_fraction: float = 0.94
    crop_rise: float = 0.0
    input_size: int = 88
    min_age: int = 0
    max_age: int = 100
    embedding_size: int = 256
    dropout: float = 0.3
    sigma: float = 2.0
    decode: str = "mean"
    mirror: bool = False

    def __post_init__(self):
        for field in fields(BARConfig):
            value = getattr(self, field.name)
            if type(value) is not field.type and not (field.type is float and type(value) is int):
                raise TypeError(f"{field.name} must be of type {field.type.__name__}, not '{value}'.")
        for value, allowed, key in (
            (self.backbone, BACKBONES, "backbone"),
            (self.head, HEADS, "head"),
            (self.decode, DECODES, "decode"),
        ):
            if value not in allowed:
                raise ValueError(f"{key} must be one of {', '.join(allowed)}, not '{value}'.")
        if not (self.min_age >= 0 and self.max_age <= OLDEST and 0 < self.embedding_size <= LARGEST):
            raise ValueError(f"ages must lie in 0 to {OLDEST:g}, embedding_size in 1 to {LARGEST}.")
        if self.min_age >= self.max_age:
            raise ValueError(f"min_age {self.min_age} must be below max_age {self.max_age}.")
        if not (0 < self.crop_size <= LARGEST and 0 < self.input_size <= LARGEST):
            raise ValueError(f"crop_size and input_size must be 1 to {LARGEST} px.")
        if not (0 < self.crop_fraction <= 2 and abs(self.crop_rise) <= 0.5):
            raise ValueError("crop_fraction must be above 0 and up to 2, crop_rise from -0.5 to 0.5.")


def read_config(folder: Path) -> BARConfig:
    """The config of the base regressor in a folder of weights; raises WeightsError."""
    try:
        settings = read_settings(folder)
        if "model" in settings:
            return BARConfig(**settings["model"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{folder / CONFIG_FILE} does not describe a base regressor ({error}).") from None
    raise WeightsError(f"{folder} holds no base regressor (no 'model' in its {CONFIG_FILE}); check --weights.")
