"""Packed rows: a text and all that is behind it as columns of one row, read at once, with gradients where enabled.

A mask keeps the segments apart, and each counts its positions from the prefix's end. Not here: texts that are read
piece by piece, and rows without padding (segments.py).

    >>> rows = [[Piece(0, 0, passage), Piece(1, len(passage), question), Piece(2, len(passage), other)]]
    >>> final_states(backbone, Columns.of(rows, backbone.device))                # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .backbone import Backbone

PADDING = -1


class Piece(NamedTuple):
    """Neighbouring tokens of one segment (0: the prefix) and the place of the first."""

    segment: int
    first: int
    ids: Sequence[int]


@dataclass(frozen=True)
class Columns:
    """Tokens to read: ids, the segment they belong to (0: the prefix, PADDING: none) and their places, [B, T] each."""

    ids: Tensor
    owner: Tensor
    places: Tensor

    @classmethod
    def of(cls, rows: Sequence[Sequence[Piece]], device: torch.device) -> Columns:
        """From the pieces of each row, in order."""
        longest = max((sum(len(ids) for _, _, ids in row) for row in rows), default=0)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        owner, places = torch.full_like(ids, PADDING), torch.zeros_like(ids)
        for row, pieces in enumerate(rows):
            told = [token for _, _, part in pieces for token in part]
            ids[row, : len(told)] = torch.tensor(told, dtype=torch.long)
            owner[row, : len(told)] = torch.tensor([n for n, _, part in pieces for _ in part], dtype=torch.long)
            at = [first + i for _, first, part in pieces for i in range(len(part))]
            places[row, : len(told)] = torch.tensor(at, dtype=torch.long)
        return cls(ids.to(device), owner.to(device), places.to(device))

    def rows(self, which: slice) -> Columns:
        """Some of the rows."""
        return Columns(self.ids[which], self.owner[which], self.places[which])

    def beside(self, other: Columns) -> Columns:
        """The same rows with the columns of `other` behind."""
        return Columns(
            torch.cat([self.ids, other.ids], 1),
            torch.cat([self.owner, other.owner], 1),
            torch.cat([self.places, other.places], 1),
        )


def segment_mask(query: Columns, key: Columns, dtype: torch.dtype) -> Tensor:
    """Additive mask [B, 1, queries, keys]: a token sees the earlier ones of the prefix and of its own segment."""
    own = query.owner[:, :, None] == key.owner[:, None, :]
    shared = key.owner[:, None, :] == 0
    earlier = key.places[:, None, :] <= query.places[:, :, None]
    allowed = (own | shared) & earlier & (key.owner[:, None, :] != PADDING)
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, torch.finfo(dtype).min)[
        :, None
    ]


def final_states(backbone: Backbone, columns: Columns) -> Tensor:
    """[B, T, D] final states of whole rows read at once, nothing kept; with gradients where they are enabled."""
    states: Tensor = backbone.part(backbone.family.body)(
        input_ids=columns.ids,
        position_ids=columns.places,
        attention_mask=segment_mask(columns, columns, backbone.dtype),
        use_cache=False,
    )[0]
    return states
