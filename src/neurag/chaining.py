"""Chaining: a question that describes what it asks about is asked in two steps.

"Who leads the shop where valves are made?" needs two documents. The description is a question of its own: "What is the
shop where valves are made?", and with its answer in place the rest is another: "Who leads Oskerby?". Each goes to the
neurons that it wakes, and as confidences are what they promise, their product says whether two steps are likelier right
than one. They are tried where the document that matches best matches little of the rest. No language model writes the
steps: they are cut out of the question, in English. Ours, not the paper's; asking oneself for a missing entity first is
self-ask (Press et al. 2023). Not here: asking (model.py).

    >>> [(one.asked, one.filled("Oskerby")) for one in descriptions("Who leads the shop where valves are made?")]
    [('What is the shop where valves are made?', 'Who leads Oskerby?')]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from .config import AnswerOptions
from .hyper_layer.layer import HyperLayer
from .hyper_layer.provenance import asked_states, matches
from .reply import Reply
from .words import holds, words

CERTAIN = 0.8
"""Confidence from which on an answer stands, and no second way is tried."""
LONGEST = 400
"""Characters of a question that is looked through: longer ones are texts, and a step must not outgrow the prompt."""
KNOWN = 0.2
"""Share of what is asked about a description that its document matches, from which on it may answer all by itself."""
FIRSTS, LASTS = 2, 2
"""Descriptions of a question that are asked for, and how many of their answers, the most certain ones, are built on."""

_WHICH = frozenset("who whom whose what which where when why how many much".split())
_FORMS = frozenset("is was are were be been did does do has had have can could will would".split())
_SMALL = frozenset("a an the of in on at by for from to with and or as it its name called".split())
_RELATIONS = frozenset("of that which who whom whose where when in at by for from on with to".split())
_PERSON = re.compile(
    r"(er|or|ist|ian|ess|man|woman|wife|husband|son|daughter|uncle|aunt|niece|nephew|cousin|king|queen|head|chief|pilot)$"
)
"""Words for people, by how they end; a few things, too, and then "who" does little harm."""
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
        return f"{'Who' if _PERSON.search(_head(self.text)) else 'What'} is {self.text}?"

    def filled(self, answer: str) -> str:
        """The question with an answer in its place."""
        return f"{self.question[: self.start]}{answer}{self.question[self.end :]}"


def descriptions(question: str) -> list[Description]:
    """What a question describes: "the ... of ..." and "...'s ...", the longest first. Not what all of it asks for:
    there must be something to ask about it."""
    asked = question.rstrip(" ?!.")
    tokens = list(re.finditer(r"\S+", asked if len(asked) <= LONGEST else ""))
    shown = [token.group() for token in tokens]
    low = [word.lower().strip(",;:\"'") for word in shown]
    found = {}
    for first, last in (*_definite(shown, low), *_possessive(shown, low)):
        rest = [word for word in (*low[:first], *low[last:]) if word not in _WHICH | _FORMS | _SMALL]
        if rest:
            found[first, last] = Description(question, tokens[first].start(), tokens[last - 1].end())
    return [found[place] for place in sorted(found, key=lambda place: place[0] - place[1])]


def worth_asking(layer: HyperLayer, reply: Reply) -> list[Description]:
    """The descriptions in a question that its best document does not go on from: `FIRSTS` of which it matches the rest
    of the question least, and less than `KNOWN`."""
    found = descriptions(reply.question)
    matched = known(layer, reply, found) if found else []
    order = sorted(zip(matched, found, strict=True), key=lambda told: told[0])
    return [one for share, one in order if share < KNOWN][:FIRSTS]


def known(layer: HyperLayer, reply: Reply, found: Sequence[Description]) -> list[float]:
    """Of what a question asks beside each description, the share that its best row matches, 0..1. What all chosen rows
    match, such as the name of the company they are all about, does not count."""
    assert reply.firing is not None
    rows = reply.firing.first.rows
    told = torch.tensor([matches(layer, reply.firing, row)[0] for row in rows])  # [K, T]
    best = layer.router.yardstick(asked_states(reply.firing)).best
    common = told.amin(0) if len(rows) > 1 else torch.zeros_like(best)
    whole = (best / best.sum().clamp(min=1e-6) - common).clamp(min=0)
    shares = []
    for one in found:
        rest = torch.tensor([end <= one.start or start >= one.end for start, end in reply.prompt.offsets])
        shares.append(float((told[0] - common)[rest].sum() / whole[rest].sum().clamp(min=1e-6)))
    return shares


def chains(reply: Reply) -> bool:
    """Whether another way to its answer may be tried: neurons are free, and it is known how likely they are right."""
    free = reply.options.chain and reply.weighed and not reply.options.force
    return free and reply.confidence is not None and reply.confidence < CERTAIN


@dataclass(frozen=True)
class Way:
    """A question on its way to an answer, what it describes, and what was said when that was asked for."""

    reply: Reply
    description: Description
    first: Reply

    @property
    def question(self) -> str:
        """What is left to be asked."""
        return self.description.filled(self.first.said)

    @property
    def options(self) -> AnswerOptions:
        """How it is asked: of the other documents. What mentions both would speak again else, and say the same."""
        own, leader = self.reply.options, self.first.leader
        return replace(own, without=(*own.without, leader)) if leader else own

    @property
    def open(self) -> bool:
        """Whether it can lead to a likelier answer: the first one is likely, and not said in the question already."""
        said = words(self.first.said)
        news = bool(said) and not self.first.silent and not holds(words(self.reply.question), said)
        return news and _sure(self.first) > _sure(self.reply)

    def certainty(self, last: Reply) -> float:
        """How likely both answers are right; 0 where the last one repeats its question."""
        again = holds(words(last.question), words(last.said))
        return 0.0 if last.silent or again else _sure(self.first) * _sure(last)


def best_ways(ways: Sequence[Way]) -> list[Way]:
    """Those that are open, `LASTS` of a question at most, where the first answer is the most certain."""
    open_ = sorted((way for way in ways if way.open), key=lambda way: -_sure(way.first))
    taken: list[Way] = []
    for way in open_:
        own = [one.question for one in taken if one.reply is way.reply]
        if len(own) < LASTS and way.question not in own:
            taken.append(way)
    return taken


def _sure(reply: Reply) -> float:
    return reply.confidence or 0.0


def _head(text: str) -> str:
    """What kind of thing a description describes, more or less: the last word before its first relation.

    >>> _head("the first apprentice of the Works"), _head("Ada Brindle's father")
    ('apprentice', 'father')
    """
    low = text.lower().split()
    place = next((place for place, word in enumerate(low) if place > 1 and word in _RELATIONS), len(low))
    return low[place - 1]


def _definite(shown: Sequence[str], low: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Places of "the ..." with a relation in it: to the end, and without the verb that a question may end with."""
    turned = False
    for first in (place for place, word in enumerate(low) if place and word == "the"):
        ends = [len(low)]
        turned |= low[first - 1] in _FORMS
        if turned and shown[-1].islower():  # "was the author of it born"
            ends.append(len(low) - 1)
        elif low[-2] in _FORMS:  # "the author of it is from"
            ends.append(len(low) - 2)
        yield from ((first, last) for last in ends if _RELATIONS & set(low[first + 2 : last - 1]))


def _possessive(shown: Sequence[str], low: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Places of "Ada Brindle's father", with one word and with two behind the name."""
    for at in range(1, len(shown)):
        if shown[at].endswith(("'s", "’s", "s'", "s’")):
            first = at
            while first > 1 and (not shown[first][:1].isalpha() or _goes_on(shown[first - 1], low[first - 1])):
                first -= 1
            if shown[first][:1].isupper():
                yield from ((first, last) for last in (at + 2, at + 3) if last <= len(shown))


def _goes_on(shown: str, low: str) -> bool:
    """Whether a word in front of a part of a name is one, too."""
    return not shown[:1].islower() or low in _PARTICLES
