"""Whitening: coordinates in which what a document's own lessons make a neuron read is spread evenly.

The lessons of one document are alike, so what tells them apart, A (x - mu) less what they share, is a small part of
what a neuron reads, and plain Adam learns it last. B = V B' is trained in B', where V brings the second moment of the
document's own readings, to the power `whiten`, to a multiple of the identity; what is stored is B. Our inference; the
measured reasons are in docs/encoding.md. Not here: the shared input space (neurons.py), training (encoder.py).

    >>> basis(second_moments, whiten=1.0).shape           # [N, L, R, R] -> [N, L, R, R]     # doctest: +SKIP
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 0.05
"""Share of the mean variance that is added to every direction, so that one that is hardly used is not blown up."""


def basis(moments: Tensor, whiten: float) -> Tensor:
    """V [N, L, R, R] for second moments [N, L, R, R]: 0 leaves the coordinates as they are, 1 whitens them.

    The mean square of what is read stays what it was. Documents without readings get the identity.
    """
    size = moments.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None]  # [N, L, 1]
    values, axes = torch.linalg.eigh(moments / size.clamp(min=1e-12)[..., None])
    values = values.clamp(min=0)
    scales = (values + RIDGE) ** (-whiten / 2)  # [N, L, R]
    kept = (values.mean(-1) / (values * scales**2).mean(-1).clamp(min=1e-12)).sqrt()
    scales = torch.where(size > 0, scales * kept[..., None], torch.ones_like(scales))
    return (axes * scales[..., None, :]) @ axes.mT
