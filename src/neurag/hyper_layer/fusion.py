"""Fusion: how the active neurons become one.

Because all neurons read the same A (x - mu), adding outputs is adding B: the cost of a forward pass does not
depend on how many neurons are active. A rule is one small function from K neurons [L, R, D] and their attention
weights [K] to one neuron [L, R, D] of its own; `RouteOptions.fusion` names it. Not here: how the weights come about
(routing.py), and the fusion of other systems' LoRA, each with an A of its own (evaluation/fusing.py).

    >>> rule("mean")([neuron_a, neuron_b], (1.0, 0.3))     # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from ..config import UsageError

Rule = Callable[[Sequence[Tensor], Sequence[float]], Tensor]


def unit_scale(neurons: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i a_i B_i: the best neuron at full strength, the others at their attention relative to it (the default).

    A neuron was trained at unit scale; halving it drops its accuracy from 0.82 to 0.49.
    """
    total = weights[0] * neurons[0]
    for weight, neuron in zip(weights[1:], neurons[1:], strict=True):
        total = total.add_(neuron, alpha=weight)
    return total


def plain_sum(neurons: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i B_i: every active neuron at full strength, as PRAG adds its adapters (Su et al., SIGIR 2025)."""
    return unit_scale(neurons, [1.0] * len(weights))


def mean(neurons: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """(1/K) sum_i B_i: every active neuron at an equal share of the strength."""
    return unit_scale(neurons, [1.0 / len(weights)] * len(weights))


def top1(neurons: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """a_1 B_1: the best neuron alone, as a hard choice of one expert (Fedus et al., Switch Transformers, 2022)."""
    best = max(range(len(weights)), key=lambda i: weights[i])
    return weights[best] * neurons[best]


def separate_means(neurons: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """mean(B) mean(A), DyPRAG's fusion (Tan et al. 2025). Our neurons share one A, so it is the mean.

    What it does to adapters with an A of their own is `fuse_means` in evaluation/fusing.py.
    """
    return mean(neurons, weights)


def orthogonalised(neurons: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i a_i B'_i, where each weaker neuron has lost its part along the stronger ones, so that it cannot undo what
    they say: Gram-Schmidt over B as a vector of R D numbers, layer by layer, strongest first. Ours; equal neurons
    count once.
    """
    order = sorted(range(len(weights)), key=lambda i: -weights[i])
    apart: list[Tensor] = []  # [L, R * D] each
    for i in order:
        left = neurons[i].flatten(1)
        for stronger in apart:
            length = stronger.square().sum(1, keepdim=True).clamp(min=1e-12)
            left = left - (left * stronger).sum(1, keepdim=True) / length * stronger
        apart.append(left)
    return unit_scale([x.reshape(neurons[0].shape) for x in apart], [weights[i] for i in order])


RULES: Mapping[str, Rule] = {
    "unit_scale": unit_scale,
    "sum": plain_sum,
    "mean": mean,
    "top1": top1,
    "dyprag": separate_means,
    "orthogonalised": orthogonalised,
}


def rule(name: str) -> Rule:
    """The rule of that name. Raises UsageError for a name that is none."""
    if name not in RULES:
        raise UsageError(f"there is no fusion rule {name!r}: choose among {', '.join(RULES)}")
    return RULES[name]
