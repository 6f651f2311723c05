"""What a neuron is: B_i in every layer of the band, over an input space that all neurons share.

    y = W x + B_i A (x - mu)

A is never trained: min(R / 2, ASKED) of its rows tell what a question asks for (asking.py), the others are drawn.
So A (x - mu) is computed once however many neurons are active, and a fused set of neurons is just the weighted
sum of their B. Unlike a plain LoRA the input is centred and each unit divided by its usual spread: without that,
one layer's large units drown the others (own neuron 0.76 -> 0.88 exact, docs/fidelity.md). Not here: training
(encoder.py), storage (bank.py).

    >>> space = InputSpace.draw(calibration, band, rank=16, scale=0.8, seed=0)   # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config import Precision
from .asking import floored
from .calibration import Calibration

DRAWING = 2
"""Number of the way A is made: a bank made in another way is refused, not misread."""


def band_layers(depth: int, band: tuple[float, float]) -> tuple[int, ...]:
    """Layer numbers of a band given as fractions of the depth; never empty."""
    first = min(round(band[0] * depth), depth - 1)
    return tuple(range(first, max(round(band[1] * depth), first + 1)))


def drawn_rows(layers: int, rank: int, width: int, seed: int) -> Tensor:
    """[layers, rank, width] from N(0, 1/width): what is random in A, before each unit is divided by its spread."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(layers, rank, width, generator=generator) / math.sqrt(width)


@dataclass(frozen=True)
class InputSpace:
    """The shared, frozen input side of every neuron of a bank."""

    layers: tuple[int, ...]
    down: Tensor
    """A, [L, R, F]: the asked directions, then N(0, 1/F) with each unit divided by its spread, all scaled to a
    fixed root mean square."""
    shift: Tensor
    """-A mu, [L, R]."""
    version: str

    @classmethod
    def draw(cls, calibration: Calibration, layers: tuple[int, ...], rank: int, scale: float, seed: int) -> InputSpace:
        """Draw A from a seed. `scale` is the root mean square of A (x - mu) on the neutral text (the
        asked rows: on the neutral questions)."""
        spread = calibration.unit_scale[list(layers)].cpu()  # [L, F]
        width = spread.shape[1]
        asked = calibration.asked[list(layers)].cpu()[:, : rank // 2]  # [L, R_asked, F]
        random = drawn_rows(len(layers), rank - asked.shape[1], width, seed)
        random = random / floored(spread)[:, None, :]
        variance = (random**2 * spread[:, None, :] ** 2).sum(-1).mean(-1)  # [L]
        random = random * (scale / variance.sqrt())[:, None, None]
        asked = asked * scale
        offset = torch.cat([
            torch.einsum("lrf,lf->lr", asked, calibration.asked_mean[list(layers)].cpu()),
            torch.einsum("lrf,lf->lr", random, calibration.unit_mean[list(layers)].cpu()),
        ], 1)  # fmt: skip
        down = torch.cat([asked, random], 1)
        told = f"{DRAWING} {calibration.version} {layers} {rank} {scale} {seed}"
        device = calibration.mean.device
        return cls(layers, down.to(device), -offset.to(device), hashlib.sha256(told.encode()).hexdigest()[:16])

    def read(self, place: int, units: Tensor) -> Tensor:
        """A (x - mu) in the band's layer number `place`: [..., F] -> [..., R]."""
        down, shift = self.down[place].to(units.dtype), self.shift[place].to(units.dtype)
        return torch.nn.functional.linear(units, down, shift)


def quantise(neurons: Tensor, precision: Precision = "int8") -> tuple[np.ndarray, np.ndarray]:
    """[N, L, R, D] -> int8 or float16 [N, L*R*D] and float32 scale [N, L*R]: one scale a row of B."""
    peak = neurons.abs().amax(-1).clamp(min=1e-8)  # [N, L, R]
    scale = peak / 127 if precision == "int8" else torch.ones_like(peak)
    told = neurons / scale[..., None]
    whole = torch.round(told).to(torch.int8) if precision == "int8" else told.half()
    count = len(neurons)
    return whole.reshape(count, -1).cpu().numpy(), scale.reshape(count, -1).float().cpu().numpy()


def dequantise(values: np.ndarray, scale: np.ndarray) -> Tensor:
    """int8 or float16 [L, R, D] and float32 [L, R] -> float32 [L, R, D]."""
    return torch.from_numpy(values.astype(np.float32) * scale[..., None])
