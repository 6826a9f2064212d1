"""Markdown tables and the figures in their cells."""

import numpy as np

from common.evaluation.tables import error_figures, markdown, or_dash, signed_gain, with_interval


def test_markdown_escapes_bars_and_takes_whatever_str_writes():
    lines = markdown(["set|split", 5], [["a|b|", np.int64(3)], ["\\", None]])
    assert lines == ["| set\\|split | 5 |", "|---|---|", "| a\\|b\\| | 3 |", "| \\ | None |"]
    assert markdown(["alone"], iter([])) == ["| alone |", "|---|"]


def test_figures_and_their_intervals():
    assert [or_dash(value, "+.1f") for value in (2.04, -0.04, None, np.nan)] == ["+2.0", "-0.0", "–", "–"]
    assert with_interval(5.124, 4.9, 5.336) == "5.12 [4.90, 5.34]"
    assert with_interval(0.5, -1, 2, "+.1f") == "+0.5 [-1.0, +2.0]"
    assert with_interval(5.124, np.nan, np.nan) == "5.12" and with_interval(np.nan, 1, 2) == "–"
    assert signed_gain(gain=0.1234, low=-0.01, high=0.2) == "+0.123 (-0.010 to +0.200)"
    assert signed_gain(0.1234, -0.01, 0.2, digits=2) == "+0.12 (-0.01 to +0.20)" and signed_gain(*[np.nan] * 3) == "–"
    assert error_figures(np.array([-6.0, 5.0, 2.5])) == ["4.500", "66.7", "+0.50"]
