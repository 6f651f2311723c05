"""The encoder: many documents' neurons trained together, each row of a batch with its own B.

Per document the loss is the mean negative log likelihood of its answers, weighted by lesson. In every second
step other documents' neurons of the batch are added at a fraction of their strength (and get no gradient), so
that a neuron learns to speak while weaker ones are active beside it. Two things keep a step cheap: it sees one
part of the lessons in turn, and its softmax runs over the tokens that can matter (every target, and what the
plain backbone finds likely at each position) instead of the whole vocabulary. Not here: the frozen-prefix arithmetic
(band.py), the texts (augmentation.py), the bank.

    >>> neurons = train_neurons(backbone, space, lessons, count=12, options=EncodeOptions())  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..backbone import Backbone
from ..config import EncodeOptions
from .band import Delta, Lesson, Prepared, band_states, prepare
from .neurons import InputSpace


def train_neurons(
    backbone: Backbone,
    space: InputSpace,
    lessons: Sequence[Lesson],
    count: int,
    options: EncodeOptions,
    seed: int | None = None,
) -> Tensor:
    """B of `count` documents, [count, L, R, D] in float32. A document without lessons keeps zeros."""
    generator = torch.Generator().manual_seed(options.seed if seed is None else seed)
    neurons = torch.zeros(
        count, len(space.layers), space.down.shape[1], backbone.width, device=backbone.device
    ).requires_grad_()
    if not lessons:
        return neurons.detach()
    parts = [_Part(backbone, space, part, count, options.distil) for part in _deal(lessons, options.parts)]
    taught = len({lesson.document for lesson in lessons})
    recent: list[float] = []
    optimiser = torch.optim.Adam([neurons], lr=options.learning_rate)
    step, end, rate = 0, options.steps, options.learning_rate
    fall = rate / max(1, end)
    while step < end:
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        acting = neurons.to(backbone.dtype)
        if step % 2 and options.interference and count > 1:
            mix = interference(count, options.interferers, options.interference, generator)
            acting = acting + torch.einsum("ij,jlrd->ilrd", mix.to(acting), acting.detach())
        loss = parts[step // 2 % len(parts)].loss(acting)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        step, rate = step + 1, rate - fall
        # a round is every part once clean and once with others active
        recent = [*recent, float(loss.detach()) / taught][-2 * len(parts) :]
        learned = len(recent) == 2 * len(parts) and max(recent) < options.stop_loss
        if learned and step + options.cool_steps < end:
            end = step + options.cool_steps  # neurons left at a high rate answer worse than their loss says
            fall = rate / max(1, options.cool_steps)
    return neurons.detach()


def _deal(lessons: Sequence[Lesson], parts: int) -> list[list[Lesson]]:
    """Deal each document's lessons out in turn; one with fewer lessons than parts gets them again."""
    hands: list[list[Lesson]] = [[] for _ in range(parts)]
    documents: dict[int, list[Lesson]] = {}
    for lesson in lessons:
        documents.setdefault(lesson.document, []).append(lesson)
    for own in documents.values():
        for turn in range(max(len(own), parts)):
            hands[turn % parts].append(own[turn % len(own)])
    return hands


