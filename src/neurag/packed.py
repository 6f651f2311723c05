"""Packed streams: many continuations of one text side by side, each seeing the text and itself only.

A batch holds B prefixes (a passage in its prompt, say). Behind each stand any number of segments, columns of the same
row: the prefix is read and kept once, however many segments there are, and nothing is copied. A mask keeps the segments
apart, and each counts its positions from the prefix's end. Not here: one prompt a row (decoding.py).

    >>> stream = Stream(backbone, [passage_ids])                                 # doctest: +SKIP
    >>> continue_all(stream, [[question_ids, other_question_ids]], limit=12)     # doctest: +SKIP
    [[[11943, 2], [4521, 88, 2]]]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
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


class Stream:
    """B prefixes that have been read, and what has been read behind them since."""

    def __init__(self, backbone: Backbone, prefixes: Sequence[Sequence[int]]) -> None:
        from transformers import DynamicCache

        self.backbone = backbone
        self.lengths = [len(prefix) for prefix in prefixes]
        self._cache = DynamicCache()
        empty = torch.zeros(len(prefixes), 0, dtype=torch.long, device=backbone.device)
        self._held = Columns(empty, empty, empty)
        self.read(Columns.of([[Piece(0, 0, prefix)] for prefix in prefixes], backbone.device))
        self._prefix = self._held

    @torch.no_grad()
    def read(self, columns: Columns) -> Tensor:
        """Read tokens behind what is there; their final states [B, T, D]."""
        self._held = self._held.beside(columns)
        body = self.backbone.part(self.backbone.family.body)
        states: Tensor = body(
            input_ids=columns.ids,
            position_ids=columns.places,
            attention_mask=segment_mask(columns, self._held, self.backbone.dtype),
            past_key_values=self._cache,
            use_cache=True,
        )[0]
        return states

    def forget(self) -> None:
        """Back to the prefixes alone."""
        if behind := self._held.ids.shape[1] - self._prefix.ids.shape[1]:
            self._cache.crop(-behind)
        self._held = self._prefix


def _common(parts: Sequence[Sequence[int]]) -> int:
    """How many tokens all begin with, each having one more at least."""
    if len(parts) < 2:
        return 0
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*(ids[:-1] for ids in parts), strict=False))
    return sum(1 for _ in alike)


@torch.no_grad()
def continue_all(stream: Stream, segments: Sequence[Sequence[Sequence[int]]], limit: int) -> list[list[list[int]]]:
    """Greedy continuations, up to `limit` tokens each without the end token, of S segments behind each prefix.

    What the segments of a row begin with in common is read once.
    """
    backbone, device = stream.backbone, stream.backbone.device
    head = backbone.part(backbone.family.head)
    out: list[list[list[int]]] = [[[] for _ in row] for row in segments]
    pieces = _begin(stream, segments)
    for _ in range(limit):
        if not any(pieces):
            break
        states = stream.read(Columns.of(pieces, device))
        ends = [(row, end) for row, parts in enumerate(pieces) for end in accumulate(len(p.ids) for p in parts)]
        rows, columns = [row for row, _ in ends], [end - 1 for _, end in ends]
        tokens = iter(head(states[rows, columns]).argmax(-1).tolist())
        going: list[list[Piece]] = [[] for _ in segments]
        for row, parts in enumerate(pieces):
            for segment, first, ids in parts:
                token = next(tokens)
                if token not in backbone.stop_ids:
                    out[row][segment - 1].append(token)
                    going[row].append(Piece(segment, first + len(ids), [token]))
        pieces = going
    return out


def _begin(stream: Stream, segments: Sequence[Sequence[Sequence[int]]]) -> list[list[Piece]]:
    """The segments behind what those of a row begin with in common, which is read here."""
    shared = [_common(row) for row in segments]
    rows = list(zip(stream.lengths, segments, shared, strict=True))
    if any(shared):
        told = [[Piece(0, at, row[0][:count])] if count else [] for at, row, count in rows]
        stream.read(Columns.of(told, stream.backbone.device))
    return [[Piece(n, at + count, ids[count:]) for n, ids in enumerate(row, 1)] for at, row, count in rows]
