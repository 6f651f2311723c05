"""Fusion: how the active neurons' outputs become one.

Because all neurons read the same A (x - mu), adding outputs is adding B: the cost of a forward pass does not
depend on how many neurons are active. A rule is one small function from weights to weights. Not here: how the
weights come about (routing.py).

    >>> fuse([neuron_a, neuron_b], RULES["unit_scale"]((1.0, 0.3)))     # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

Rule = Callable[[Sequence[float]], tuple[float, ...]]


def unit_scale(weights: Sequence[float]) -> tuple[float, ...]:
    """The best neuron acts at full strength, the others at their attention relative to it (the default).

    A neuron was trained at unit scale; halving it drops its accuracy from 0.82 to 0.49.
    """
    return tuple(weights)


def plain_sum(weights: Sequence[float]) -> tuple[float, ...]:
    """Every active neuron at full strength: PRAG's fusion (Su et al. 2025)."""
    return tuple(1.0 for _ in weights)


def mean(weights: Sequence[float]) -> tuple[float, ...]:
    """Every active neuron at 1/K."""
    return tuple(1.0 / len(weights) for _ in weights)


RULES: Mapping[str, Rule] = {"unit_scale": unit_scale, "sum": plain_sum, "mean": mean}


def fuse(neurons: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i a_i B_i: K tensors [L, R, D] -> [L, R, D]."""
    total = weights[0] * neurons[0]
    for weight, neuron in zip(weights[1:], neurons[1:], strict=True):
        total = total.add_(neuron, alpha=weight)
    return total
