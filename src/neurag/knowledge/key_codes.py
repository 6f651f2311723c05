"""Keys as a bank stores them: four bits a number and one scale a key, a quarter of float16.

A key is a direction, so the scale is chosen to keep its length. What that costs in recall, and what other
precisions and fewer keys cost, is measured by benchmarks/keys.py (docs/routing.md). Not here: making keys (keys.py),
columns (rows.py).

    >>> codes = pack(np.array([[0.6, -0.8]], np.float16))
    >>> codes.shape, unpack(codes, 2).round(2).tolist()
    ((1, 3), [[0.580078125, -0.81005859375]])
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LEVELS = 7
"""Whole numbers go from -7 to 7, so zero is one of them and both signs are alike."""
OFFSET = 8
SCALE_BYTES = 2
_PAIRS = (np.stack([np.arange(256) % 16, np.arange(256) // 16], 1).astype(np.float32) - OFFSET).view(np.uint64)[:, 0]
"""What a byte stands for: two numbers, looked up as one because that is ten times as fast."""


def code_bytes(width: int) -> int:
    """Bytes of one key of `width` numbers."""
    return SCALE_BYTES + (width + 1) // 2


def pack(keys: Array) -> Array:
    """uint8 [n, code_bytes(w)] for keys [n, w], which must be finite."""
    wide = keys.astype(np.float32)
    step = np.abs(wide).max(1, initial=0.0, keepdims=True) / LEVELS
    whole = np.rint(np.divide(wide, step, out=np.zeros_like(wide), where=step > 0))
    length, told = (np.linalg.norm(x, axis=1) for x in (wide, whole))
    scale = np.divide(length, told, out=np.zeros_like(told), where=told > 0).astype("<f2")
    nibbles = np.pad(whole + OFFSET, [(0, 0), (0, wide.shape[1] % 2)], constant_values=OFFSET).astype(np.uint8)
    return np.concatenate([scale[:, None].view(np.uint8), nibbles[:, ::2] | nibbles[:, 1::2] << 4], 1)


def unpack(codes: Array, width: int) -> Array:
    """float16 [n, width] from what `pack` made."""
    return decoded(codes, width).astype(np.float16)


def decoded(keys: Array, width: int) -> Array:
    """float32 [n, width] of keys that are codes, or are numbers already."""
    if keys.dtype != np.uint8:
        return keys.astype(np.float32)
    scale = np.ascontiguousarray(keys[:, :SCALE_BYTES]).view("<f2").astype(np.float32)
    whole: Array = _PAIRS.take(keys[:, SCALE_BYTES:]).view(np.float32)[:, :width]
    return whole * scale
