"""The coarse pass: which rows of a large bank are worth scoring exactly.

The question's most telling tokens against the leading axes of each row's keys, where keys that resemble each other
are one. Some places are kept for rows that match what the best row leaves unmatched, so that a question's second
document is among the candidates. What the pass costs is the memory it reads and writes (docs/routing.md has what
was tried). Not here: the scores that decide (routing.py).

    >>> coarse = CoarseKeys((block(keys, starts, torch.float32),))    # doctest: +SKIP
    >>> coarse.candidates(states, yardstick.best, rows, 64)           # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..packing import PackedMatrix

KEYS = 64
WIDTH = 32
ALIKE = 0.7
"""Cosine in the leading axes from which two keys of a row are one."""
TOKENS = 24
"""Question tokens that are looked at, those that can tell most."""
SECOND = 4
"""One candidate in so many is chosen for what the best row leaves unmatched."""
BLOCK = 256
"""Rows that are pooled together, to bound the memory of it."""


@dataclass(frozen=True)
class CoarseKeys:
    """A few keys in place of all, for N rows."""

    blocks: tuple[PackedMatrix, ...]
    """[KEYS * N_b, WIDTH] each, of one batch of rows after the other (`block`): no copy of all is ever made."""

    def candidates(self, states: Tensor, telling: Tensor, rows: np.ndarray, count: int) -> np.ndarray:
        """The `count` most promising of `rows`, ascending. `states` [T, key_width] are the question's tokens and
        `telling` [T] what each could tell; weighting by it stands in for the chance correction."""
        tokens = telling.topk(min(TOKENS, len(telling))).indices
        leading = torch.nn.functional.normalize(states[tokens, : self.blocks[0].shape[1]], dim=-1)
        best = [_maximum(keys(leading).reshape(len(tokens), KEYS, -1)) for keys in self.blocks]
        matched = torch.cat(best, 1).float().clamp(min=0) ** 2  # [T, N]
        if len(rows) < matched.shape[1]:
            matched = matched[:, torch.from_numpy(rows)]
        scores = telling[tokens] @ matched
        first = scores.topk(min(count - count // SECOND, len(rows))).indices
        left = telling[tokens] * (1 - matched[:, first[0]]) ** 2
        fresh = (left @ matched).index_fill(0, first, -1.0)
        second = fresh.topk(min(count // SECOND, len(rows) - len(first))).indices
        found: np.ndarray = rows[torch.cat([first, second]).sort().values.numpy()]
        return found


def block(keys: Tensor, starts: np.ndarray, dtype: torch.dtype) -> PackedMatrix:
    """Some rows' coarse keys, the first of every row, then the second ...: unit vectors, zeros where a row has fewer.
    From all their keys [sum n_i, key_width], each row's most salient first, and where rows start; `dtype` is the
    format of the products."""
    return PackedMatrix(pooled(keys, starts, dtype).flatten(0, 1))


def pooled(keys: Tensor, starts: np.ndarray, dtype: torch.dtype) -> Tensor:
    """KEYS keys [KEYS, N, WIDTH] for each of N rows from all of theirs; the arguments are those of `block`."""
    width = min(WIDTH, keys.shape[1])
    made = torch.zeros(KEYS, len(starts) - 1, width, dtype=dtype)
    for first in range(0, len(starts) - 1, BLOCK):
        rows = [keys[start:end, :width].float() for start, end in pairwise(starts[first : first + BLOCK + 1])]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        made[:, first : first + BLOCK] = _pool(torch.nn.functional.normalize(padded, dim=-1)).to(dtype)
    return made


def _pool(keys: Tensor) -> Tensor:
    """Keys [N, n, WIDTH], padded with zeros, to [KEYS, N, WIDTH]: the most salient key not yet taken leads, every key
    like it that is not yet taken joins, and their mean stands for them. What is left after KEYS leaders is lost."""
    alike = (keys @ keys.mT) > ALIKE
    free = keys.any(-1)
    rows = torch.arange(len(keys))
    made = keys.new_zeros(KEYS, len(keys), keys.shape[-1])
    for place in range(KEYS):
        leader = free.byte().argmax(1)
        joined = alike[rows, leader] & free
        made[place] = (joined.to(keys.dtype)[:, None] @ keys)[:, 0]
        free &= ~joined
    return torch.nn.functional.normalize(made, dim=-1)


def _maximum(values: Tensor) -> Tensor:
    """Maximum over the second axis where that is at least zero, else something below zero. From zero up, bfloat16
    sort like the integers of the same bits, which a CPU compares much faster."""
    whole = values.view(torch.int16) if values.dtype == torch.bfloat16 else values
    return whole.amax(1).view(values.dtype)
