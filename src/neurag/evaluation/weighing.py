"""What a weigher learns from: the answers that a bank's neurons consider for rows whose answers are known.

Each question is asked twice: of the whole bank, as a user does, and of its own document alone. Not here: learning from
them (tasks/weighing.py).

    >>> choices(model, rows)[0].right                     # doctest: +SKIP
    (False, True, False)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..config import BATCH, AnswerOptions, UsageError
from ..model import Model
from ..tasks.weighing import Choice
from .data import Row
from .metrics import match


def choices(
    model: Model, rows: Sequence[Row], progress: Callable[[int, int], object] = lambda done, total: None
) -> list[Choice]:
    """Two choices for every row with an answer and a relevant document that the bank holds. Raises UsageError."""
    held = {document.id for document in model.bank.documents()} if model.bank else set()
    gold = [next((doc.id for doc in row.docs if doc.relevant and doc.id in held), None) for row in rows]
    known = [(row, name) for row, name in zip(rows, gold, strict=True) if name and row.answers]
    if not known:
        raise UsageError("none of the rows has a document that is labelled relevant and in the bank")
    free = AnswerOptions(check_conflicts=False)
    made: list[Choice] = []
    for at in range(0, len(known), BATCH):
        part = known[at : at + BATCH]
        questions = [row.question for row, _ in part]
        for options in ([free] * len(part), [replace(free, force=((name, 1.0),)) for _, name in part]):
            for (row, name), found in zip(part, model.considered(questions, options), strict=True):
                right = tuple(bool(match(one.text, row.answers)) for one in found)
                made.append(Choice(tuple(one.told for one in found), right, name))
        progress(min(at + BATCH, len(known)), len(known))
    return made
