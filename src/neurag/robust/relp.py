"""RelP's backward pass: the model linearised at its activations, as layer-wise relevance propagation does.

Rules of RelP (Jafari et al. 2025, arXiv 2508.21258), as far as its summary tells us: a norm's denominator and the
attention pattern are constants, SiLU is the line through zero and its value, and of a product of two branches (the
gated FFN) each gets half. Forward values stay as they are. Here only what lies above a row's own layer is linearised,
at the row's positions; the prompt is constant anyway. Not here: scores (scores.py).

    >>> with linearised(backbone):                               # doctest: +SKIP
    ...     torch.autograd.grad(probe.watch(rows).sum(), outs)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..hooks import on_each


@contextmanager
def linearised(backbone: Backbone) -> Iterator[None]:
    """Backward passes inside see the rules above."""
    inside = [(name.rpartition(".")[2], module) for layer in backbone.layers for name, module in layer.named_modules()]
    norms = [m for _, m in inside if hasattr(m, "variance_epsilon")] + [backbone.part(backbone.family.norm)]
    attention = [m for name, m in inside if name in ("q_proj", "k_proj")]
    gates = [m for name, m in inside if name == "act_fn"]
    products: list[nn.Module] = [backbone.down_projection(n) for n in range(backbone.depth)]

    def scaled_only(place: int, given: Tensor, output: Tensor) -> Tensor:
        norm = norms[place]
        size = (given.detach().float().square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
        return _valued(output, norm.weight * (given * size.to(given.dtype)))

    def line_through_zero(_: int, given: Tensor, output: Tensor) -> Tensor:
        return _valued(output, given * torch.sigmoid(given.detach()))

    with (
        on_each(norms, scaled_only),
        on_each(attention, lambda _, given, output: output.detach()),
        on_each(gates, line_through_zero),
        on_each(products, lambda _, given, output: _valued(output, output / 2)),
    ):
        yield


def _valued(output: Tensor, slope: Tensor) -> Tensor:
    """The value of the first with the gradient of the second."""
    return output.detach() + slope - slope.detach()
