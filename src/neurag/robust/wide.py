"""Products in float32 with weights that stay in bfloat16: what small differences need, without a second model.

A bfloat16 number has three digits, and a logit of 20 is rounded to the next eighth: differences between near-equal
rows drown. So rows are float32, and a weight is widened while it is multiplied, in the backward pass once more; only
the narrow one is kept. Not here: what the rows are (rows.py). Weights must be frozen: they get no gradient.

    >>> weight = torch.eye(2, dtype=torch.bfloat16)
    >>> product(torch.tensor([[1.0009, 2.0]]), weight)
    tensor([[1.0009, 2.0000]])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

VOCABULARY, ROWS = 8192, 128
"""Entries of the vocabulary that are widened at once, and rows whose logits are there at once."""


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        wide = None if bias is None else bias.to(states.dtype)
        return nn.functional.linear(states, weight.to(states.dtype), wide)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return grads[0] @ weight.to(grads[0].dtype), None, None


def product(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., in] by a weight [out, in] -> [..., out], in the format of the states."""
    told: Tensor = _Product.apply(states, weight, bias)  # type: ignore[no-untyped-call]
    return told


@contextmanager
def widened(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let the linear layers among the modules and inside them take states of any format, and answer in it."""
    found = [m for module in modules for m in module.modules() if isinstance(m, nn.Linear)]
    try:
        for linear in found:
            linear.__dict__["forward"] = _any_format(linear)
        yield
    finally:
        for linear in found:
            linear.__dict__.pop("forward", None)


def _any_format(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    own = linear.forward
    return lambda x: own(x) if x.dtype == linear.weight.dtype else product(x, linear.weight, linear.bias)


class _LogProbability(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        out, slope = torch.empty(len(states), device=states.device), torch.empty(0)
        if ctx.needs_input_grad[0]:
            slope = weight[targets].float()
        parts = [(weight[first : first + VOCABULARY], first) for first in range(0, len(weight), VOCABULARY)]
        for at in range(0, len(states), ROWS):
            rows = slice(at, at + ROWS)
            told = states[rows].float()
            logits = torch.empty(len(told), len(weight), device=told.device)
            for part, first in parts:
                logits[:, first : first + len(part)] = told @ part.float().T
            total = logits.logsumexp(1, keepdim=True)
            out[rows] = (logits.gather(1, targets[rows, None]) - total)[:, 0]
            if ctx.needs_input_grad[0]:
                chances = logits.sub_(total).exp_()
                for part, first in parts:
                    slope[rows] -= chances[:, first : first + len(part)] @ part.float()
        ctx.save_for_backward(slope)
        ctx.format = states.dtype
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (grads[0][:, None] * slope).to(ctx.format), None, None


def log_probability(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """[N] log-probability of each row's target token, always in float32; logits are there for some rows at a time.

    `states` [N, D] behind the final norm, `weight` [V, D] of the head, `targets` [N]. The gradient is made on the way
    up, while the logits are there, so nothing of the vocabulary's size is kept.
    """
    told: Tensor = _LogProbability.apply(states, weight, targets)  # type: ignore[no-untyped-call]
    return told
