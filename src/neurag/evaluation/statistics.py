"""Is a difference more than chance? Paired intervals and tests over questions, and one line that tells the result.

Not here: the metrics themselves, and anything between different sets of questions: all pairs share their questions.
Randomness comes from the seed alone, so the same values give the same figures.

    >>> scores = {"q1": 1.0, "q2": 0.0, "q3": 1.0}
    >>> compare("ours", scores, "theirs", scores, "match").verdict()
    'ours - theirs: +0.0 [0.0, 0.0], n=3 (p=1.000), no clear difference'
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

_CELLS = 1 << 22
"""Random numbers held at once, so that memory does not grow with the questions."""

_ROUNDING = 1e-12
"""Sums of the same values in another order differ by less than this share of their size."""


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """System a against system b on the questions both answered; the metric is a share, 0..1."""

    a: str
    b: str
    metric: str
    difference: float
    """Mean of a - b."""
    low: float
    high: float
    """95% bootstrap interval of the difference."""
    p: float
    """Two-sided; where several pairs are told together, put the one that `holm` adjusted here."""
    n: int
    """Questions compared."""

    def verdict(self) -> str:
        """Return the pair as a line, in percentage points.

        "No clear difference" where the interval holds 0, or where p is 0.05 or more: with few questions a
        bootstrap interval is too narrow, and the exact test is not.
        """
        if not self.n:
            return f"{self.a} - {self.b}: no questions in common"
        # adding 0.0 turns -0.0 into 0.0
        mean, low, high = (round(100 * share, 1) + 0.0 for share in (self.difference, self.low, self.high))
        p = "p<0.001" if self.p < 0.001 else f"p={self.p:.3f}"
        line = f"{self.a} - {self.b}: {mean:+.1f} [{low:.1f}, {high:.1f}], n={self.n} ({p})"
        return line if clear(self.low, self.high, self.p) else line + ", no clear difference"


def clear(low: float, high: float, p: float) -> bool:
    """Whether two systems can be told apart: the interval does not hold 0, and p, where known, is below 0.05."""
    return (low > 0 or high < 0) and not p >= 0.05


def bootstrap(differences: npt.ArrayLike, samples: int = 10_000, seed: int = 0, level: float = 0.95) -> Interval:
    """Return the percentile bootstrap interval (Efron 1979) of the mean of per-question differences, shape [n].

    Fewer than two values say nothing about their spread: the interval is then everything, around the value or 0.

    Raises:
        ValueError: a difference is not finite, or they are not one row of values.
    """
    values = _row(differences)
    if len(values) < 2:
        return Interval(float(values.sum()), -math.inf, math.inf)
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=size)].mean(axis=1) for size in _chunks(samples, len(values))]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def mcnemar(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the exact two-sided p of McNemar's test (1947) for two rows of right/wrong, both of shape [n].

    Where nothing differed but chance, the questions that only one system has right would be coin tosses. 1.0 where
    there are none.

    Raises:
        ValueError: the rows have different lengths.
    """
    right_a, right_b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if right_a.shape != right_b.shape:
        raise ValueError(f"mcnemar needs the same questions for both: got {right_a.size} and {right_b.size}")
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    tosses = only_a + only_b
    # whole numbers of any length: neither overflow nor rounding, however many tosses
    ways = tail = 1
    for heads in range(min(only_a, only_b)):
        ways = ways * (tosses - heads) // (heads + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << tosses))


def paired_p(differences: npt.ArrayLike, draws: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p of the mean difference, shape [n], by random sign flips (Fisher 1935).

    The share of draws at least as far from 0 as the data, the data counted as one draw (Phipson and Smyth 2010),
    so that p is never 0. 1.0 where nothing differs.

    Raises:
        ValueError: a difference is not finite, or they are not one row of values.
    """
    values = _row(differences)
    sizes = np.abs(values[values != 0])
    if not len(sizes):
        return 1.0
    rng = np.random.default_rng(seed)
    total = sizes.sum()
    reached = abs(values.sum()) - _ROUNDING * total
    further = 0
    for size in _chunks(draws, len(sizes)):
        kept = rng.integers(2, size=size, dtype=np.int8) @ sizes
        further += int((np.abs(2 * kept - total) >= reached).sum())
    return (further + 1) / (draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values adjusted for being told together (Holm 1979), in the order given, at most 1."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the (low, high) score interval of a share (Wilson 1927); (0, 1) where n is 0.

    Raises:
        ValueError: successes is not within 0..n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"wilson needs 0 <= successes <= n: got {successes} of {n}")
    if not n:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, spread = successes / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    # at 0 and n the formula gives exactly 0 and 1, its rounding does not
    return (middle - half if successes else 0.0), (middle + half if successes < n else 1.0)


def compare(
    a_name: str, a: Mapping[str, float], b_name: str, b: Mapping[str, float], metric: str, seed: int = 0
) -> Pair:
    """Return how a stands against b, from values (0..1) by question id; ids that only one has are left out.

    p is McNemar's where all values are 0 or 1, else from sign flips.

    Raises:
        ValueError: a value is not finite.
    """
    # sorted, so that the order in which questions were answered changes nothing
    ids = sorted(a.keys() & b.keys())
    left, right = _row([a[i] for i in ids]), _row([b[i] for i in ids])
    interval = bootstrap(left - right, seed=seed)
    binary = np.isin(np.concatenate([left, right]), (0, 1)).all()
    p = mcnemar(left, right) if binary else paired_p(left - right, seed=seed)
    return Pair(a_name, b_name, metric, interval.mean, interval.low, interval.high, p, len(ids))


def _row(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    row = np.asarray(values, dtype=np.float64)
    if row.ndim != 1 or not np.isfinite(row).all():
        raise ValueError("a comparison needs one finite value for each question")
    return row


def _chunks(rows: int, n: int) -> Iterator[tuple[int, int]]:
    """Yield shapes of at most _CELLS cells, or one row, that make up [rows, n]."""
    step = max(1, _CELLS // n)
    for start in range(0, rows, step):
        yield min(step, rows - start), n
