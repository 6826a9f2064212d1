"""Released weights answer what they answered when they were released, to 1e-4 years.

python tests/test_golden.py     # writes tests/golden.csv anew: only when weights are released anew
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.data.synthetic import generate_faces
from common.difference.corrector import Corrector, Faces
from common.files import WEIGHTS
from common.inference.inputs import demo_photo
from common.pipeline import AgePredictBasicPipeline
from DiffPipeline6.DiffPipeline6__model import load_model as load_diff
from Ep3Pipeline.Ep3Pipeline__model import load_model as load_ep3
from RangeClassOrdinalPipeline.RangeClassOrdinalPipeline__model import load_model as load_range

GOLDEN = Path(__file__).with_name("golden.csv")
RELEASED = [
    "AgeRegBaseline", "AgeRegBaseline-large", "DiffPipeline6", "DiffPipeline6-large", "Ep3Pipeline",
    "RangeClassOrdinalPipeline",
]  # fmt: skip


def crops_of(pipeline: AgePredictBasicPipeline) -> np.ndarray:
    """The demo portrait and six synthetic faces, crops [7, S, S, 3] uint8."""
    drawn, _ = generate_faces(6, 3, pipeline.config.crop_size)
    return np.stack([pipeline.faces(demo_photo())[0].crop, *drawn])


def corrected(corrector: Corrector) -> tuple[np.ndarray, np.ndarray]:
    """Base and corrected ages [7] (years)."""
    prediction = corrector.pipeline.predict(crops_of(corrector.pipeline))
    nobody = np.full(len(prediction.ages), "")
    return prediction.ages, corrector.correct(Faces(prediction.embeddings, prediction.ages, nobody, nobody)).age


def gated(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Base and gated ages [7] (years) of the range classes."""
    model = load_range(WEIGHTS / name, "cpu")
    prediction = model.corrector.pipeline.predict(crops_of(model.corrector.pipeline))
    nobody = np.full(len(prediction.ages), "")
    faces = Faces(prediction.embeddings, prediction.ages, nobody, nobody)
    correction = model.corrector.correct(faces)
    chances = model.error_classes(faces, correction)
    return prediction.ages, model.gate.apply(prediction.ages.astype(float), correction.age.astype(float), chances)


def ages_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Base ages and final ages [7] float (years) of one folder of released weights."""
    if name.startswith("AgeRegBaseline"):
        pipeline = AgePredictBasicPipeline.from_weights(WEIGHTS / name, "cpu")
        ages = pipeline.predict(crops_of(pipeline)).ages
        return ages, ages
    if name.startswith("Range"):
        return gated(name)
    return corrected((load_ep3 if name.startswith("Ep3") else load_diff)(WEIGHTS / name, "cpu"))


@pytest.mark.parametrize("name", RELEASED)
def test_ages_are_those_of_the_release(name):
    golden = pd.read_csv(GOLDEN).query("weights == @name")
    base, ages = ages_of(name)
    assert len(golden) == len(ages) == 7
    np.testing.assert_allclose(base, golden["base_age"], atol=1e-4)
    np.testing.assert_allclose(ages, golden["age"], atol=1e-4)


if __name__ == "__main__":
    rows = []
    for released in RELEASED:
        for face, (base_age, age) in enumerate(zip(*ages_of(released), strict=True)):
            rows.append({"weights": released, "face": face, "base_age": f"{base_age:.5f}", "age": f"{age:.5f}"})
    pd.DataFrame(rows).to_csv(GOLDEN, index=False)
