"""Precision, recall and F1 of decisions: whether to abstain, and which documents to cite.

Not here: whether an answer's text is right (metrics.py), and how sure a rate is (statistics.py).
A rate without anything to count is None, not 0: it would pull an average down for no fault.

    >>> abstention([(True, False), (True, True), (False, False), (False, True)])
    Rates(precision=0.5, recall=0.5, f1=0.5)
    >>> citation(["d1", "d2"], {"d1"})
    (0.5, 1.0)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """Shares, 0..1, or None where there is nothing to count."""

    precision: float | None
    """Right ones among those predicted; None where nothing was predicted."""
    recall: float | None
    """Found ones among those that are so; None where there are none."""
    f1: float | None
    """Harmonic mean of both; None only where both counts are 0."""


def rates(true_positive: int, predicted: int, actual: int) -> Rates:
    """Return the rates from three counts (van Rijsbergen 1979); `true_positive` is part of both others."""
    return Rates(
        _share(true_positive, predicted), _share(true_positive, actual), _share(2 * true_positive, predicted + actual)
    )


def abstention(pairs: Iterable[tuple[bool, bool]]) -> Rates:
    """Return how well abstaining falls on the unanswerable questions.

    Each question is (abstained, answerable); positive is abstaining where the question is unanswerable. These are
    abstention precision, recall and F1 as in the survey of Wen et al. 2025 (TACL 13).
    """
    seen = list(pairs)
    hits = sum(abstained and not answerable for abstained, answerable in seen)
    return rates(hits, sum(abstained for abstained, _ in seen), sum(not answerable for _, answerable in seen))


def citation(cited: Sequence[str], gold: Collection[str]) -> tuple[float | None, float | None]:
    """Return one question's (precision, recall) of the cited document ids; a document cited twice counts once.

    As HotpotQA scores supporting facts (Yang et al. 2018), on documents. Unlike ALCE (Gao et al. 2023) it does not
    ask whether a document entails the sentence that cites it. Without gold ids both are None; with nothing cited
    precision is None and recall 0.
    """
    if not gold:
        return None, None
    told = rates(len(set(cited) & set(gold)), len(set(cited)), len(set(gold)))
    return told.precision, told.recall


def recall_at(ranked: Sequence[str], gold: Collection[str], k: int) -> float:
    """Return the share of a question's gold documents (at least one) among the first k."""
    return len(set(ranked[:k]) & set(gold)) / len(set(gold))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
