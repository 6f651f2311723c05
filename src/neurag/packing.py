"""Packing: matrices that stay, a frozen model's linear weights first, laid out once for the processor's kernels.

A CPU matrix kernel wants its weights in blocks, and without packing every call rearranges them first: at one
token that costs more than the product itself. Packed copies give the same numbers (in bfloat16 bit for bit, in
float32 up to rounding) in less time, for as many bytes again. Not here: any change of precision. Passes that need
gradients, other devices and formats, and weights changed or moved since they were packed take the usual way;
changes behind autograd's back (`weight.data += ...`) are not seen.

    >>> layer = nn.Linear(64, 64, bias=False).requires_grad_(False)
    >>> before = layer(torch.ones(1, 64))
    >>> pack(layer)
    True
    >>> with torch.no_grad():
    ...     torch.allclose(layer(torch.ones(1, 64)), before)
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

    packed: _Packed

    def repack(self) -> None:
        """Copy the weights as they are now."""
        self.packed = _Packed(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        if torch.is_grad_enabled() or input.dtype != self.weight.dtype or not self.packed.copies(self.weight):
            return super().forward(input)
        return _product(input, self.packed.blocks, self.bias)


class PackedMatrix:
    """A matrix [n, k] for products of its rows with a few vectors [T, k] at a time; the matrix itself is not kept.

    >>> PackedMatrix(torch.eye(3))(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 2., 3.]])
    """

    def __init__(self, matrix: Tensor) -> None:
        self.shape, self.dtype = matrix.shape, matrix.dtype
        self._packed = matrix.numel() > 0 and _packable(matrix) and _supported(matrix)
        self._held = _Packed(matrix).blocks if self._packed else matrix

    @torch.no_grad()
    def __call__(self, vectors: Tensor) -> Tensor:
        """[T, k] -> [T, n] in the matrix's format."""
        vectors = vectors.to(self.dtype)
        return _product(vectors, self._held, None) if self._packed else vectors @ self._held.T


class _Packed:
    """The rearranged copy, and which weights it is a copy of. Copies of a model share it."""

    def __init__(self, weight: Tensor) -> None:
        self.blocks: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 1)
        self._of = weight._version, weight.data_ptr()

    def copies(self, weight: Tensor) -> bool:
        return self._of == (weight._version, weight.data_ptr())

    def __deepcopy__(self, memo: object) -> _Packed:
        return self


def pack(model: nn.Module) -> bool:
    """Pack every plain linear layer of a model on the CPU, those packed before once more; False, and nothing done,
    where that is not possible."""
    layers: list[nn.Linear] = [m for m in model.modules() if type(m) in (nn.Linear, PackedLinear)]  # type: ignore[misc]
    size = sum(m.weight.numel() * m.weight.element_size() for m in layers)
    if size > LARGEST or not layers or not all(_packable(m.weight) for m in layers) or not _supported(layers[0].weight):
        return False
    for layer in layers:
        layer.__class__ = PackedLinear
        layer.repack()  # type: ignore[operator]
    return True


def _product(input: Tensor, blocks: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(input, blocks, bias, "none", [], "")
    return out


def _packable(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype in FORMATS and not weight.is_inference()


def _supported(weight: Tensor) -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:  # the operators are torch's own but not public: a torch without them works, slower
        _product(torch.ones(1, weight.shape[1], dtype=weight.dtype), _Packed(weight).blocks, None)
    except (AttributeError, RuntimeError):
        return False
    return True
