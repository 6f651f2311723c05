"""Packing: a frozen model's linear weights laid out once for the processor's matrix kernels.

A CPU matrix kernel wants its weights in blocks, and without packing every call rearranges them first: at one
token that costs more than the product itself. Packed copies give the same numbers, bit for bit, in half the
time a token (docs/results.md), for as many bytes again. Not here: any change of precision. Passes that need
gradients, devices other than the CPU, and weights changed since they were packed take the usual way.

    >>> layer = nn.Linear(64, 64, bias=False).requires_grad_(False)
    >>> before = layer(torch.ones(1, 64))
    >>> pack(layer)
    True
    >>> torch.equal(layer(torch.ones(1, 64)), before)
    True
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LARGEST = 2 * 2**30
"""Bytes of weights up to which a model is packed: the copies double what they take in memory."""
FORMATS = (torch.float32, torch.bfloat16)


class PackedLinear(nn.Linear):
    """A linear layer that keeps a second, rearranged copy of its weights outside its state."""

    packed: Tensor
    packed_version: int

    def repack(self) -> None:
        """Copy the weights as they are now."""
        self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), 1)
        self.packed_version = self.weight._version

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if torch.is_grad_enabled() or self.weight._version != self.packed_version or input.dtype != self.weight.dtype:
            return super().forward(input)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, "none", [], "")
        return out


def pack(model: nn.Module) -> bool:
    """Pack every plain linear layer of a model on the CPU; False, and nothing done, where that is not possible."""
    layers = [m for m in model.modules() if type(m) is nn.Linear]
    size = sum(m.weight.numel() * m.weight.element_size() for m in layers)
    if size > LARGEST or not layers or not _supported(layers[0].weight):
        return False
    for layer in layers:
        layer.__class__ = PackedLinear
        layer.repack()  # type: ignore[operator]
    return True


def _supported(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or weight.dtype not in FORMATS or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:  # the operators are torch's own but not public: a torch without them works, slower
        once = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
        x = torch.ones(1, weight.shape[1], dtype=weight.dtype)
        torch.ops.mkldnn._linear_pointwise(x, once, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return True
