"""Streams say what each prompt alone would be answered."""

from __future__ import annotations

import pytest
import torch

from neurag import stream as streams
from neurag.decoding import decode
from neurag.segments import Rows, attending
from neurag.stream import Stream, continue_all

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
    read, sizes = streams.read, []
    monkeypatch.setattr(streams, "read", lambda *a: sizes.append(len(a[3])) or read(*a))
    together = continue_all(stream, segments, 5)
    assert sizes[:2] == [2, 5 + 2]
    for prefix, parts, told in zip(PREFIXES, segments, together, strict=True):
        assert told == alone(tiny, [prefix + part for part in parts], 5)


def test_a_stream_stays_as_it_is(tiny):
    stream = Stream(tiny, PREFIXES)
    first = continue_all(stream, SEGMENTS, 4)
    assert continue_all(stream.fork([1, 0, 0]), [[], [[90, 91]], [[90, 92], [90, 93]]], 4) == [
        [],
        alone(tiny, [PREFIXES[0] + [90, 91]], 4),
        alone(tiny, [PREFIXES[0] + [90, 92], PREFIXES[0] + [90, 93]], 4),
    ]
    assert continue_all(stream, SEGMENTS, 4) == first


def test_nothing_to_continue(tiny):
    assert continue_all(Stream(tiny, PREFIXES[:1]), [[]], 4) == [[]]


def test_rows_and_back():
    owners = torch.tensor([2, 0, 2, 2, 0])
    rows = Rows.of(owners, 4)
    tokens = torch.arange(10.0).view(5, 2)
    spread = rows.spread(tokens)
    assert spread.shape == (4, 3, 2)
    assert spread[2].tolist() == [[0, 1], [4, 5], [6, 7]]
    assert spread[0, :2].tolist() == [[2, 3], [8, 9]]
    assert torch.equal(rows.gather(spread), tokens)


def test_a_model_attends_as_before_whatever_happens(tiny):
    def broken(*_, **__):
        raise ValueError("broken")

    before = tiny.model(input_ids=torch.tensor([[1, 2, 3]])).logits
    with pytest.raises(ValueError, match="broken"), attending(tiny, "broken", broken):
        tiny.model(input_ids=torch.tensor([[1, 2, 3]]))
    assert torch.equal(tiny.model(input_ids=torch.tensor([[1, 2, 3]])).logits, before)
