"""Links: which rows are about something that a chosen row mentions.

What a question needs second is often not named in the question but in its first document: "When was the director of
'The Mill' born?" finds the film, and the film's text names the director. A text says in its first words (its title,
if it has one) what it is about, so with m_t the best similarity of opening token t of row j among the keys of the
chosen row,

    l_j = mean over t of max(0, (m_t - c) / (1 - c))

is how clearly the chosen row mentions what j is about, 0..1. Ours, not the paper's (docs/routing.md). Not here:
what a link is worth against a match with the question (routing.py, `RouteOptions.link`).

    >>> openings = Openings.of(keys, positions, starts)      # doctest: +SKIP
    >>> openings.mentioned(keys_of_the_first, rows)          # [M] -> [M]  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

TOKENS = 8
"""Opening tokens of a row that are looked for."""
CHANCE = 0.5
"""c, a cosine: less alike than this is not a mention."""


@dataclass(frozen=True)
class Openings:
    """The keys of the first tokens of N rows."""

    keys: Tensor
    """[N, TOKENS, key_width] unit vectors, zeros where a row is shorter."""
    lengths: Tensor
    """[N] tokens that are there, at least 1."""

    @classmethod
    def of(cls, keys: Tensor, positions: np.ndarray, starts: np.ndarray) -> Openings:
        """From the keys [sum n_i, key_width] of all rows, their positions in the text, and where rows start."""
        first = np.flatnonzero(positions < TOKENS)
        rows = np.searchsorted(starts, first, side="right") - 1
        made = torch.zeros(len(starts) - 1, TOKENS, keys.shape[1], dtype=keys.dtype)
        made[torch.from_numpy(rows), torch.from_numpy(positions[first].astype(np.int64))] = keys[
            torch.from_numpy(first)
        ]
        lengths = np.bincount(rows, minlength=len(starts) - 1).clip(1)
        return cls(made, torch.from_numpy(lengths).float())

    @classmethod
    def none(cls, key_width: int) -> Openings:
        """Those of no rows, in float16."""
        return cls(torch.zeros(0, TOKENS, key_width, dtype=torch.float16), torch.zeros(0))

    @classmethod
    def joined(cls, parts: Sequence[Openings]) -> Openings:
        """Those of the rows of all parts, of which there must be one, one after the other."""
        return cls(torch.cat([part.keys for part in parts]), torch.cat([part.lengths for part in parts]))

    def mentioned(self, keys: Tensor, rows: np.ndarray) -> np.ndarray:
        """l of `rows` [M] in the row whose keys are [n, key_width]: float32 [M] in 0..1."""
        chosen = torch.from_numpy(rows)
        similar = self.keys[chosen].flatten(0, 1).to(keys.dtype) @ keys.T  # [M * TOKENS, n]
        best = similar.float().amax(1).reshape(len(rows), TOKENS)
        clear = ((best - CHANCE) / (1 - CHANCE)).clamp(0, 1)
        told: np.ndarray = (clear.sum(1) / self.lengths[chosen]).numpy()
        return told
