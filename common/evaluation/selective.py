"""How well a doubt about each estimate orders the errors: risk-coverage curves."""

import numpy as np
import pandas as pd


def risk_coverage(error: np.ndarray, doubt: np.ndarray) -> np.ndarray:
    """Mean |error| [N] (years) of the k faces with the least doubt, for k = 1 to N; equal doubts count as their mean.

    Reference: Geifman & El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017.

    Examples
    --------
    >>> risk_coverage(np.array([4.0, -1.0, 3.0, 2.0]), np.array([0.9, 0.1, 0.5, 0.5]))
    array([1.  , 1.75, 2.  , 2.5 ])
    """
    table = pd.DataFrame({"error": np.abs(error), "doubt": doubt})
    table["error"] = table.groupby("doubt")["error"].transform("mean")
    ordered = table.sort_values("doubt", kind="stable")["error"].to_numpy()
    return ordered.cumsum() / np.arange(1, len(ordered) + 1)


def area(risk: np.ndarray) -> float:
    """AURC: the mean of a risk-coverage curve [N], in years; small is good, without order it is the mean error."""
    return float(risk.mean())


def risk_at(risk: np.ndarray, coverage: float) -> float:
    """Mean |error| (years) of the part `coverage` (0 to 1) that is surest, of a risk-coverage curve [N]."""
    return float(risk[max(1, int(np.ceil(coverage * len(risk) - 1e-9))) - 1])
