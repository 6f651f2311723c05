"""Does a bank know when it cannot answer? Each question asked with its document in the bank, and without.

Neurons are chosen by routing, as for a user. abstention_f1: of abstaining where the document was missing, over both
(docs/metrics.md); answered_loss: questions that were answered rightly and did not count; noticed: of the missing
documents. Not here: the passages and their neurons (knowledge.py), the score of routing alone (null.py).

    >>> figures([Told(True, 0.9, False, True), Told(False, 0.1, True, False)])["abstention_f1"]
    1.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from common import tracked
from neurag.config import BATCH, AnswerOptions
from neurag.evaluation.metrics import match
from neurag.evaluation.rates import abstention
from neurag.model import Model

BINS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.01)


@dataclass(frozen=True)
class Told:
    """What came of a question."""

    there: bool
    """Whether its document was in the bank."""
    confidence: float | None
    abstained: bool
    right: bool


def ask(model: Model, rows: Sequence[Mapping[str, Any]]) -> list[Told]:
    """Every question with its document and without it."""
    made: list[Told] = []
    for group in tracked([rows[at : at + BATCH] for at in range(0, len(rows), BATCH)], "with and without"):
        for there in (True, False):
            hidden = [() if there else tuple(doc["id"] for doc in row["docs"]) for row in group]
            options = [AnswerOptions(without=names, check_conflicts=False) for names in hidden]
            for row, answer in zip(group, model.answers([row["question"] for row in group], options), strict=True):
                right = there and bool(match(answer.answer, row["answers"]))
                made.append(Told(there, answer.confidence, answer.abstained, right))
    return made


def figures(told: Sequence[Told]) -> dict[str, float]:
    """routed (match with the document there, whatever counts), abstention_f1, answered_loss and noticed."""
    here, absent = ([one for one in told if one.there is kind] for kind in (True, False))
    return {
        "routed": sum(one.right for one in here) / len(here),
        "abstention_f1": abstention((one.abstained, one.there) for one in told).f1 or 0.0,
        "answered_loss": sum(one.right and one.abstained for one in here) / len(here),
        "noticed": sum(one.abstained for one in absent) / len(absent),
    }


def reliability(told: Sequence[Told]) -> list[dict[str, float]]:
    """By confidence: how many answers there were, how sure on average, and which share was right."""
    made = []
    weighed = [(one.confidence, one.right) for one in told if one.confidence is not None]
    for low, high in pairwise(BINS):
        own = [(sure, right) for sure, right in weighed if low <= sure < high]
        if own:
            sure, right = (sum(values) / len(own) for values in zip(*own, strict=True))
            made.append({"from": low, "answers": len(own), "confidence": round(sure, 3), "right": round(right, 3)})
    return made