class _Part:
    """Lessons that are learned in the same step, with their frozen prefixes and their vocabulary."""

    def __init__(
        self, backbone: Backbone, space: InputSpace, lessons: Sequence[Lesson], count: int, distil: float
    ) -> None:
        self.backbone, self.space = backbone, space
        self.groups = prepare(backbone, lessons, space.layers)
        self.shares = _token_shares(self.groups, count)
        self.distil = distil
        states = teacher_states(backbone, lessons, space.layers) if distil else None
        self.vocabulary = torch.unique(torch.cat([self._likely(g, states) for g in self.groups]))
        self.head = backbone.part(backbone.family.head).weight[self.vocabulary]
        self.teachers = [self._taught(g, states) for g in self.groups]

    @torch.no_grad()
    def _likely(self, group: Prepared, taught: Mapping[int, Tensor] | None = None, best: int = 16) -> Tensor:
        """The targets, and the tokens the plain backbone, or its teacher, finds likeliest at any position."""
        states = band_states(self.backbone, group, self.space.layers, lambda *_: None)
        if taught:
            states = torch.cat([states, *taught.values()])
        logits = self.backbone.part(self.backbone.family.head)(states)
        return torch.cat([group.targets[group.targets != -100], logits.topk(best).indices.flatten()])

    @torch.no_grad()
    def _taught(self, group: Prepared, taught: Mapping[int, Tensor] | None) -> tuple[Tensor, Tensor] | None:
        """Which of the positions with a target have a teacher, [M], and what it says there, [taught, V]."""
        if not taught or not set(taught) & set(group.lessons.flatten().tolist()):
            return None
        numbers = group.lessons[group.targets != -100].tolist()
        has = torch.tensor([n in taught for n in numbers], device=self.head.device)
        told = torch.cat([taught[n] for n in dict.fromkeys(numbers) if n in taught])
        return has, torch.nn.functional.log_softmax((told @ self.head.T).float(), -1)

    def loss(self, acting: Tensor) -> Tensor:
        """Sum over documents of the mean negative log likelihood of their answers."""
        total = acting.new_zeros((), dtype=torch.float32)
        for group, share, teacher in zip(self.groups, self.shares, self.teachers, strict=True):
            delta = own_delta(self.space, acting, group.documents)
            states = band_states(self.backbone, group, self.space.layers, delta)
            targets = torch.searchsorted(self.vocabulary, group.targets[group.targets != -100])
            said = torch.nn.functional.log_softmax((states @ self.head.T).float(), -1)
            losses = -said.gather(1, targets[:, None])[:, 0]
            if teacher is not None:
                has, told = teacher
                apart = (told.exp() * (told - said[has])).sum(-1)
                losses = torch.where(has, (1 - self.distil) * losses, losses)
                losses = losses.index_add(0, has.nonzero()[:, 0], self.distil * apart)
            total = total + (losses * share).sum()
        return total


def teacher_states(backbone: Backbone, lessons: Sequence[Lesson], layers: Sequence[int]) -> dict[int, Tensor]:
    """By number of the lesson: final states [answer, D] of the plain backbone with the passage in its prompt."""
    numbers = [n for n, lesson in enumerate(lessons) if lesson.view]
    viewed = [replace(lessons[n], prompt=lessons[n].view, shared=lessons[n].view_shared) for n in numbers]
    found: dict[int, Tensor] = {}
    for group in prepare(backbone, viewed, layers):
        with torch.no_grad():
            states = band_states(backbone, group, layers, lambda *_: None)
        at = group.lessons[group.targets != -100]
        found |= {numbers[n]: states[at == n] for n in set(at.tolist())}
    return found


def interference(count: int, others: int, weight: float, generator: torch.Generator) -> Tensor:
    """[N, N] with `weight` at `others` randomly drawn other documents in every row, zero elsewhere."""
    draw = torch.rand(count, count, generator=generator).fill_diagonal_(-1.0)
    chosen = draw.topk(min(others, count - 1), dim=1).indices
    return torch.zeros(count, count).scatter_(1, chosen, weight)


def own_delta(space: InputSpace, acting: Tensor, rows: Tensor) -> Delta:
    """Each row e of a batch gets its own neuron `acting[rows[e]]`: [E, T, F] -> + [E, T, D]."""

    def delta(place: int, units: Tensor, output: Tensor) -> Tensor:
        read = space.read(place, units)  # [E, T, R]
        return output + torch.bmm(read, acting[rows, place].to(read.dtype))

    return delta


def _token_shares(groups: Sequence[Prepared], count: int) -> list[Tensor]:
    """Weight of every target so that each document's loss is a weighted mean over its answer tokens."""
    total = torch.zeros(count, device=groups[0].weights.device)
    for group in groups:
        total.index_add_(0, group.documents, group.weights.sum(1))
    return [(group.weights / total[group.documents][:, None])[group.targets != -100] for group in groups]
