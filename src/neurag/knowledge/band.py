"""Frozen-prefix forward passes: a training step that costs the answers' tokens and the band's layers only.

Neurons act from the last prompt token on, and only inside the band. So a prompt's keys and values, and the
states that enter the band, are the backbone's own whatever the neurons are: they are computed once here, and
every step after that runs the band's layers over the last prompt token and the answer. All lessons' tokens stand in
one row without padding, and what many prompts begin with is read once (segments.py). Not here: what the neurons are
trained on (augmentation.py) and how (encoder.py).

    >>> lessons = prepare(backbone, [Lesson(0, prompt_ids, answer_ids)], layers)   # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..hooks import on_each
from ..segments import Joined, Reading, Texts, climb, columns, in_one_row, read

Delta = Callable[[int, Tensor, Tensor], Tensor | None]
"""(place in the band, input of the down projection, its output), [1, M, .] each -> the new output."""
PADDED = 3.0
"""How much longer than the shortest answer of a group another may be: only attention pads."""
FROZEN = 4096
"""Tokens of one pass through the frozen layers, about."""


@dataclass(frozen=True)
class Lesson:
    """One training text: which document it teaches, the prompt, and the answer to learn."""

    document: int
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    weight: float = 1.0
    shared: int = 0
    """Tokens at the prompt's beginning that other lessons begin with, too; fewer than the prompt has."""
    view: tuple[int, ...] = ()
    """The prompt with the passage in it, for a teacher; nothing where there is none."""
    view_shared: int = 0
    """As `shared`, of the view."""


@dataclass(frozen=True)
class Prepared:
    """S lessons ready for the band: M positions, of each lesson the last prompt token and the answer but its last."""

    hidden: Tensor
    """[M, D] states entering the band."""
    reading: Joined
    """What each position sees: the band's keys and values of the prompts."""
    targets: Tensor
    """[M] token to predict at each position."""
    weights: Tensor
    """[M] weight of each position."""
    documents: Tensor
    """[M] document of each position."""
    lessons: Tensor
    """[M] number of the lesson of each position, in the order they were given."""

    def only(self, kept: Tensor) -> Prepared:
        """The positions [M] of some lessons, at least one; itself where all are wanted."""
        if kept.all():
            return self
        told = (self.targets, self.weights, self.documents, self.lessons)
        return Prepared(self.hidden[kept], self.reading.only(kept), *(x[kept] for x in told))


def prepare(backbone: Backbone, lessons: Sequence[Lesson], layers: Sequence[int]) -> Prepared:
    """Run the frozen part of every lesson, of which there is one at least, once."""
    device = backbone.device
    heads = list(dict.fromkeys(lesson.prompt[: lesson.shared] for lesson in lessons))
    shared = Texts.new(len(heads), device)
    owners, ids = in_one_row(heads, range(len(heads)), backbone.device)
    if len(ids):
        read(backbone, shared, owners, ids)
    groups = _alike(lessons)
    readings, entering = [], []
    for group in groups:
        taken = [lessons[n] for n in group]
        whose = torch.tensor([heads.index(x.prompt[: x.shared]) for x in taken], device=device)
        reading, states = _prepare_group(backbone, taken, layers, shared, whose)
        readings.append(reading)
        entering.append(states)
    order = [n for group in groups for n in group]
    owners, targets = in_one_row([lessons[n].answer for n in order], range(len(order)), device)
    weights = torch.tensor([lessons[n].weight for n in order], device=device)[owners]
    documents = torch.tensor([lessons[n].document for n in order], device=device)[owners]
    numbers = torch.tensor(order, device=device)[owners]
    return Prepared(torch.cat(entering), Joined(readings), targets, weights, documents, numbers)


def _alike(lessons: Sequence[Lesson]) -> list[list[int]]:
    """Numbers of lessons in groups with answers of similar length, the shorter lessons of each first."""
    groups: list[list[int]] = []
    for n in sorted(range(len(lessons)), key=lambda n: len(lessons[n].answer)):
        if not groups or len(lessons[n].answer) > PADDED * len(lessons[groups[-1][0]].answer):
            groups.append([])
        groups[-1].append(n)
    return [sorted(group, key=lambda n: _length(lessons[n])) for group in groups]


def _length(lesson: Lesson) -> int:
    return len(lesson.prompt) - lesson.shared + len(lesson.answer)


def _prepare_group(
    backbone: Backbone, lessons: Sequence[Lesson], layers: Sequence[int], shared: Texts, whose: Tensor
) -> tuple[Reading, Tensor]:
    """What the positions of some lessons read in the band, and the states [M, D] in which they enter it."""
    device = backbone.device
    asked = torch.tensor([len(x.prompt) - x.shared - 1 for x in lessons], device=device)
    owners, _ = in_one_row([x.answer for x in lessons], range(len(lessons)), device)
    texts = Texts.new(len(lessons), device)
    size = max(1, FROZEN // _length(lessons[-1]))
    entering = [
        _frozen_pass(backbone, lessons[i : i + size], layers, texts, slice(i, i + size), shared, whose[i : i + size])
        for i in range(0, len(lessons), size)
    ]
    column = asked[owners] + columns(owners, len(lessons))
    return Reading(texts, owners, column, shared, whose), torch.cat(entering)


@torch.no_grad()
def _frozen_pass(
    backbone: Backbone,
    lessons: Sequence[Lesson],
    layers: Sequence[int],
    texts: Texts,
    which: slice,
    shared: Texts,
    behind: Tensor,
) -> Tensor:
    """States [M, D] entering the band; the band's keys and values of the prompts go to `texts[which]`."""
    parts = [(*x.prompt[x.shared :], *x.answer[:-1]) for x in lessons]
    owners, ids = in_one_row(parts, range(len(parts)), backbone.device)
    column = columns(owners, len(lessons))
    asked = torch.tensor([len(x.prompt) - x.shared - 1 for x in lessons], device=ids.device)[owners]
    here = Texts.new(len(lessons), backbone.device)
    reading = Reading(here, owners, column, shared, behind)
    hidden = climb(backbone, backbone.part(backbone.family.embed)(ids), reading, range(layers[0]))
    before = column < asked
    if before.any():
        climb(backbone, hidden[before], reading.only(before), range(layers[0], layers[-1] + 1))
    here.give(texts, which, layers)
    return hidden[~before]


def band_states(backbone: Backbone, prepared: Prepared, layers: Sequence[int], delta: Delta) -> Tensor:
    """Final states [M, D] at the M positions, with `delta` in the band."""
    modules: list[nn.Module] = [backbone.down_projection(n) for n in layers]
    with on_each(modules, delta):
        # prefix keys above the band would depend on the neurons too, so a band always ends at the top
        hidden = climb(backbone, prepared.hidden, prepared.reading, layers)
    return backbone.part(backbone.family.norm)(hidden)  # type: ignore[no-any-return]


def band_logits(backbone: Backbone, prepared: Prepared, layers: Sequence[int], delta: Delta) -> Tensor:
    """Logits [M, V] over the whole vocabulary at the M positions."""
    states = band_states(backbone, prepared, layers, delta)
    return backbone.part(backbone.family.head)(states).float()  # type: ignore[no-any-return]
