"""The coarse pass: which rows of a large bank are worth scoring exactly.

The question's most telling tokens against the leading axes of each row's most salient keys, in two steps: a part
of the keys of every row, then the rest for the rows that are still in the running. What it costs is the memory it
reads, so it reads as little as keeps recall (docs/fidelity.md has what was tried). Not here: the scores that
decide (routing.py).

    >>> coarse = CoarseKeys.of(keys, starts)                              # doctest: +SKIP
    >>> coarse.candidates(states, telling, np.arange(len(starts) - 1), 128)    # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

FIRST_KEYS = 64
KEYS = 128
KEPT = 4
"""Rows that go on to the second step, for every candidate wanted."""
WIDTH = 32
TOKENS = 12
"""Question tokens that are looked at, those that can tell most."""


@dataclass(frozen=True)
class CoarseKeys:
    """Unit vectors, zeros where a row has fewer keys. N rows."""

    first: Tensor
    """[FIRST_KEYS, N, WIDTH] the most salient keys."""
    rest: Tensor
    """[N, KEYS - FIRST_KEYS, WIDTH] the next ones."""

    @classmethod
    def of(cls, keys: Tensor, starts: np.ndarray) -> CoarseKeys:
        """From the keys [sum n_i, key_width] of all rows, each row's most salient first, and where rows start."""
        width = min(WIDTH, keys.shape[1])
        made = torch.zeros(len(starts) - 1, KEYS, width, dtype=keys.dtype)
        for row, (start, end) in enumerate(pairwise(starts)):
            first = keys[start : min(start + KEYS, end), :width].float()
            made[row, : len(first)] = torch.nn.functional.normalize(first, dim=-1).to(keys.dtype)
        return cls(made[:, :FIRST_KEYS].transpose(0, 1).contiguous(), made[:, FIRST_KEYS:].contiguous())

    def candidates(self, states: Tensor, telling: Tensor, rows: np.ndarray, count: int) -> np.ndarray:
        """The `count` most promising of `rows`, ascending. `states` [T, key_width] are the question's tokens and
        `telling` [T] what each could tell; weighting by it stands in for the chance correction."""
        if count >= len(rows):
            return rows
        tokens = telling.topk(min(TOKENS, len(telling))).indices
        leading = torch.nn.functional.normalize(states[tokens, : self.first.shape[-1]], dim=-1)
        query, weights = leading.to(self.first.dtype).T, telling[tokens]  # [WIDTH, T], [T]
        wanted = torch.from_numpy(rows)
        first = self.first if len(rows) == self.first.shape[1] else self.first[:, wanted]
        best = _maximum((first.reshape(-1, len(query)) @ query).reshape(*first.shape[:2], -1))  # [rows, T]
        kept = _score(best, weights).topk(min(KEPT * count, len(rows))).indices
        rest = self.rest[wanted[kept]]
        second = (rest.reshape(-1, len(query)) @ query).reshape(*rest.shape[:2], -1)
        best = torch.maximum(best[kept], _maximum(second.transpose(0, 1)))
        places = kept[_score(best, weights).topk(count).indices]
        found: np.ndarray = rows[places.sort().values.numpy()]
        return found


def _score(best: Tensor, weights: Tensor) -> Tensor:
    return best.float().clamp(min=0) ** 2 @ weights


def _maximum(values: Tensor) -> Tensor:
    """Maximum over the first axis where it is at least zero (else something below zero), halving the axis: ten
    times as fast as `amax` on a CPU. bfloat16 from zero up sort like the integers of the same bits, faster still."""
    whole = values.view(torch.int16) if values.dtype == torch.bfloat16 else values
    while len(whole) > 1:
        half = (len(whole) + 1) // 2
        whole = torch.maximum(whole[:half], whole[-half:])
    return whole[0].view(values.dtype)
