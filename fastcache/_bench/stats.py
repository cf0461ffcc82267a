"""The statistics: paired ratios per round, medians, and a bootstrap interval of the median."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
_SEED = 12345


def median(values: Sequence[float]) -> float:
    """Return the median of at least one value."""
    return float(np.median(np.asarray(values, dtype=np.float64)))


def paired_ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return ours / theirs, round by round; rounds in which either is not positive are left out.

    A net time can come out at or below zero when the statement costs less than the noise of the
    empty loop that was subtracted; no ratio says anything there.
    """
    return [a / b for a, b in zip(ours, theirs, strict=False) if a > 0 and b > 0]


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return a bootstrap percentile interval of the median (the one value itself if it is alone).

    Deterministic: the resampling is seeded.
    """
    sample = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(_SEED)
    picks = rng.integers(0, len(sample), size=(RESAMPLES, len(sample)))
    medians = np.median(sample[picks], axis=1)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(medians, [tail, 1.0 - tail])
    return float(low), float(high)


def relative_spread(values: Sequence[float]) -> float:
    """Return the median absolute deviation from the median, relative to the median."""
    sample = np.asarray(values, dtype=np.float64)
    middle = float(np.median(sample))
    if middle == 0.0:
        return 0.0
    return float(np.median(np.abs(sample - middle))) / abs(middle)
