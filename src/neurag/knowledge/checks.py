"""Checks: questions whether something is so, made of a passage's own sentences without a forward pass.

    "The mill opened in 1987. It burned in 1923."  ->  "Is it true that the mill opened in 1987?"  yes
                                                       "Is it true that the mill opened in 1923?"  no

The wrong value is another possible answer of the same kind in the passage, so the two differ in nothing but what is
said. Not here: questions for the value itself (echoes.py, questions.py).

    >>> mill = Candidate("1987", "The mill opened in 1987.", "number")
    >>> checks([mill, Candidate("1923", "It burned in 1923.", "number")], most=1, around=9)
    {'Is it true that the mill opened in 1987?': 'yes', 'Is it true that the mill opened in 1923?': 'no'}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from ..words import words
from .candidates import CAPITAL, Candidate
from .echoes import points_back, said_around
from .phrases import words_of

ASKED = "Is it true that {}?"


def checks(found: Sequence[Candidate], most: int, around: int) -> dict[str, str]:
    """For up to `most` candidates, the likeliest first, a question whose answer is "yes" and one whose is "no".

    Both are about the same words, so that only the value tells which it is.
    """
    made: dict[str, str] = {}
    for candidate, other in islice(_paired(found), most):
        for told, answer in ((candidate.answer, "yes"), (other.answer, "no")):
            made.setdefault(ASKED.format(_inside(said_around(candidate, around, told))), answer)
    return made


def _paired(found: Sequence[Candidate]) -> Iterator[tuple[Candidate, Candidate]]:
    """Candidates in sentences that stand by themselves, each with the next one of its kind that says something else."""
    for n, candidate in enumerate(found):
        if candidate.kind == "tail" or points_back(candidate.sentence):
            continue
        own = words(candidate.sentence)
        for other in (*found[n + 1 :], *found[:n]):
            if other.kind == candidate.kind and not set(words(other.answer)) & set(own):
                yield candidate, other
                break


def _inside(sentence: str) -> str:
    """A sentence as part of another: its first word without its capital, unless it is a name's."""
    first = words_of(sentence)[:1]
    return sentence if not first or first[0].kind in CAPITAL else sentence[0].lower() + sentence[1:]
