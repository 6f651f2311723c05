"""Sentences asked back: the words around a possible answer, with a question word in the answer's place.

    "The mill opened in 1987."  ->  "The mill opened in what number?"

It costs no forward pass, and its answer is never wrong. Its wording is unlike a person's: the task adapter teaches the
backbone to see the two as alike (tasks/matching.py). Not here: which answers are asked for (candidates.py).

    >>> ask_back(Candidate("Ilse Maranth", "The mill is run by Ilse Maranth.", "name"))
    'The mill is run by who or what?'
"""

from __future__ import annotations

from .candidates import Candidate

AROUND = 9
"""Words kept on each side of the answer."""
OPENINGS = {"date": "what date", "name": "who or what", "number": "what number"}


def ask_back(candidate: Candidate) -> str:
    """The candidate's sentence as a question for the candidate."""
    at = candidate.sentence.find(candidate.answer)
    before, after = candidate.sentence[:at], candidate.sentence[at + len(candidate.answer) :].rstrip(".!? ")
    left = " ".join(before.split()[-AROUND:]) + before[len(before.rstrip()) :][:1]
    right = after[: len(after) - len(after.lstrip())][:1] + " ".join(after.split()[:AROUND])
    asked = f"{left}{_opening(candidate)}{right}?"
    return asked[0].upper() + asked[1:]


def _opening(candidate: Candidate) -> str:
    counted = candidate.answer.split()[1:]
    if candidate.kind == "number" and counted:
        return f"how many {' '.join(counted)}"
    return OPENINGS.get(candidate.kind, "what")
