"""What a weigher learns from: the answers that a bank's neurons consider for rows whose answers are known.

Each question is asked three times: of the whole bank, as a user does; of its own document alone; and of the bank
without that document, which cannot answer it. Not here: learning from them (tasks/weighing.py).

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
    model: Model,
    rows: Sequence[Row],
    progress: Callable[[int, int], object] = lambda done, total: None,
    seen: bool = False,
) -> list[Choice]:
    """Three choices for every row with an answer and a relevant document that the bank holds. Raises UsageError.

    `seen`: an adapter was trained on these documents.
    """
    held = {document.id for document in model.bank.documents()} if model.bank else set()
    gold = [next((doc.id for doc in row.docs if doc.relevant and doc.id in held), None) for row in rows]
    known = [(row, name) for row, name in zip(rows, gold, strict=True) if name and row.answers]
    if not known:
        raise UsageError("none of the rows has a document that is labelled relevant and in the bank")
    free = AnswerOptions(check_conflicts=False)
    made: list[Choice] = []
    for at in range(0, len(known), BATCH):
        part = known[at : at + BATCH]
        asked = (
            (True, [free] * len(part)),
            (True, [replace(free, force=((name, 1.0),)) for _, name in part]),
            (False, [replace(free, without=(name,)) for _, name in part]),
        )
        for there, options in asked:
            told = model.considered([row.question for row, _ in part], options)
            for (row, name), one, (found, score) in zip(part, options, told, strict=True):
                right = tuple(there and bool(match(each.text, row.answers)) for each in found)
                free_score = None if one.force else score
                made.append(Choice(tuple(each.told for each in found), right, name, there, free_score, seen))
        progress(min(at + BATCH, len(known)), len(known))
    return made
