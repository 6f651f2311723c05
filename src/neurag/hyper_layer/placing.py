"""Placing: how well the sentence that an answer stands in matches the question.

Of the answers a neuron has for a question (branching.py) the right one stands where the question points. With m_tj the
match of question token t with key j of a text, above chance as in routing,

    P(answer) = max over its places of  sum_t max_{j in the sentence, outside the answer} r_tj / sum_t r*_t

in 0..1: the share of the question's information that the words around the answer match; 0 where it stands nowhere. Only
the texts of neurons that are heard count, at `HEARD` of full strength at least. The keys, positions and texts are those
the bank has anyway, and nothing is read by the backbone. P is added to an answer's log-likelihood, times `WORTH` nats.
Ours, not the paper's. Not here: what the answers are, and which question tokens count (chance.py).

    >>> placed(layer, firing, ["Jakarta", "April 22"])                           # doctest: +SKIP
    [0.48, 0.31]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..knowledge.chance import WINDOWS
from ..knowledge.phrases import sentences_of
from ..knowledge.rows import RowText
from .layer import Firing, HyperLayer, acting
from .provenance import asked_states, offsets_of, stored_rows

WORTH = 8.0
"""Nats. From 8 to 24 nearly as many answers are right (docs/fidelity.md); less leaves sure answers alone."""
HEARD = 0.3
"""Weight of a neuron from which on its text counts."""


@dataclass(frozen=True)
class _Text:
    """A row's text, where its keys stand in it, and r of every question token and key."""

    text: str
    sentences: list[tuple[int, int]]
    centres: np.ndarray
    """[n] characters from the text's beginning; negative in the title."""
    matched: np.ndarray
    """[T, n]."""

    def places(self, answer: str) -> list[tuple[int, int]]:
        """Where it stands, in any case: as whole words, or else anywhere."""
        exact = re.escape(answer)
        for wanted in (rf"(?<!\w){exact}(?!\w)", exact) if answer else ():
            if found := [match.span() for match in re.finditer(wanted, self.text, re.IGNORECASE)]:
                return found
        return []

    def around(self, start: int, end: int) -> float:
        """sum_t max r_tj over the keys of the sentence about a span, without the span's own."""
        first, last = next((span for span in self.sentences if span[0] <= start < span[1]), (start, end))
        inside = (self.centres >= first) & (self.centres < last)
        counted = inside & ~((self.centres >= start) & (self.centres <= end))
        return float(self.matched[:, counted].max(1).sum()) if counted.any() else 0.0


def placed(layer: HyperLayer, firing: Firing, answers: Sequence[str]) -> list[float]:
    """P of each answer, in the texts of the neurons that are heard. Raises BankError where the bank cannot be read."""
    states = asked_states(firing)
    yardstick = layer.router.yardstick(states)
    texts = []
    rows = list(dict.fromkeys(row for row, weight in acting(firing.first) if row >= 0 and weight >= HEARD))
    for row, stored in zip(rows, stored_rows(layer, firing, rows), strict=True):
        keys = firing.index.of_row(row)
        if stored:
            similar = (states.to(keys.dtype) @ keys.T).float()
            matched = yardstick.surprise(similar, torch.full((len(keys),), float(WINDOWS[1])))
            spans = _sentence_spans(stored.text)
            texts.append(_Text(stored.text, spans, _centres(layer, stored), matched.numpy()))
    whole = max(float(yardstick.best.sum()), 1e-6)
    return [
        max((text.around(*span) for text in texts for span in text.places(answer.strip(" .,;:"))), default=0.0) / whole
        for answer in answers
    ]


def best_placed(layer: HyperLayer, firing: Firing, answers: Sequence[str], likelihoods: Sequence[float]) -> int:
    """Number of the answer to be given: likely, and where the question points; the first where none stands anywhere."""
    places = placed(layer, firing, answers)
    if not any(places):
        return 0
    worth = [value + WORTH * place for value, place in zip(likelihoods, places, strict=True)]
    return worth.index(max(worth))


def _centres(layer: HyperLayer, row: RowText) -> np.ndarray:
    """[n] the middle of each key's token, in characters of the row's text."""
    shown, offsets = offsets_of(layer.backbone, row.title, row.text)
    begin = len(shown) - len(row.text)
    return np.array([sum(offsets[int(position)]) / 2 - begin for position in row.positions])


def _sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences stand."""
    spans, at = [], 0
    for sentence in sentences_of(text):
        start = text.index(sentence, at)
        at = start + len(sentence)
        spans.append((start, at))
    return spans
