"""Which units stage 1 acts on and which layers stage 2 tunes, from mined sets and from chance.

The random controls are matched: as many units in each layer, as many layers. Not here: mining (mining.py), and what is
done with the choice.

    >>> units = Units(depth=4, width=10, relevant=frozenset({1, 21, 22, 31}), irrelevant=frozenset({5, 31}))
    >>> choose_layers(units, 4, HardenOptions(layer_count=1)), sorted(choose_units(units, HardenOptions()))
    ([2], [5])
"""

from __future__ import annotations

import random

from ..config import NeuragError, UsageError
from .options import HardenOptions
from .units import Units, matched


def choose_units(units: Units | None, options: HardenOptions) -> frozenset[int]:
    """What stage 1 acts on. Raises NeuragError where mining left nothing to act on."""
    if options.units == "none":
        return frozenset()
    sets = _needed(units)
    chosen = sets.only_relevant if options.units == "relevant" else sets.only_irrelevant
    if not chosen:
        kind = "relevant" if options.units == "relevant" else "irrelevant"
        raise NeuragError(
            f"no unit is exclusive to {kind} contexts: mine more questions (--mine.limit) or ask for fewer --votes"
        )
    if options.units != "random":
        return chosen
    return matched(chosen, sets.width, options.seed, avoid=sets.relevant | sets.irrelevant)


def choose_layers(units: Units | None, depth: int, options: HardenOptions) -> list[int]:
    """What stage 2 tunes, bottom first; nothing where it tunes nothing. Raises UsageError for too many layers."""
    if options.layers == "none" or options.trains != "ffn":
        return []
    count = options.layer_count
    if count > depth:
        raise UsageError(f"--layer-count is {count}, and the model has {depth} layers")
    if options.layers == "last":
        return list(range(depth - count, depth))
    if options.layers == "random":
        return sorted(random.Random(f"layers {options.seed}").sample(range(depth), count))
    sets = _needed(units)
    told = sets.by_layer(sets.only_relevant if options.layers == "relevant" else sets.only_irrelevant)
    if not any(told):
        raise NeuragError(
            f"no unit is exclusive to {options.layers} contexts: mine more questions (--mine.limit) or ask for fewer "
            "--votes, or choose --layers last"
        )
    densest = sorted(range(depth), key=lambda layer: (-len(told[layer]), layer))
    return sorted(densest[:count])


def _needed(units: Units | None) -> Units:
    if units is None:
        raise UsageError("this choice needs mined units: mine them first (`neurag mine`)")
    return units
