"""Streams: many continuations of one text side by side, the text read once.

A stream holds B prefixes that have been read (a passage in its prompt, say). Behind each, any number of segments are
continued, greedily; one that has ended costs nothing any more. Not here: one prompt a row (decoding.py), how tokens of
many texts are read together (segments.py).

    >>> stream = Stream(backbone, [passage_ids])                                 # doctest: +SKIP
    >>> continue_all(stream, [[question_ids, other_question_ids]], limit=12)     # doctest: +SKIP
    [[[11943, 2], [4521, 88, 2]]]
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .backbone import Backbone
from .segments import Texts, common_start, in_one_row, read


class Stream:
    """B prefixes that have been read."""

    def __init__(self, backbone: Backbone, prefixes: Sequence[Sequence[int]]) -> None:
        self.backbone = backbone
        self._texts = Texts.new(len(prefixes), backbone.device)
        self.extend(prefixes)

    def fork(self, whose: Sequence[int]) -> Stream:
        """Copies of the prefixes of these numbers, which may come more than once; the stream stays as it is."""
        copy = Stream.__new__(Stream)
        copy.backbone = self.backbone
        copy._texts = self._texts.only(torch.tensor(whose, dtype=torch.long, device=self.backbone.device))
        return copy

    def extend(self, more: Sequence[Sequence[int]]) -> None:
        """Read more of every prefix."""
        if any(more):
            read(self.backbone, self._texts, *in_one_row(more, range(len(more)), self.backbone.device))

    def behind(self, whose: Sequence[int]) -> Behind:
        """New segments behind the prefixes of these numbers."""
        return Behind(self.backbone, self._texts, whose)


class Behind:
    """S segments, each behind a prefix."""

    def __init__(self, backbone: Backbone, prefixes: Texts, whose: Sequence[int]) -> None:
        self._backbone, self._prefixes = backbone, prefixes
        self._whose = torch.tensor(whose, dtype=torch.long, device=backbone.device)
        self._texts = Texts.new(len(whose), backbone.device)

    def read(self, which: Sequence[int], ids: Sequence[Sequence[int]]) -> Tensor:
        """Read more of some segments; the final states [n, D] of their last tokens."""
        owners, tokens = in_one_row(ids, which, self._backbone.device)
        states = read(self._backbone, self._texts, owners, tokens, self._prefixes, self._whose)
        ends = torch.tensor([len(part) for part in ids], device=states.device).cumsum(0) - 1
        return states[ends]


def _common(parts: Sequence[Sequence[int]]) -> int:
    """How many tokens all begin with, each having one more at least."""
    return common_start([ids[:-1] for ids in parts]) if len(parts) > 1 else 0


@torch.no_grad()
def continue_all(stream: Stream, segments: Sequence[Sequence[Sequence[int]]], limit: int) -> list[list[list[int]]]:
    """Greedy continuations, up to `limit` tokens each without the end token, of S segments behind each prefix.

    What the segments of a row begin with in common is read once.
    """
    backbone = stream.backbone
    head = backbone.part(backbone.family.head)
    shared = [_common(row) for row in segments]
    if any(shared):
        stream = stream.fork(range(len(segments)))
        stream.extend([row[0][:count] if row else () for row, count in zip(segments, shared, strict=True)])
    begun = [(n, ids[count:]) for n, (row, count) in enumerate(zip(segments, shared, strict=True)) for ids in row]
    behind = stream.behind([n for n, _ in begun])
    said: list[list[int]] = [[] for _ in begun]
    going, told = list(range(len(begun))), [ids for _, ids in begun]
    for _ in range(limit):
        if not going:
            break
        tokens = head(behind.read(going, told)).argmax(-1).tolist()
        lasting = [(n, token) for n, token in zip(going, tokens, strict=True) if token not in backbone.stop_ids]
        for n, token in lasting:
            said[n].append(token)
        going, told = [n for n, _ in lasting], [[token] for _, token in lasting]
    rest = iter(said)
    return [[next(rest) for _ in row] for row in segments]
