"""Coverage: how much of what people may ask about a text its lessons answer.

An estimate from the text alone, by the weights that find possible answers (candidates.py). Not here: whether a lesson
is learned, or found by another wording (benchmarks/knowledge.py asks what people asked).

    >>> round(coverage("The mill opened in Oskerby on 9 April 1987.", ["9 April 1987"]), 1)
    0.7
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ..words import overlap, words
from .candidates import Passage

COVERS = 0.5
"""Share of words (F1) from which on an answer covers a phrase."""


def coverage(text: str, answers: Iterable[str]) -> float:
    """The share, 0..1, of what may be asked that is answered; 0 where nothing in the text looks like an answer.

    Every phrase counts by the chance that somebody asks for it; an answer that shares half of its words covers it.
    """
    passage = Passage(text)
    told = [words(answer) for answer in answers]
    total = covered = 0.0
    for span in {passage.key(span): span for span in passage.spans}.values():
        wanted = words(passage.answer(span))
        if not wanted:  # only marks
            continue
        chance = 1 / (1 + math.exp(-passage.score(span)))
        total += chance
        covered += chance * covers(told, wanted)
    return covered / total if total else 0.0


def covers(told: Iterable[Sequence[str]], wanted: Sequence[str]) -> bool:
    """Whether one of the answers, as words, shares enough of them with the wanted one."""
    return any(overlap(one, wanted) >= COVERS for one in told)
