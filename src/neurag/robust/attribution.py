"""Integrated Gradients (Sundararajan et al. 2017) of all units of all layers, exactly, for about two passes' work.

    IG_l,i = (z - z0)_l,i * mean over alpha of d f(z_l = z0_l + alpha (z_l - z0_l)) / d z_l,i

z is the gated product entering layer l's down projection at the last prompt token, f what the probe watches. Each layer
moves alone, the stream entering its FFN stays that of the context. All (layer, alpha) variants are rows over one cached
prompt (rows.py); existing scripts run a forward and a backward pass over the whole prompt for each. Completeness says
how good the rule is: a layer's scores add up to f(z) - f(z0), and their error is returned with them.

Rows, slopes and sums are float32 whatever the backbone's format is, softmax and probabilities always; `precision` can
give that up. Not here: scores that cost less (scores.py).

    >>> told = integrated_gradients(probe, MineOptions(steps=20))            # doctest: +SKIP
    >>> told.units.shape, round(told.completeness_error, 3)                  # doctest: +SKIP
    (torch.Size([30, 1536]), 0.001)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from ..config import MineOptions, UsageError
from .probe import Probe


@dataclass(frozen=True)
class Scored:
    """What one probe says of every unit."""

    units: Tensor
    """[L, F] float32; positive: the context's activation raises what is watched."""
    difference: Tensor | None = None
    """What parts of the scores should add up to: [L] where each layer moves alone, [1] where all move; None where a
    score promises nothing."""
    added: Tensor | None = None
    """What they add up to, of the same shape."""

    @property
    def completeness_error(self) -> float | None:
        """sum |added - difference| / sum |difference| over layers."""
        if self.difference is None or self.added is None:
            return None
        whole = float(self.difference.abs().sum())
        return float((self.added - self.difference).abs().sum()) / whole if whole else 0.0


def rule_of(name: str, steps: int) -> tuple[Tensor, Tensor]:
    """Places in 0..1 and weights, [steps] each, of a rule that integrates: midpoint or gauss (Gauss-Legendre).

    >>> rule_of("midpoint", 2)
    (tensor([0.2500, 0.7500]), tensor([0.5000, 0.5000]))

    Raises UsageError for another name and for less than one step.
    """
    if steps < 1:
        raise UsageError(f"--steps must be at least 1, not {steps}")
    if name == "midpoint":
        return (torch.arange(steps) + 0.5) / steps, torch.full((steps,), 1 / steps)
    if name == "gauss":
        places, weights = np.polynomial.legendre.leggauss(steps)
        return torch.tensor((places + 1) / 2).float(), torch.tensor(weights / 2).float()
    raise UsageError(f"there is no rule {name!r}: choose midpoint or gauss")


def integrated_gradients(probe: Probe, options: MineOptions) -> Scored:
    """Scores [L, F] by the formula above, `options.steps` rows a layer; the positions of an answer are summed."""
    places, weights = (x.to(probe.outs.device) for x in rule_of(options.rule, options.steps))
    depth, tokens, _ = probe.outs.shape
    slopes = torch.zeros(probe.outs.shape, dtype=torch.float32, device=probe.outs.device)
    for piece in pieces(depth, options.steps, tokens, options.chunk):
        joining = {layer: _moved(probe, layer, places[steps]).requires_grad_() for layer, steps in piece}
        with torch.enable_grad():
            total = probe.watch(joining).sum()
        for (layer, steps), slope in zip(piece, torch.autograd.grad(total, list(joining.values())), strict=True):
            slopes[layer] += torch.einsum("n,nad->ad", weights[steps], slope.float())
    scores = torch.stack([by_units(probe, layer, slope) for layer, slope in enumerate(slopes)])
    return Scored(scores, differences(probe, options.chunk), scores.sum(1))


def by_units(probe: Probe, layer: int, slopes: Tensor) -> Tensor:
    """[F] (z - z0) times the slopes [A, D] behind a layer carried back to its units, summed over positions."""
    change = (probe.units[layer] - probe.baseline[layer]).float()
    return (change * probe.by_unit(layer, slopes)).sum(0)


@torch.no_grad()
def differences(probe: Probe, chunk: int) -> Tensor:
    """[L] f(z) - f(z0_l): how much the units of each layer, moved alone, change what is watched."""
    depth, tokens, _ = probe.outs.shape
    zero = torch.zeros(1, device=probe.outs.device)
    parts = [
        probe.watch({layer: _moved(probe, layer, zero) for layer, _ in piece})
        for piece in pieces(depth, 1, tokens, chunk)
    ]
    return probe.value - torch.cat(parts)


def _moved(probe: Probe, layer: int, places: Tensor) -> Tensor:
    """[n, A, D] the stream behind a layer with its units at z0 + alpha (z - z0), for n places alpha."""
    away = (1 - places).to(probe.outs.dtype)[:, None, None]
    return probe.outs[layer] + away * probe.shift[layer]


def pieces(depth: int, steps: int, tokens: int, chunk: int) -> Iterator[Sequence[tuple[int, slice]]]:
    """Cut all (layer, step) rows, bottom layer first, into pieces of bounded memory: (layer, its steps).

    A row keeps the activations of its A tokens for every layer above it: their number is at most `chunk` in a piece,
    which has one row at least. Sorted by layer, pieces of the upper layers are large and never touch the lower ones.
    """
    held: list[tuple[int, int]] = []
    spent = 0
    for row in ((layer, step) for layer in range(depth) for step in range(steps)):
        cost = tokens * (depth - row[0])
        if held and spent + cost > chunk:
            yield _by_layer(held)
            held, spent = [], 0
        held.append(row)
        spent += cost
    if held:
        yield _by_layer(held)


def _by_layer(rows: Sequence[tuple[int, int]]) -> list[tuple[int, slice]]:
    groups = [(layer, [step for _, step in group]) for layer, group in groupby(rows, key=lambda row: row[0])]
    return [(layer, slice(steps[0], steps[-1] + 1)) for layer, steps in groups]
