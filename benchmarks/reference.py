"""Integrated Gradients as existing scripts compute them: one layer at a time, a full pass over the prompt a step.

What `neurag.robust` has to equal, and what it is timed against. Generous to the reference: logits of the last positions
only, no gradients of parameters, and the backward pass ends at the layer in question. Not here: any of the project's
own attribution code.

    scores, seconds = integrated(backbone, context_ids, question_ids, target, layers=[0, 15, 29], steps=20)
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from neurag.backbone import Backbone
from neurag.hooks import read_input
from neurag.robust.probe import Target


def wide(tensor: Tensor) -> Tensor:
    """In float32 at least: a model in float64 is what rounding is measured against."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def watched(backbone: Backbone, prompt: Sequence[int], target: Target, edits: Mapping[int, Tensor]) -> Tensor:
    """What a target watches, by the model's own pass; `edits`: layer -> its units [A, F] at the last A positions."""
    ids = torch.tensor([[*prompt, *target.said[:-1]]], device=backbone.device)
    count = len(target.said)

    def replaced(wanted: Tensor):
        return lambda _, inputs: (torch.cat([inputs[0][:, :-count], wanted[None].to(inputs[0].dtype)], 1),)

    handles = [backbone.down_projection(n).register_forward_pre_hook(replaced(z)) for n, z in edits.items()]
    try:
        logits = backbone.model(input_ids=ids, use_cache=False, logits_to_keep=count).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    told = wide(logits).log_softmax(-1).gather(1, torch.tensor(target.said, device=ids.device)[:, None])
    return told.sum() if target.whole else told.exp().sum()


@torch.no_grad()
def units_of(backbone: Backbone, prompt: Sequence[int], target: Target) -> Tensor:
    """[L, A, F] what enters each down projection at the last A positions, by the model's own pass."""
    found: list[Tensor] = []
    with ExitStack() as hooks:
        for layer in range(backbone.depth):
            hooks.enter_context(read_input(backbone.down_projection(layer), found.append))
        watched(backbone, prompt, target, {})
    return torch.stack([wide(x[0, -len(target.said) :]) for x in found])


def integrated(
    backbone: Backbone,
    context: Sequence[int],
    question: Sequence[int],
    target: Target,
    layers: Sequence[int],
    steps: int,
) -> tuple[dict[int, Tensor], float]:
    """Scores [F] of some layers, midpoint rule, question baseline; and the seconds they took."""
    begun = time.perf_counter()
    high, low = (units_of(backbone, prompt, target) for prompt in (context, question))
    scores = {}
    for layer in layers:
        change = high[layer] - low[layer]
        total = torch.zeros_like(change)
        for step in range(steps):
            moved = (low[layer] + (step + 0.5) / steps * change).requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(watched(backbone, context, target, {layer: moved}), [moved])
            total += change * slope / steps
        scores[layer] = total.sum(0)
    return scores, time.perf_counter() - begun
