"""Sets of units: which of them process relevant contexts, which irrelevant ones, which both.

Of every context the units with the highest scores are kept; a unit that enough contexts of a kind have kept is in that
kind's set: relevant R, irrelevant I, shared S = R and I, and exclusive R* = R without I, I* = I without R. How firm the
sets are is told by the halves of the contexts: the share of units that both halves agree on. A unit is one coordinate
of what enters a layer's down projection; F l + i numbers unit i of layer l. Not here: scores (scores.py), pictures.

    >>> found = Units(depth=2, width=10, relevant=frozenset({3, 15}), irrelevant=frozenset({15, 16}))
    >>> found.by_layer(found.only_irrelevant)
    [[], [6]]
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import NeuragError
from ..files import write_whole

FILE = "units.json"
NONE = -1
"""Stands in a kept list for a unit that there was not."""


@dataclass(frozen=True)
class Units:
    """R and I of a model of `depth` layers with `width` units each."""

    depth: int
    width: int
    relevant: frozenset[int]
    irrelevant: frozenset[int]

    @property
    def shared(self) -> frozenset[int]:
        """S: in both."""
        return self.relevant & self.irrelevant

    @property
    def only_relevant(self) -> frozenset[int]:
        """R*."""
        return self.relevant - self.irrelevant

    @property
    def only_irrelevant(self) -> frozenset[int]:
        """I*."""
        return self.irrelevant - self.relevant

    def by_layer(self, units: Iterable[int]) -> list[list[int]]:
        """The units of each layer, counted within it, in order."""
        told: list[list[int]] = [[] for _ in range(self.depth)]
        for number in sorted(units):
            told[number // self.width].append(number % self.width)
        return told


def top_units(scores: Tensor, keep: int, sign: str = "positive") -> Tensor:
    """[keep] numbers of the units with the highest scores [L, F], best first; NONE where no score is left above zero.

    `sign`: positive, negative (the lowest below zero) or absolute.
    """
    told = {"positive": scores, "negative": -scores, "absolute": scores.abs()}[sign].flatten()
    best = told.topk(min(keep, len(told)))
    kept = torch.full((keep,), NONE, dtype=torch.int32)
    kept[: len(best.indices)] = torch.where(best.values > 0, best.indices, NONE).int().cpu()
    return kept


def voted(kept: Tensor, share: float) -> frozenset[int]:
    """Units that a share of the lists [n, K] hold, and two lists at least; nothing of no lists."""
    if not len(kept):
        return frozenset()
    counts = Counter(kept[kept != NONE].tolist())
    return frozenset(number for number, count in counts.items() if count >= max(2.0, share * len(kept)))


def sets_of(kept: Mapping[str, Tensor], share: float, depth: int, width: int) -> Units:
    """Units from the lists of "relevant" and "irrelevant" contexts, [n, K] each."""
    return Units(depth, width, voted(kept["relevant"], share), voted(kept["irrelevant"], share))


def stability(
    kept: Mapping[str, Tensor], share: float, depth: int, width: int, seeds: int = 5
) -> dict[str, float | None]:
    """Mean Jaccard similarity over `seeds` of the sets of two random halves of the contexts; None if all are empty."""
    found: dict[str, list[float]] = {"relevant": [], "irrelevant": [], "only_relevant": [], "only_irrelevant": []}
    for seed in range(seeds):
        halves = [sets_of(half, share, depth, width) for half in _halves(kept, seed)]
        for name, values in found.items():
            one, other = (getattr(half, name) for half in halves)
            values += [len(one & other) / len(one | other)] if one | other else []
    return {name: round(sum(values) / len(values), 4) if values else None for name, values in found.items()}


def _halves(kept: Mapping[str, Tensor], seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    parts: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for role, lists in kept.items():
        order = random.Random(f"{seed} {role}").sample(range(len(lists)), len(lists))
        for part, half in zip(parts, (order[::2], order[1::2]), strict=True):
            part[role] = lists[half]
    return parts


def save_units(units: Units, path: Path, told: Mapping[str, Any]) -> None:
    """Write a report: what `told` says of the run, and per layer relevant, irrelevant, shared, exclusive units."""
    names = ("relevant", "irrelevant", "shared", "only_relevant", "only_irrelevant")
    parts = {name: units.by_layer(getattr(units, name)) for name in names}
    layers = [
        {
            "layer": layer,
            "relevant": parts["relevant"][layer],
            "irrelevant": parts["irrelevant"][layer],
            "shared": parts["shared"][layer],
            "exclusive": {"relevant": parts["only_relevant"][layer], "irrelevant": parts["only_irrelevant"][layer]},
        }
        for layer in range(units.depth)
    ]
    counts = {name: len(getattr(units, name)) for name in names}
    report = {**told, "depth": units.depth, "width": units.width, "counts": counts, "layers": layers}
    write_whole(path, json.dumps(report, indent=1) + "\n")


def load_units(path: Path) -> tuple[Units, dict[str, Any]]:
    """Read a report back, with all it says. Raises NeuragError where there is none, or another file."""
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        width, layers = int(told["width"]), told["layers"]
        relevant, irrelevant = (
            frozenset(width * one["layer"] + unit for one in layers for unit in one[name])
            for name in ("relevant", "irrelevant")
        )
        return Units(int(told["depth"]), width, relevant, irrelevant), told
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NeuragError(f"{path} is no report of units ({error}): make one with `neurag mine`") from None


def matched(units: Collection[int], width: int, seed: int, avoid: Collection[int] = ()) -> frozenset[int]:
    """As many other units of each layer, drawn at random: the control of every set. F l + i numbers unit i of layer l.

    >>> sorted(n // 10 for n in matched({3, 4, 27}, width=10, seed=0))
    [0, 0, 2]

    None that is to be avoided, as long as the layer has others; where it has too few, all of them.
    """
    drawn, taken, spared = random.Random(seed), set(units), set(avoid)
    found: set[int] = set()
    for layer, count in sorted(Counter(number // width for number in taken).items()):
        others = [n for n in range(layer * width, (layer + 1) * width) if n not in taken]
        free = [n for n in others if n not in spared]
        others = free if len(free) >= count else others
        found.update(drawn.sample(others, min(count, len(others))))
    return frozenset(found)
