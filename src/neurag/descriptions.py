"""Descriptions: what a question describes in place of naming it, cut out by rules for English.

"the shop where valves are made", "the director of Solbrand", "Ada Brindle's father": each is a question of its own, and
the question is another one with the answer in its place. Not here: when that is tried (chaining.py), and asking.

    >>> [(one.asked, one.filled("Oskerby")) for one in descriptions("Who leads the shop where valves are made?")]
    [('What is the shop where valves are made?', 'Who leads Oskerby?')]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST = 400
"""Characters of a question that is looked through: longer ones are texts."""

_WHICH = frozenset("who whom whose what which where when why how many much".split())
_FORMS = frozenset("is was are were be been did does do has had have can could will would".split())
_ARTICLES = frozenset(("a", "an", "the"))
_RELATIONS = frozenset("of that which who whom whose where when in at by for from on with to".split())
_SMALL = _ARTICLES | _RELATIONS | frozenset("and or as it its name called".split())
_CONTRACTED = re.compile(r"['’](s|re|d|ll)$")
_MARKS = ",;:\"'"
_PERSON = re.compile(
    r"(er|or|ist|ian|ess|man|woman|wife|husband|son|daughter|uncle|aunt|niece|nephew|cousin|king|queen|head|chief|pilot)$"
)
_THINGS = frozenset(
    "number order chapter letter paper newspaper river tower water power center theater border color harbor computer "
    "layer member flower summer winter october september november december career car door floor motor sector".split()
)
"""What ends as words for people do; others that do are asked for with "who", which does little harm."""
_PARTICLES = frozenset("de du da di von van der den la le al bin ibn".split())


@dataclass(frozen=True)
class Description:
    """Characters [start, end) of a question, which say what it asks about without naming it."""

    question: str
    start: int
    end: int

    @property
    def text(self) -> str:
        """The description itself."""
        return self.question[self.start : self.end]

    @property
    def asked(self) -> str:
        """The question for it."""
        kind = _kind(self.text)
        return f"{'Who' if _PERSON.search(kind) and kind not in _THINGS else 'What'} is {self.text}?"

    def filled(self, answer: str) -> str:
        """The question with an answer in its place."""
        return f"{self.question[: self.start]}{answer}{self.question[self.end :]}"


def descriptions(question: str) -> list[Description]:
    """What a question describes: "the ... of ..." and "...'s ...", the longest first. Not what all of it asks for:
    there must be something to ask about it."""
    asked = question.rstrip(" ?!.")
    tokens = list(re.finditer(r"\S+", asked if len(asked) <= LONGEST else ""))
    shown = [token.group() for token in tokens]
    low = [word.lower().strip(_MARKS) for word in shown]
    found = {}
    for first, last in (*_definite(shown, low), *_possessive(shown, low)):
        rest = {_CONTRACTED.sub("", word) for word in (*low[:first], *low[last:])}
        if rest - _WHICH - _FORMS - _SMALL - {""}:
            end = tokens[last - 1].start() + len(shown[last - 1].rstrip(_MARKS))
            found[first, last] = Description(question, tokens[first].start(), end)
    return [found[place] for place in sorted(found, key=lambda place: place[0] - place[1])]


def _definite(shown: Sequence[str], low: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Places of "the ..." with a relation in it: to the end, and without the verb that a question may end with, as it
    does where a form of "be", "do" or "have" stands in front: "was the author of it born"."""
    turned = False
    for first in (place for place, word in enumerate(low) if place and word == "the"):
        ends = [len(low)]
        turned |= low[first - 1] in _FORMS or bool(_CONTRACTED.search(low[first - 1]))
        if turned and shown[-1].islower():
            ends.append(len(low) - 1)
        elif low[-2] in _FORMS:  # "the author of it is from"
            ends.append(len(low) - 2)
        for last in ends:
            whole = low[last - 1] not in _FORMS | _RELATIONS | _ARTICLES | {""}
            if whole and _RELATIONS & set(low[first + 2 : last - 1]):
                yield first, last


def _possessive(shown: Sequence[str], low: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Places of "Ada Brindle's father", with one word and with two behind the name."""
    for at in range(1, len(shown)):
        if shown[at].endswith(("'s", "’s", "s'", "s’")):
            first = at
            while first > 1 and (not shown[first][:1].isalpha() or _goes_on(shown[first - 1], low[first - 1])):
                first -= 1
            if shown[first][:1].isupper():
                yield from ((first, last) for last in (at + 2, at + 3) if last <= len(shown) and low[last - 1])


def _goes_on(shown: str, low: str) -> bool:
    """Whether a word in front of a part of a name is one, too."""
    return not shown[:1].islower() or low in _PARTICLES


def _kind(text: str) -> str:
    """What kind of thing a description describes, more or less: the last word before its first relation.

    >>> _kind("the first apprentice of the Works"), _kind("Ada Brindle's father")
    ('apprentice', 'father')
    """
    low = [word.strip(_MARKS) for word in text.lower().split()]
    place = next((place for place, word in enumerate(low) if place > 1 and word in _RELATIONS), len(low))
    return low[place - 1]
