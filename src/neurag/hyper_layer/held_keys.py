"""Held keys: the routing keys of a bank in memory, as small as they are stored, unpacked when they are looked at.

A row's keys are 7 KB as the bank stores them and 27 to 54 KB in the format of the products. So a bank of thousands of
rows is held in its four bits, and a question unpacks the few dozen rows that the coarse pass picked; a small bank, all
of which is scored for every question, is unpacked once. Not here: the codes (knowledge/key_codes.py), scoring
(routing.py).

    >>> held = HeldKeys.of([batch.keys], [batch.lengths], 96, torch.float32, whole=False)    # doctest: +SKIP
    >>> held.rows(np.array([3, 7])).shape                                                    # doctest: +SKIP
    torch.Size([288, 96])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..knowledge.key_codes import Array, decoded


@dataclass(frozen=True)
class HeldKeys:
    """The keys of N rows, in row order."""

    starts: np.ndarray
    """[N + 1] first key of each row."""
    width: int
    dtype: torch.dtype
    """The format of the products, in which keys are handed out."""
    parts: tuple[Array, ...]
    """Keys of one batch of rows each: codes, or float16 [n, width] that no bank has. Empty where `whole` is there."""
    firsts: np.ndarray
    """[parts] first row of each part."""
    whole: Tensor | None = None
    """[sum n_i, width] all keys, where a bank is small enough."""

    @classmethod
    def of(
        cls, parts: Sequence[Array], lengths: Sequence[np.ndarray], width: int, dtype: torch.dtype, whole: bool
    ) -> HeldKeys:
        """From keys and the number of keys of each row, batch by batch; `whole`: unpack all of them now."""
        counts = np.concatenate([np.zeros(1, np.int64), *lengths]).astype(np.int64)
        firsts = np.cumsum([0, *(len(part) for part in lengths[:-1])])
        unpacked = None
        if whole:
            made = [torch.from_numpy(decoded(part, width)).to(dtype) for part in parts]
            unpacked = torch.cat([torch.zeros(0, width, dtype=dtype), *made])
        return cls(np.cumsum(counts), width, dtype, () if whole else tuple(parts), firsts, unpacked)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def count(self, row: int) -> int:
        """Keys of one row."""
        return int(self.starts[row + 1] - self.starts[row])

    def row(self, row: int) -> Tensor:
        """[n_i, width] keys of one row."""
        return self.rows(np.array([row]))

    def rows(self, rows: np.ndarray) -> Tensor:
        """[sum n_i, width] keys of some rows, in their order."""
        if self.whole is not None:
            if np.array_equal(rows, np.arange(len(self))):
                return self.whole
            return torch.cat([self.whole[:0], *(self.whole[self.starts[r] : self.starts[r + 1]] for r in rows)])
        found = [self._stored(int(row)) for row in rows]
        if not found:
            return torch.zeros(0, self.width, dtype=self.dtype)
        return torch.from_numpy(decoded(np.concatenate(found), self.width)).to(self.dtype)

    def _stored(self, row: int) -> Array:
        place = int(np.searchsorted(self.firsts, row, side="right")) - 1
        begin = self.starts[self.firsts[place]]
        return self.parts[place][self.starts[row] - begin : self.starts[row + 1] - begin]
