"""Placing: how well the sentence that an answer stands in matches the question.

Of the answers a neuron has for a question (branching.py) the right one stands where the question points. With m_tj the
match of question token t with key j of a text, above chance as in routing,

    P(answer) = max over its places of  sum_t max_{j in the sentence, outside the answer} r_tj / sum_t r*_t

in 0..1: the share of the question's information that the words around the answer match; 0 where it stands nowhere. Only
the texts of neurons that are heard count, at `HEARD` of full strength at least. The keys, positions and texts are those
the bank has anyway, and nothing is read by the backbone. Where no weigher was trained for a backbone, P is added to an
answer's log-likelihood, times `WORTH` nats. Ours, not the paper's. Not here: what the answers are (recall.py), and
which question tokens count (chance.py).

    >>> hear(layer, firing).placed("Jakarta")                                    # doctest: +SKIP
    0.48
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
ENDS = " .,;:"
"""What an answer may begin or end with, and its place need not."""
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


@dataclass(frozen=True)
class Heard:
    """The rows whose neurons are heard: their weights, what they say and were taught, and what the question matches."""

    rows: tuple[RowText, ...]
    weights: tuple[float, ...]
    texts: tuple[_Text, ...]
    whole: float
    """sum_t r*_t."""

    def placed(self, answer: str) -> float:
        """P of an answer."""
        found = (text.around(*span) for text in self.texts for span in text.places(answer.strip(ENDS)))
        return max(found, default=0.0) / self.whole

    def loudest(self, answer: str) -> float:
        """Weight of the strongest neuron in whose text an answer stands; 0 where it stands in none."""
        told = zip(self.weights, self.texts, strict=True)
        return max((weight for weight, text in told if text.places(answer.strip(ENDS))), default=0.0)


def hear(layer: HyperLayer, firing: Firing) -> Heard:
    """What is heard of a question's neurons. Raises BankError where the bank cannot be read."""
    states = asked_states(firing)
    yardstick = layer.router.yardstick(states)
    chosen = {row: weight for row, weight in acting(firing.first) if row >= 0 and weight >= HEARD}
    held = zip(chosen.items(), stored_rows(layer, firing, list(chosen)), strict=True)
    known = [(row, weight, stored) for (row, weight), stored in held if stored]
    texts = []
    for row, _, stored in known:
        keys = firing.index.keys.row(row)
        similar = (states.to(keys.dtype) @ keys.T).float()
        matched = yardstick.surprise(similar, torch.full((len(keys),), float(WINDOWS[1])))
        texts.append(_Text(stored.text, _sentence_spans(stored.text), _centres(layer, stored), matched.numpy()))
    rows, weights = tuple(stored for *_, stored in known), tuple(weight for _, weight, _ in known)
    return Heard(rows, weights, tuple(texts), max(float(yardstick.best.sum()), 1e-6))


def best_placed(places: Sequence[float], likelihoods: Sequence[float]) -> int:
    """Number of the answer to be given: likely, and where the question points; the first where none stands anywhere."""
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
