"""Chaining: a question that describes what it asks about is answered in two steps, where that is likelier right.

"Who leads the shop where valves are made?" needs two documents. First its description is asked for ("What is the shop
where valves are made?"), then the rest with the answer in place ("Who leads Oskerby?"), each of the neurons that it
wakes. Confidences are what they promise, so their product says whether two steps are likelier right than one. They are
tried where the document that matches best matches little of the rest. Ours, not the paper's; asking oneself for a
missing entity first is self-ask (Press et al. 2023). Not here: what a question describes (descriptions.py), asking
(model.py).

    >>> ways = best_ways([Way(reply, description, first)])                        # doctest: +SKIP
    >>> ways[0].question, ways[0].certainty(last)                                 # doctest: +SKIP
    ('Who leads Oskerby?', 0.68)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .answer import declines
from .config import AnswerOptions
from .descriptions import Description, descriptions
from .hyper_layer.layer import Firing, HyperLayer
from .hyper_layer.provenance import asked_states, matched
from .reply import Reply
from .words import holds, words

CERTAIN = 0.8
"""Confidence from which on an answer stands, and no second way is tried."""
KNOWN = 0.2
"""Share of what is asked about a description that its document matches, from which on it may answer all by itself."""
FIRSTS, LASTS = 2, 2
"""Descriptions of a question that are asked for, and how many of their answers, the most certain ones, are built on."""


def worth_asking(layer: HyperLayer, reply: Reply) -> list[Description]:
    """The descriptions in a question that are worth a question of their own: `FIRSTS` beside which its best document
    matches least, and less than `KNOWN`. None where no other document may be seen, where the answer is as good as
    certain, or where nobody knows how likely it is."""
    free = reply.options.chain and reply.weighed and not reply.options.force
    if reply.firing is None or not free or reply.confidence is None or reply.confidence >= CERTAIN:
        return []
    found = descriptions(reply.question)
    if not found or not _others(reply.firing, reply.leader):
        return []
    shares = known(layer, reply.firing, reply.prompt.offsets, found)
    order = sorted(zip(shares, found, strict=True), key=lambda told: told[0])
    return [one for share, one in order if share < KNOWN][:FIRSTS]


def known(
    layer: HyperLayer, firing: Firing, offsets: Sequence[tuple[int, int]], found: Sequence[Description]
) -> list[float]:
    """Of what a question asks beside each description, the share that its best row matches, 0..1; 1 where that is
    nothing. What all chosen rows match, such as the name of the company they are all about, does not count. `offsets`
    are the characters of the question's T tokens."""
    states = asked_states(firing)
    yardstick = layer.router.yardstick(states)
    told = torch.stack(
        [matched(yardstick, states, firing.index.keys.row(row))[0] for row in firing.first.rows]
    )  # [K, T]
    common = told.amin(0) if len(told) > 1 else torch.zeros_like(yardstick.best)
    lead, whole = told[0] - common, (yardstick.best - common).clamp(min=0)
    shares = []
    for one in found:
        rest = torch.tensor([end <= one.start or start >= one.end for start, end in offsets])
        asked = float(whole[rest].sum())
        shares.append(float(lead[rest].sum()) / asked if asked > 0 else 1.0)
    return shares


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
        own = self.reply.options
        return replace(own, without=(*own.without, self.first.leader))

    @property
    def open(self) -> bool:
        """Whether it can lead to a likelier answer: the first one is, and the question does not say it already."""
        return _tells(self.first, self.reply.question) and _sure(self.first) > _sure(self.reply)

    def certainty(self, last: Reply) -> float:
        """How likely both answers are right; 0 where the last one repeats its question, or tells nothing."""
        return _sure(self.first) * _sure(last) if _tells(last, last.question) else 0.0


def best_ways(ways: Sequence[Way]) -> list[Way]:
    """Those that are open, `LASTS` of a question at most, where the first answer is the most certain."""
    taken: list[Way] = []
    for way in sorted((way for way in ways if way.open), key=lambda way: -_sure(way.first)):
        own = [one.question for one in taken if one.reply is way.reply]
        if len(own) < LASTS and way.question not in own:
            taken.append(way)
    return taken


def _tells(reply: Reply, question: str) -> bool:
    """Whether an answer says something that a question does not say."""
    said = words(reply.said)
    return bool(said) and not reply.silent and not declines(reply.said) and not holds(words(question), said)


def _sure(reply: Reply) -> float:
    return reply.confidence or 0.0


def _others(firing: Firing, leader: str) -> bool:
    """Whether a question may see another document than its best one."""
    names = firing.index.document_ids
    rows = range(len(names)) if firing.allowed is None else np.flatnonzero(firing.allowed)
    return any(names[row] != leader for row in rows)
