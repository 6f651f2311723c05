"""Packed rows keep their segments apart."""

from __future__ import annotations

import torch

from neurag.packed import Columns, Piece, segment_mask


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
