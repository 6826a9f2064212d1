"""Ages that contradict the base: which photos of a bank lie far from what its other photos say."""

import numpy as np

FEW = 5  # below so many photos there is no line, and the base's own estimates are what ages are compared with
GROSS = 25.0  # years from the line; further away it is the age that is wrong, not the estimate
NOTABLE = 15.0  # years; named, but kept
BIAS = 15.0  # years that a bank's line may lie from the base's estimates
OTHERS = 100  # photos that each line is fitted to, at most


def departures(ages: np.ndarray, estimates: np.ndarray) -> np.ndarray:
    """How far each age lies above the line of the other photos, [N] float years; from ages and base estimates [N].

    The line of true age on estimate is that of Theil and Sen (median slope, median offset), which wrong ages cannot
    turn while they are few. It lies BIAS years from the estimate at most, because a bank most of whose ages are wrong
    would otherwise call the right ones so. People over 75, whom the base takes for ten years younger, are on it.
    """
    ages, estimates = np.asarray(ages, float), np.asarray(estimates, float)
    if len(ages) < FEW:
        return ages - estimates
    order = np.random.default_rng(0).permutation(len(ages))[: OTHERS + 1]
    expected = np.array([_line(ages, estimates, order[order != row][:OTHERS], row) for row in range(len(ages))])
    return ages - estimates - np.clip(expected - estimates, -BIAS, BIAS)


def _line(ages: np.ndarray, estimates: np.ndarray, others: np.ndarray, row: int) -> float:
    """Age in years that the photos `others` [M] rows expect at the estimate of photo `row`."""
    first, second = np.triu_indices(len(others), 1)
    run = estimates[others][second] - estimates[others][first]
    rise = ages[others][second] - ages[others][first]
    apart = np.abs(run) > 1e-3
    slope = float(np.median(rise[apart] / run[apart])) if apart.any() else 1.0
    return slope * estimates[row] + float(np.median(ages[others] - slope * estimates[others]))


def notable(departure: np.ndarray) -> np.ndarray:
    """Mask [N] bool of departures [N] (years) that stand out of the others and exceed NOTABLE."""
    spread = 1.4826 * float(np.median(np.abs(departure - np.median(departure))))
    return np.abs(departure) > max(NOTABLE, 3 * spread)
