"""Settings of AgeRegBaseline: one frozen dataclass, its presets, its command line."""

from collections.abc import Sequence
from dataclasses import dataclass

from jsonargparse import Namespace

from common.base.model import BARConfig
from common.training.config import parse_config

DESCRIPTION = """Train the base regressor (BAR): one face in, a distribution over ages out.
Keys come from --preset, then --config FILE.json, then the command line; '-' and '_' are the same in a key."""

PRECISIONS = ("auto", "no", "bf16")

PRESETS = {
    "released": {},
    "finetune": {  # a little further from weights that are good: the released ones, which read at 92 px
        "input_size": 92,
        "learning_rate": 1e-4,
        "keep_init": 0.8,
        "epochs": 3,
    },
    "large": {
        "backbone": "edgeface",
        "input_size": 112,
        "crop_fraction": 1.185,  # the face as EdgeFace was trained on it: in a larger square, higher up
        "crop_rise": 0.173,
        "backbone_rate": 0.3,
        "epochs": 8,
    },
    "vgg16_kl": {
        "backbone": "vgg16",
        "input_size": 112,
        "min_age": 1,
        "max_age": 100,
        "batch_size": 32,
        "learning_rate": 1e-4,
        "backbone_rate": 1.0,
        "dropout": 0.5,
        "epochs": 10,
        "precision": "auto",
    },
}


@dataclass(frozen=True)
class AgeRegBaselineConfig(BARConfig):
    """Everything a training run is decided by; the keys of the model itself are BARConfig's.

    Attributes:
        pretrained: Start from the backbone's pretrained weights.
        init_weights: Folder of trained BAR weights to start from, instead of pretrained (empty: none).
        keep_init: Part of init_weights in the released weights, the mean of them and the best ones.
        backbone_weights: Local file of the backbone's pretrained weights (empty: package or download).
        epochs: Passes over the exactly labelled faces of the base split.
        batch_size: Faces in a step, exact and interval labels together, of all processes together.
        learning_rate: Highest rate of the one-cycle schedule.
        backbone_rate: Factor on it for the backbone.
        frozen_layers: So many layers of the backbone, from the image on, stay as they are (0: all are trained). On a
            CPU a step with 8 of mobilefacenet's frozen takes half the time.
        weight_decay: Of AdamW.
        warm_up: Part of the training in which the rate rises.
        l1_weight: Weight of |expectation - age| beside the KL divergence.
        mean_weight: Weight of the mean term of the mean-variance head.
        variance_weight: Weight of the variance term of the mean-variance head.
        interval_fraction: Part of each batch taken from interval labels, where both kinds are present.
        balance: How far rare ages of a set are shown more often: 0 each face once an epoch, 1 each age equally often.
        set_balance: How far smaller sets are shown more often: 0 each face once an epoch, 1 each set equally often.
        interval_weight: Weight of an interval label's likelihood in the loss.
        teacher: Folder of soft labels by scripts/release/make_teacher.py, learned beside the labels (empty: none).
        teacher_weight: Part of the loss that the soft labels have.
        train_size: Side in pixels of the images trained on (0: input_size, which is what estimates are made at).
        augmentation: Factor on every augmentation strength; 0 turns it off.
        patience: Epochs without a better validation error before stopping early.
        limit: Use at most this many faces of each split and set, drawn by the seed (0: all).
        checkpoint_steps: Steps between two savings of latest_model.ckpt.
        precision: auto, bf16 or no (float32).
        device: auto, cpu or cuda.
        seed: Of initial weights, order and augmentation.
        runs: Folder of run folders (empty: runs/ of this repository).
    """

    pretrained: bool = True
    init_weights: str = ""
    keep_init: float = 0.0
    backbone_weights: str = ""
    epochs: int = 6
    batch_size: int = 128
    learning_rate: float = 1e-3
    backbone_rate: float = 0.2
    frozen_layers: int = 0
    weight_decay: float = 0.02
    warm_up: float = 0.1
    l1_weight: float = 0.1
    mean_weight: float = 0.2
    variance_weight: float = 0.05
    interval_fraction: float = 0.45
    balance: float = 0.4
    set_balance: float = 0.0
    interval_weight: float = 0.6
    teacher: str = ""
    teacher_weight: float = 0.5
    train_size: int = 0
    augmentation: float = 0.8
    patience: int = 5
    limit: int = 0
    checkpoint_steps: int = 200
    precision: str = "no"
    device: str = "auto"
    seed: int = 0
    runs: str = ""

    def __post_init__(self):
        super().__post_init__()
        beyond = (self.min_age, self.max_age) != (0, 100)
        for wrong, message in (
            (
                self.precision not in PRECISIONS,
                f"precision must be one of {', '.join(PRECISIONS)}, not '{self.precision}'.",
            ),
            (
                not 0 <= self.interval_fraction < 1,
                f"interval_fraction must be in [0, 1), not {self.interval_fraction}.",
            ),
            (not 0 <= self.keep_init < 1, f"keep_init must be in [0, 1), not {self.keep_init}."),
            (self.keep_init and not self.init_weights, "keep_init keeps a part of init_weights; give --init-weights."),
            (
                self.teacher and (self.head == "regression" or beyond),
                "A teacher teaches distributions over the ages 0 to 100; the head cannot learn them.",
            ),
            (not 0 <= self.teacher_weight <= 1, f"teacher_weight must be in [0, 1], not {self.teacher_weight}."),
            (self.frozen_layers < 0, f"frozen_layers must not be negative, but is {self.frozen_layers}."),
            (self.train_size < 0, f"train_size must be a side in pixels, or 0 for input_size; not {self.train_size}."),
            (not 0 <= self.balance <= 1, f"balance must be in [0, 1], not {self.balance}."),
            (not 0 <= self.set_balance <= 1, f"set_balance must be in [0, 1], not {self.set_balance}."),
            (self.epochs < 1 or self.batch_size < 2, "epochs must be at least 1 and batch_size at least 2."),
        ):
            if wrong:
                raise ValueError(message)


def parse_arguments(argv: Sequence[str] | None = None) -> tuple[AgeRegBaselineConfig, Namespace]:
    """Config and run options (`data`, `resume`, `preset`) of a command line."""
    return parse_config(AgeRegBaselineConfig, PRESETS, DESCRIPTION, argv)
