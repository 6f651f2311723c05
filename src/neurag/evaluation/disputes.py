"""The questions at which systems disagree, the most instructive first.

Not here: how they are shown (`page.py`). Where a question has no accepted answers, nobody is right or wrong, and
there is nothing to disagree about.

    for dispute in disputes(result):
        print(dispute.question.question, dispute.right, dispute.wrong)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from .report import family, role
from .results import Judged, Question, Result


@dataclass(frozen=True)
class Dispute:
    """A question that some systems answered rightly and others wrongly."""

    question: Question
    answers: Mapping[str, Judged]
    """By system, controls included."""
    right: tuple[str, ...]
    """Controls are neither here nor in `wrong`."""
    wrong: tuple[str, ...]


def disputes(result: Result) -> list[Dispute]:
    """Find the questions where at least two systems that are no controls differ; with fewer such systems, any two.

    First come those where NeuRAG and RAG are furthest apart, then those that part the systems most evenly, then
    the order of the questions.
    """
    answers: dict[str, dict[str, Judged]] = {}
    for answer in result.answers:
        answers.setdefault(answer.id, {})[answer.system] = answer
    names = dict.fromkeys(answer.system for answer in result.answers)
    compared = [name for name in names if role(name) != "control"]
    told = {question.id: question for question in result.questions}
    found = []
    for id, given in answers.items():
        judged = {name: given[name].correct for name in (compared if len(compared) > 1 else names) if name in given}
        right, wrong = (tuple(name for name, correct in judged.items() if correct is side) for side in (True, False))
        if right and wrong:
            found.append(Dispute(told.get(id, Question(id, id, (), ())), given, right, wrong))
    return sorted(found, key=lambda one: (-_gap(one), -min(len(one.right), len(one.wrong))))


def _gap(dispute: Dispute) -> float:
    """How far NeuRAG and RAG are apart, 0..1: at 1 all of one are right and all of the other wrong."""
    sides = [_of_family(dispute, name) for name in ("neurag", "rag")]
    return abs(fmean(sides[0]) - fmean(sides[1])) if all(sides) else 0.0


def _of_family(dispute: Dispute, wanted: str) -> Sequence[bool]:
    judged = {**dict.fromkeys(dispute.right, True), **dict.fromkeys(dispute.wrong, False)}
    return [right for name, right in judged.items() if family(name) == wanted and role(name) == "compared"]
