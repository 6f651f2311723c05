"""Sentences asked back: the words around a possible answer, with a question word in the answer's place.

    "The mill opened in 1987."  ->  "The mill opened in what number?"

It costs no forward pass, and its answer is never wrong. Its wording is unlike a person's; a task adapter can teach the
backbone to see the two as alike (tasks/matching.py). A sentence that begins with "she" or "this" says nothing without
the one before it, so that one is told first: what takes two sentences to know. Not here: which answers are asked for
(candidates.py), whether something is so (checks.py).

    >>> ask_back(Candidate("Ilse Maranth", "The mill is run by Ilse Maranth.", "name"), around=40)
    'The mill is run by who or what?'
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .candidates import Candidate
from .phrases import words_of

LETTERS = 10
"""Characters kept for each word kept on a side of the answer: scripts without spaces are cut, too."""
NEARLY = 1.0
"""Log odds by which the longer of two answers may be the less likely one."""
POINTING = frozenset({"pron", "poss"})
"""Kinds of such words."""
OPENINGS = {"date": "what date", "name": "who or what", "number": "what number"}


def ask_back(candidate: Candidate, around: int, earlier: str = "") -> str:
    """The candidate's sentence as a question for the candidate, with up to `around` words on each side of it.

    `earlier` is the sentence before; it is told first where the question begins with a word that points there.
    """
    asked = f"{said_around(candidate, around, _opening(candidate))}?"
    asked = asked[0].upper() + asked[1:]
    if not (earlier and points_back(candidate.sentence) and asked.split()[0] == candidate.sentence.split()[0]):
        return asked
    told = " ".join(earlier.split()[:around])[: LETTERS * around].rstrip(".!?,; ")
    return f"{told}. {asked}"


def said_around(candidate: Candidate, around: int, place: str) -> str:
    """The candidate's sentence with `place` where it stands, and up to `around` words on each side."""
    at = place_of(candidate.answer, candidate.sentence)
    before, after = candidate.sentence[:at], candidate.sentence[at + len(candidate.answer) :].rstrip(".!? ")
    gap = before[len(before.rstrip()) :][:1], after[: len(after) - len(after.lstrip())][:1]
    left = " ".join(before.split()[-around:])[-LETTERS * around :]
    right = " ".join(after.split()[:around])[: LETTERS * around]
    return f"{left}{gap[0]}{place}{gap[1]}{right}"


def points_back(sentence: str) -> bool:
    """Whether a sentence begins with a word that stands for something of the one before: she, its, this."""
    return any(word.kind in POINTING for word in words_of(sentence)[:1])


def apart(found: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that share no words, in their order: the longer of two where people ask for it about as often.

    A neuron that learned "third" as well as "third generation" says "third" and stops.
    """
    runs = [(c.sentence, (start := place_of(c.answer, c.sentence)), start + len(c.answer)) for c in found]

    def held(n: int) -> bool:
        sentence, start, end = runs[n]
        return any(
            sentence == other and first <= start and end <= last and (first, last) != (start, end)
            for (other, first, last), c in zip(runs, found, strict=True)
            if c.score >= found[n].score - NEARLY
        )

    kept: list[int] = []
    for n in sorted((n for n in range(len(found)) if not held(n)), key=lambda n: -found[n].score):
        sentence, start, end = runs[n]
        if not any(runs[k][0] == sentence and runs[k][1] < end and start < runs[k][2] for k in kept):
            kept.append(n)
    return [found[n] for n in sorted(kept)]


def place_of(answer: str, sentence: str) -> int:
    """Where an answer begins in a sentence: as whole words if it stands there so, else anywhere; -1 if nowhere."""
    found = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", sentence)
    return found.start() if found else sentence.find(answer)


def _opening(candidate: Candidate) -> str:
    first, *counted = candidate.answer.split()
    if candidate.kind == "number" and first[0].isdigit() and counted:
        return f"how many {' '.join(counted)}"
    return OPENINGS.get(candidate.kind, "what")
