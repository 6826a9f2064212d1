"""Pictures of results say what the table says."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from common.inference import drawings


@pytest.fixture
def written(monkeypatch):
    """The texts in the pictures that are drawn, in order."""
    texts = []

    def look(figure, path):
        for axis in figure.axes:
            legend = axis.get_legend()
            texts.extend(text.get_text() for text in [*axis.texts, *(legend.get_texts() if legend else [])])
        pyplot.close(figure)

    monkeypatch.setattr(drawings, "save_figure", look)
    return texts


@pytest.mark.parametrize(("interval", "said"), [((31.4, 50.6), True), ((np.nan, np.nan), False)])
def test_the_votes_are_drawn_with_the_interval_that_was_asked_for(written, tmp_path, interval, said):
    votes = pd.DataFrame({"age": [40.0, 44.0], "vote": [41.0, 42.0], "weight": [0.7, 0.3]})
    marks = {"base": 39.0, "corrected": 41.3}
    drawings.draw_votes(np.zeros((16, 16, 3), np.uint8), votes, marks, interval, tmp_path / "a.png")
    assert "base 39.0" in written and "corrected 41.3" in written
    assert ("interval 31 to 51" in written) == said


def test_a_photo_is_drawn_with_ages_and_intervals(written, tmp_path):
    faces = pd.DataFrame(
        {
            "box": ["1 1 5 5", "6 1 9 5"],
            "age": [41.3, 7.6],
            "interval_low": [31.4, np.nan],
            "interval_high": [50.6, np.nan],
        }
    )
    drawings.draw_photo(np.zeros((12, 12, 3), np.uint8), faces, tmp_path / "a.png")
    assert written == ["41 years (31 to 51)", "8 years"]
