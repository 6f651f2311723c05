"""The encoder: many documents' neurons trained together, each row of a batch with its own B.

Per document the loss is the mean negative log likelihood of its answers, weighted by lesson. In every second
step other documents' neurons of the batch are added at a fraction of their strength (and get no gradient), so
that a neuron learns to speak while weaker ones are active beside it. Not here: the frozen-prefix arithmetic
(band.py), the texts (augmentation.py), the bank.

    >>> neurons = train_neurons(backbone, space, lessons, count=12, options=EncodeOptions())  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..backbone import Backbone
from ..config import EncodeOptions
from .band import Delta, Lesson, Prepared, band_logits, prepare
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
    groups = prepare(backbone, lessons, space.layers)
    shares = _token_shares(groups, count)
    optimiser = torch.optim.Adam([neurons], lr=options.learning_rate)
    for step in range(options.steps):
        optimiser.param_groups[0]["lr"] = options.learning_rate * (1 - step / options.steps)
        optimiser.zero_grad()
        cast = neurons.to(backbone.dtype)
        acting = cast
        if step % 2 and options.interference and count > 1:
            mix = interference(count, options.interferers, options.interference, generator)
            acting = cast + torch.einsum("ij,jlrd->ilrd", mix.to(cast), cast.detach())
        losses = [_loss(backbone, space, group, acting, share) for group, share in zip(groups, shares, strict=True)]
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return neurons.detach()


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
        tokens = (group.targets != -100).sum(1) * group.weights
        total.index_add_(0, group.documents, tokens)
    return [
        (group.weights / total[group.documents])[:, None].expand_as(group.targets)[group.targets != -100]
        for group in groups
    ]


def _loss(backbone: Backbone, space: InputSpace, group: Prepared, acting: Tensor, share: Tensor) -> Tensor:
    logits = band_logits(backbone, group, space.layers, own_delta(space, acting, group.documents))
    targets = group.targets[group.targets != -100]
    return (torch.nn.functional.cross_entropy(logits, targets, reduction="none") * share).sum()
