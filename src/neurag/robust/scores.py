"""Scores of units behind one interface: Integrated Gradients, and what costs less.

A score is one small function from a probe to a number for every unit of every layer. Which of them tells what silencing
a unit does is measured, not assumed (truth.py, benchmarks/attribution.py). Not here: sets of units (units.py).

    >>> SCORES["gradient"](probe, MineOptions()).units.shape        # doctest: +SKIP
    torch.Size([30, 1536])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor

from ..config import MineOptions
from ..hooks import on_each, read_output
from .attribution import Scored, by_units, integrated_gradients, rule_of
from .probe import Probe
from .relp import linearised
from .rows import embedded
from .wide import product

Score = Callable[[Probe, MineOptions], Scored]


def gate_ig(probe: Probe, options: MineOptions) -> Scored:
    """All layers scaled together: z is z0 + s (z - z0) in every layer, for s from 0 to 1.

    Each layer's z is that of the stream below, which s has changed, too. A unit's score is the mean over s of
    (z - z0) df/dz; all of them add up to f with all units on minus f with all at their baseline. Another quantity
    than `ig`, for as many rows as there are steps.
    """
    places, weights = (x.to(probe.outs.device) for x in rule_of(options.rule, options.steps))
    tokens = len(probe.tail)
    size = max(1, options.chunk // (tokens * len(probe.outs)))
    scores = torch.zeros(probe.outs.shape[0], probe.units.shape[2], device=probe.outs.device)
    for at in range(0, len(places), size):
        some = slice(at, at + size)
        for layer, (units, slopes) in enumerate(_gated(probe, places[some])[1]):
            change = units - probe.baseline[layer]
            told = change * probe.by_unit(layer, slopes)  # [n, A, F]
            scores[layer] += torch.einsum("n,naf->f", weights[some], told.float())
    off = _gated(probe, places.new_zeros(1))[0]
    return Scored(scores, (probe.value - off).view(1), scores.sum().view(1))


def _gated(probe: Probe, places: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The sum of what is watched over n places s, and per layer z and the slopes behind it, [n, A, F] and [n, A, D]."""
    backbone, dtype = probe.backbone, probe.outs.dtype
    outs: list[Tensor] = []
    units: list[Tensor] = []
    share = places.to(dtype).repeat_interleave(len(probe.tail))[None, :, None]  # a row's tokens are neighbours
    projections = [backbone.down_projection(n) for n in range(backbone.depth)]
    resting = [product(z, p.weight, p.bias) for z, p in zip(probe.baseline, projections, strict=True)]  # type: ignore[arg-type]

    def scaled(place: int, given: Tensor, output: Tensor) -> Tensor:
        units.append(given.detach())
        return share * output + (1 - share) * resting[place].repeat(len(places), 1)

    start = embedded(probe.prompt, probe.tail).expand(len(places), -1, -1)
    with torch.enable_grad(), ExitStack() as hooks:
        hooks.enter_context(on_each(projections, scaled))
        for layer in backbone.layers:
            hooks.enter_context(read_output(layer, outs.append))
        total = probe.watch({-1: start.clone().requires_grad_()}).sum()
        slopes = torch.autograd.grad(total, outs)
    shape = (len(places), len(probe.tail), -1)
    return total.detach(), [(z.view(shape), s.view(shape)) for z, s in zip(units, slopes, strict=True)]


def gradient(probe: Probe, options: MineOptions) -> Scored:
    """(z - z0) df/dz at z: attribution patching (Syed et al. 2023) with the baseline as the other run. One row."""
    return Scored(_at_the_end(probe))


def relp(probe: Probe, options: MineOptions) -> Scored:
    """The same with relevance propagation's slopes: RelP (Jafari et al. 2025), rules in relp.py. One row."""
    with linearised(probe.backbone):
        return Scored(_at_the_end(probe))


def _at_the_end(probe: Probe) -> Tensor:
    outs: list[Tensor] = []
    with torch.enable_grad(), ExitStack() as hooks:
        for layer in probe.backbone.layers:
            hooks.enter_context(read_output(layer, outs.append))
        total = probe.watch({-1: embedded(probe.prompt, probe.tail).requires_grad_()}).sum()
        slopes = torch.autograd.grad(total, outs)
    return torch.stack([by_units(probe, layer, slope[0].float()) for layer, slope in enumerate(slopes)])


def contrast(probe: Probe, options: MineOptions) -> Scored:
    """|z - z0|: how much the context moves a unit. No gradient, no target and no sign."""
    return Scored((probe.units - probe.baseline).float().abs().sum(1))


def norm(probe: Probe, options: MineOptions) -> Scored:
    """|z| times the length of the unit's output vector, as Wanda (Sun et al. 2024) prunes by. No target, no sign."""
    depth = range(len(probe.units))
    lengths = torch.stack([torch.linalg.vector_norm(probe.weight(n), dim=0, dtype=torch.float32) for n in depth])
    return Scored(probe.units.float().abs().sum(1) * lengths)


SCORES: Mapping[str, Score] = {
    "ig": integrated_gradients,
    "gate_ig": gate_ig,
    "gradient": gradient,
    "relp": relp,
    "contrast": contrast,
    "norm": norm,
}
UNSIGNED = frozenset({"contrast", "norm"})
"""Scores that say how much, not in which direction."""
