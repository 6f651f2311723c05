"""The truth that scores are judged by: what happens to what is watched when one unit is set to its baseline.

Again rows over the cached prompt (rows.py), now without gradients, so thousands of units are affordable. A score is
judged by its rank correlation with these effects, and by how many of the strongest units it names. Not here: scores.

    >>> picks = sample_units(30, 1536, 2000, seed=0)                        # doctest: +SKIP
    >>> spearman(scored.units[picks[:, 0], picks[:, 1]], ablated(probe, picks))      # doctest: +SKIP
    0.91
"""

from __future__ import annotations

import torch
from torch import Tensor

from .probe import Probe

ROWS = 256
"""Units silenced in one climb."""


def sample_units(depth: int, width: int, count: int, seed: int) -> Tensor:
    """[n, 2] layers and units, drawn without return from all, lowest layer first; n is `count` or all there are."""
    drawn = torch.randperm(depth * width, generator=torch.Generator().manual_seed(seed))[:count].sort().values
    return torch.stack([drawn // width, drawn % width], 1)


@torch.no_grad()
def ablated(probe: Probe, picks: Tensor) -> Tensor:
    """[n] how much is lost when one unit alone is set to its baseline, at every position of a row: f(z) - f(z without).

    `picks` [n, 2]: layers and units, lowest layer first. Positive: the context's activation of the unit helps.
    """
    size = max(1, ROWS // len(probe.tail))
    return torch.cat([_lost(probe, picks[at : at + size]) for at in range(0, len(picks), size)])


def _lost(probe: Probe, picks: Tensor) -> Tensor:
    joining = {}
    for layer in sorted(set(picks[:, 0].tolist())):
        units = picks[picks[:, 0] == layer, 1].to(probe.outs.device)
        change = (probe.baseline[layer] - probe.units[layer])[:, units]  # [A, n]
        outputs = probe.weight(layer)[:, units].to(change.dtype)  # [D, n]
        joining[layer] = probe.outs[layer] + torch.einsum("an,dn->nad", change, outputs)
    return probe.value - probe.watch(joining)


def spearman(one: Tensor, other: Tensor) -> float:
    """Rank correlation of two lists [n], ties at their mean rank; 0 where one of them is constant."""
    ranks = torch.stack([_ranks(one), _ranks(other)])
    told = float(torch.corrcoef(ranks)[0, 1])
    return told if told == told else 0.0


def top_overlap(one: Tensor, other: Tensor, count: int) -> float:
    """Share of the `count` strongest (by size) in one list that are among the `count` strongest in the other."""
    best = [set(x.abs().topk(min(count, len(x))).indices.tolist()) for x in (one, other)]
    return len(best[0] & best[1]) / len(best[0])


def _ranks(values: Tensor) -> Tensor:
    told = values.detach().cpu().double()
    order = told.sort().values
    return (torch.searchsorted(order, told) + torch.searchsorted(order, told, right=True)).double() / 2
