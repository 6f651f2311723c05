"""Many units silenced together: deletion and insertion curves.

Silenced means set to the probe's baseline, in every layer at once; units that are not silenced take what the changed
stream below gives them. Deletion silences the units with the highest scores first: a faithful score makes what is
watched fall fast. Insertion begins with all units silenced and lets the highest come back first. Variants are rows over
one cached prompt (rows.py). Not here: single units (truth.py).

    >>> deletion(probe, scored.units, [0, 10, 100])                     # doctest: +SKIP
    tensor([0.3100, 0.1200, 0.0300])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..hooks import on_each
from .probe import Probe
from .rows import embedded
from .wide import product


@torch.no_grad()
def silenced(probe: Probe, masks: Tensor) -> Tensor:
    """[n] what is watched when the units in each mask [n, L, F] are at their baseline, at every position of a row."""
    backbone, count = probe.backbone, len(masks)

    def quiet(place: int, given: Tensor, output: Tensor) -> Tensor | None:
        chosen = masks[:, place, None].to(given.device)  # [n, 1, F]
        if not chosen.any():
            return None
        units = given.view(count, len(probe.tail), -1)
        change = torch.where(chosen, probe.baseline[place] - units, 0)
        return output + product(change, probe.weight(place)).view(output.shape)

    with on_each([backbone.down_projection(n) for n in range(backbone.depth)], quiet):
        return probe.watch({-1: embedded(probe.prompt, probe.tail).expand(count, -1, -1)})


def deletion(probe: Probe, scores: Tensor, counts: Sequence[int]) -> Tensor:
    """[n] what is watched with the first of the units by score [L, F] silenced, for each count."""
    return silenced(probe, first_units(scores, counts))


def insertion(probe: Probe, scores: Tensor, counts: Sequence[int]) -> Tensor:
    """[n] what is watched with all units silenced but the first by score [L, F], for each count."""
    return silenced(probe, ~first_units(scores, counts))


def first_units(scores: Tensor, counts: Sequence[int]) -> Tensor:
    """Masks [n, L, F] of the units with the highest scores [L, F], for each count."""
    order = scores.flatten().argsort(descending=True)
    masks = torch.zeros(len(counts), len(order), dtype=torch.bool, device=scores.device)
    for mask, count in zip(masks, counts, strict=True):
        mask[order[:count]] = True
    return masks.view(len(counts), *scores.shape)
