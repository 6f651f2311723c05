"""Telling questions that a bank can answer from those it cannot, by one score: how well, and at which threshold.

A question counts as one to abstain from where its score is below the threshold. Not here: scores (hyper_layer.py).

    >>> auc([0.9, 0.8], [0.1, 0.8])
    0.875
    >>> f1(best_threshold([0.9, 0.8], [0.1, 0.2]), [0.9, 0.8], [0.1, 0.2])
    1.0
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def auc(present: Sequence[float], absent: Sequence[float]) -> float:
    """Share of pairs in which the answerable question's score is the higher one; equal ones count half."""
    high, low = np.array(present)[:, None], np.array(absent)[None]
    return float(((high > low) + 0.5 * (high == low)).mean())


def f1(threshold: float, present: Sequence[float], absent: Sequence[float]) -> float:
    """Harmonic mean of precision and recall of abstaining below the threshold."""
    right = sum(score < threshold for score in absent)
    wrong = sum(score < threshold for score in present)
    return 2 * right / (right + wrong + len(absent))


def best_threshold(present: Sequence[float], absent: Sequence[float]) -> float:
    """The score with the highest F1; the lowest of several."""
    return max(sorted({*present, *absent, float("inf")}), key=lambda score: f1(score, present, absent))


def crossed_f1(present: Sequence[float], absent: Sequence[float]) -> float:
    """F1 with the threshold of each half of the questions used on the other half; pooled over both."""
    right = wrong = 0
    for half in (0, 1):
        picked = best_threshold(present[1 - half :: 2], absent[1 - half :: 2])
        right += sum(score < picked for score in absent[half::2])
        wrong += sum(score < picked for score in present[half::2])
    return 2 * right / (right + wrong + len(absent))
