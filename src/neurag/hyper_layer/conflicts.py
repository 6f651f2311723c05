"""Conflicts: which rows are versions of the same thing, which of them speaks, and whether they disagree.

Two rows compete when what they match of the question in common is nearly all that either matches; with s_ti the share
of the score that row i gets from token t,

    sum_t min(s_ti, s_tj) >= c max(S_i, S_j)          c: `RouteOptions.competing`

A policy lets one of them speak by what its document is known to be: the newest, the most trusted, or all of them
(`settle`). Whether they disagree is asked of the model: each answers alone, and `sides` sorts the answers by their
words. Not here: the decoding of those answers (model.py), contradictions inside one document.

    >>> [side.answer for side in sides(["13:40", "At 14:00", "at 13:40."], [old, new, copy])]    # doctest: +SKIP
    ['13:40', 'At 14:00']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from ..answer import Conflict, Side, Source, declines
from ..config import Policy, UsageError
from ..words import holds, overlap, words

SIDES = 4
"""Documents that are asked alone, at most: those that match best."""

Standing = Mapping[int, Any]
"""What a policy compares, by place; a row that it knows nothing of is not there."""


def known_policy(name: str) -> None:
    """Raise UsageError for a policy that is none."""
    if name not in get_args(Policy):
        raise UsageError(f"there is no policy {name!r} on conflicts: choose among {', '.join(get_args(Policy))}")


def competing(shares: np.ndarray, place: int, share: float) -> np.ndarray:
    """Places of the columns of `shares` [T, M] that compete with one of them, itself among them, if it matches at all.

    `share` is c.
    """
    common = np.minimum(shares, shares[:, place, None]).sum(0)
    totals = shares.sum(0)
    found: np.ndarray = np.flatnonzero((common > 0) & (common >= share * np.maximum(totals, totals[place])))
    return found


def settle(chosen: Sequence[int], shares: np.ndarray, standing: Standing, share: float) -> list[int]:
    """Of `chosen` columns of `shares` [T, M] that compete, keep those of the highest standing.

    The winner stands where the first one that it beats stood. Equal standings leave each other alone, and so does who
    has none.
    """
    place = {c: n for n, c in enumerate(chosen)}
    own = shares[:, list(chosen)]
    dropped: set[int] = set()
    for better in sorted((c for c in chosen if c in standing), key=standing.__getitem__, reverse=True):
        if better in dropped:
            continue
        for worse in (chosen[n] for n in competing(own, chosen.index(better), share)):
            if worse not in dropped and worse in standing and standing[worse] < standing[better]:
                dropped.add(worse)
                place[better] = min(place[better], place[worse])
    return sorted((c for c in chosen if c not in dropped), key=place.__getitem__)


def sides(answers: Sequence[str], sources: Sequence[Source]) -> list[Side]:
    """What each document says alone, those that agree together, in the order in which they come.

    Answers agree when they have the same normalised words, or one holds the other ("13:40", "at 13:40 sharp"). Who
    says nothing, or that it is not stated, is on no side.
    """
    found: list[Side] = []
    for answer, source in zip(answers, sources, strict=True):
        if not words(answer) or declines(answer):
            continue
        for place, side in enumerate(found):
            if agree(side.answer, answer):
                found[place] = replace(side, documents=(*side.documents, source))
                break
        else:
            found.append(Side(answer, (source,)))
    return found


def agree(one: str, other: str) -> bool:
    """Whether two answers say the same, as `sides` has it.

    >>> agree("May 5, 2012", "5 May 2012"), agree("Ada", "Ada Brindle"), agree("13:40", "14:00")
    (True, True, False)
    """
    a, b = words(one), words(other)
    return overlap(a, b) == 1 or holds(a, b) or holds(b, a)


def stated(answer: str, text: str) -> bool:
    """Whether a document's own text has the words of its answer: an answer that a neuron made up is no side.

    >>> stated("at 13:40", "The tour begins at 13:40."), stated("Monday", "The tour begins at 13:40.")
    (True, False)
    """
    return holds(words(text), words(answer))


def conflict(answers: Sequence[str], sources: Sequence[Source], given: str, policy: Policy) -> Conflict | None:
    """The conflict between documents that answer alone, or None when fewer than two sides are left.

    `sources` begins with the document that leads the choice, `given` is the answer that was given. The side followed
    is the one that agrees with it; where none does and only one side was let speak, it is that of the leading document.
    """
    found = sides(answers, sources)
    if len(found) < 2:
        return None
    followed = next((side for side in found if words(given) and agree(side.answer, given)), None)
    if followed is None and policy != "all":
        followed = next((side for side in found if sources[0] in side.documents), None)
    return Conflict(policy, tuple(replace(side, followed=side is followed) for side in found))
