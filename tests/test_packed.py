"""Packed streams say what each prompt alone would be answered."""

from __future__ import annotations

import torch

from neurag.decoding import decode
from neurag.packed import Columns, Piece, Stream, continue_all, segment_mask

PREFIXES = [list(range(5, 17)), list(range(40, 45))]
SEGMENTS = [[[60, 61], [62, 63, 64, 65], [70]], [[80, 81, 82]]]


def alone(backbone, prompts, limit):
    out = [[] for _ in prompts]
    for row, prompt in enumerate(prompts):
        for step in decode(backbone, [prompt], limit):
            out[row] += [t for t in step.tokens if t not in backbone.stop_ids]
    return out


def test_segments_are_continued_as_if_alone(tiny):
    stream = Stream(tiny, PREFIXES)
    together = continue_all(stream, SEGMENTS, 6)
    for prefix, segments, told in zip(PREFIXES, SEGMENTS, together, strict=True):
        assert told == alone(tiny, [prefix + segment for segment in segments], 6)


def test_what_segments_begin_with_is_read_once(tiny, monkeypatch):
    segments = [[[60, 61, 62], [60, 61, 70, 71], [60, 61, 62, 63]], [[60, 61]]]
    stream = Stream(tiny, PREFIXES)
    read, sizes = stream.read, []
    monkeypatch.setattr(stream, "read", lambda columns: sizes.append((columns.owner >= 0).sum()) or read(columns))
    together = continue_all(stream, segments, 5)
    assert sizes[:2] == [2, 5 + 2]
    for prefix, parts, told in zip(PREFIXES, segments, together, strict=True):
        assert told == alone(tiny, [prefix + part for part in parts], 5)


def test_a_stream_forgets(tiny):
    stream = Stream(tiny, PREFIXES)
    first = continue_all(stream, SEGMENTS, 4)
    stream.forget()
    other = continue_all(stream, [[[90, 91]], []], 4)
    stream.forget()
    assert other == [alone(tiny, [PREFIXES[0] + [90, 91]], 4), []]
    assert continue_all(stream, SEGMENTS, 4) == first


def test_nothing_to_continue(tiny):
    assert continue_all(Stream(tiny, PREFIXES[:1]), [[]], 4) == [[]]


def test_a_token_sees_the_prefix_and_its_own_segment_only():
    columns = Columns.of(
        [[Piece(0, 0, [1, 2]), Piece(1, 2, [3, 4]), Piece(2, 2, [5])], [Piece(0, 0, [6])]], torch.device("cpu")
    )
    seen = segment_mask(columns, columns, torch.float32)[:, 0] == 0
    assert seen[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert seen[1, 0].int().tolist() == [1, 0, 0, 0, 0]
