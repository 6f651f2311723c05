"""Recall: the answers that a question's neurons may mean, and a few numbers about each by which one is chosen.

A neuron says the answer of the lesson that lies nearest to the question, more or less, and often means the second: of
372 questions about held-out passages one of the five nearest lessons answers two thirds (docs/fidelity.md). So what the
neurons begin to say (branching.py) and what their nearest lessons answer stand side by side. Of each is told how likely
it is, where it stands in the text (placing.py), and how near a lesson lies that it answers; a weigher (weigher.py)
decides. Ours, not the paper's; answers of the nearest written questions are what RePAQ retrieves (Lewis et al. 2021).
Not here: what lessons are (knowledge/learned.py).

    >>> [told.text for told in candidates(layer, firing, question, read, made)]  # doctest: +SKIP
    ['Ada', 'Bo Hask']
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..branching import Begun, Branch
from ..hooks import read_input
from ..knowledge.lessons import places
from ..weigher import NUMBERS, Weigher
from ..words import overlap, words
from .layer import Firing, HyperLayer
from .placing import Heard, best_placed, hear

NEAREST = 8
"""Lessons whose answers are looked at."""
SAME = 0.6
"""Share of words (F1) from which on a lesson has an answer."""
NATS, SHARE = 1 / 4, 2.0
"""What log-likelihoods and P are multiplied by, to be about as large as the other numbers."""
BEHIND = 2.0
"""Nats by which an answer that no neuron began counts as less likely than the least likely that one did."""


@dataclass(frozen=True)
class Candidate:
    """An answer that may be given."""

    text: str
    tokens: tuple[int, ...]
    begun: bool
    """Whether a neuron began it; else it is a lesson's answer."""
    told: tuple[float, ...]
    """What a weigher weighs (`weigher.NUMBERS`)."""


def silent_reads(layer: HyperLayer, begun: Begun) -> Tensor:
    """[B, L R] where each question lies in what neurons read, with none acting (`Learned.reads`)."""
    seen: list[Tensor] = []

    def keep(place: int, units: Tensor) -> None:
        seen.append(layer.space.read(place, units[:, -1].float()))

    with ExitStack() as hooks:
        for place, number in enumerate(layer.space.layers):
            hooks.enter_context(read_input(layer.backbone.down_projection(number), partial(keep, place)))
        begun.read_again(layer.backbone)
    return places(torch.stack(seen, 1)).cpu()


def candidates(
    layer: HyperLayer, firing: Firing, question: str, read: Tensor, made: Sequence[Branch]
) -> list[Candidate]:
    """The answers that the neurons began, then those of lessons near `read` [L R]; none where no text is heard."""
    heard = hear(layer, firing)
    if not heard.rows:
        return []
    near = _Nearness.of(heard, read.numpy())
    tokenizer, least = layer.backbone.tokenizer, min(one.likelihood for one in made) - BEHIND
    told = [(tokenizer.decode(one.tokens, skip_special_tokens=True), one) for one in made]
    for text in near.nearest():
        told.append((text, Branch(tuple(tokenizer(text, add_special_tokens=False).input_ids), least)))
    found: dict[str, Candidate] = {}
    for text, one in told:
        if (same := " ".join(words(text))) not in found:
            begun = one in made
            known = (NATS * one.likelihood, begun, SHARE * heard.placed(text))
            numbers = (*known, *near.numbers(text, heard.loudest(text)), _repeats(text, question))
            found[same] = Candidate(text, one.tokens, begun, tuple(map(float, numbers)))
    return list(found.values())


def chosen(found: Sequence[Candidate], weigher: Weigher | None, score: float) -> tuple[Candidate, float | None]:
    """The one to be given, of one at least, and how likely it is right; without a weigher, of those that neurons began,
    and nobody knows. `score` is that of the best neuron."""
    if weigher is None:
        begun = [one for one in found if one.begun]
        likelihoods, places = ([one.told[NUMBERS.index(name)] for one in begun] for name in ("likelihood", "placed"))
        return begun[best_placed([place / SHARE for place in places], [value / NATS for value in likelihoods])], None
    best, sure = weigher.chosen([one.told for one in found], score)
    return found[best], sure


@dataclass(frozen=True)
class _Nearness:
    """The lessons of the rows that are heard, and how near each lies to the question."""

    answers: list[str]
    words: list[list[str]]
    written: NDArray[np.bool_]
    weights: NDArray[np.float64]
    """[m] weight of each lesson's neuron."""
    near: NDArray[np.float64]
    """[m] cosines, in deviations from their mean: each document is its own yardstick."""

    @classmethod
    def of(cls, heard: Heard, read: NDArray[np.float32]) -> _Nearness:
        learned = [row.learned for row in heard.rows if len(row.learned)]
        answers = [answer for one in learned for answer in one.answers]
        cosines = [one.reads.astype(np.float32) @ read for one in learned]
        near = np.concatenate([*cosines, np.zeros(0)])
        near = (near - near.mean()) / (near.std() + 1e-6) if len(near) else near
        written = np.array([own for one in learned for own in one.written], bool)
        told = zip(heard.rows, heard.weights, strict=True)
        weights = np.array([weight for row, weight in told for _ in row.learned.answers], np.float64)
        return cls(answers, [words(answer) for answer in answers], written, weights, near)

    def nearest(self) -> list[str]:
        """Answers of the nearest lessons, nearest first."""
        return [self.answers[n] for n in np.argsort(-self.near)[:NEAREST]]

    def numbers(self, text: str, loudest: float) -> tuple[float, float, bool, float, float, float]:
        """near, near_written, learned, lessons, words, heard of an answer; `loudest` is the weight of the strongest
        neuron in whose text it stands."""
        said = words(text)
        same = np.array([overlap(own, said) >= SAME for own in self.words], bool)
        least = float(self.near.min(initial=0.0))
        best, best_written = (
            float(self.near[which].max()) if which.any() else least for which in (same, same & self.written)
        )
        heard = float(self.weights[same].max(initial=loudest))
        return best, best_written, bool(same.any()), same.sum() / 5, len(said) / 5, heard


def _repeats(text: str, question: str) -> float:
    """Share of an answer's words that the question has."""
    said, asked = words(text), words(question)
    return sum(word in asked for word in said) / max(1, len(said))
