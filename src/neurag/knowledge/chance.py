"""Chance: how well some text of a given length matches a token anyway, and what a better match is worth.

The yardstick of every routing score. With m the best similarity of query token t among the n keys of a text,

    r = max(0, (m - b_t(n)) / d_t - c)      b_t(n): what n neutral keys reach by chance, d_t: its spread

Long texts reach more by chance, so b grows with the log of n. Not here: where the neutral keys come from
(calibration.py), and what is done with r (hyper_layer/).

    >>> yardstick = Yardstick.of(queries @ neutral.T)                 # doctest: +SKIP
    >>> yardstick.surprise(similar, lengths)                          # [T, N], [N] -> [T, N]  # doctest: +SKIP
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

WINDOWS = (30, 120, 240)
"""Tokens; the longer ones are multiples of the first. Chance is told for the middle one."""
NEUTRAL = 8192
"""Neutral keys that tell chance for a question. Reading them is what that costs, and twice as many tell no better."""
MARGIN = 0.5
"""c, in deviations: matches nearer to chance than this say nothing."""

PARTIAL = 2
"""Power of the matched part of a token in what a chosen text covers (docs/routing.md)."""


@dataclass(frozen=True)
class Yardstick:
    """Chance for T query tokens, [T] each, on the CPU, where routing works."""

    base: Tensor
    """Mean best similarity over a neutral window of 120 tokens."""
    deviation: Tensor
    """Its standard deviation."""
    growth: Tensor
    """Growth of the mean with the log of the window's length."""

    @classmethod
    def of(cls, similar: Tensor) -> Yardstick:
        """From the similarities [T, n] of the query tokens to n keys of neutral text, in text order."""
        short = _window_maxima(similar, WINDOWS[0]).float()
        middle, long = (_window_maxima(short, w // WINDOWS[0]) for w in WINDOWS[1:])
        growth = (long.mean(1) - short.mean(1)) / math.log(WINDOWS[2] / WINDOWS[0])
        return cls(middle.mean(1), middle.std(1), growth)

    @property
    def salience(self) -> Tensor:
        """g: how surprising an exact match is, in deviations, [T]."""
        return (1 - self.base) / self.deviation

    @property
    def best(self) -> Tensor:
        """r*: what an exact match is worth, [T]."""
        return (self.salience - MARGIN).clamp(min=0)

    def surprise(self, similar: Tensor, lengths: Tensor) -> Tensor:
        """r: [T, N] best similarities in texts of the given lengths [N] -> [T, N]."""
        longer = torch.log(lengths.clamp(min=1) / WINDOWS[1])
        reached = self.base[:, None] + self.growth[:, None] * longer
        return ((similar - reached) / self.deviation[:, None] - MARGIN).clamp(min=0)

    def covered(self, matched: Tensor) -> Tensor:
        """How much of r [T, N] counts as said once the text is chosen: r (r / r*)^2. A token matched in part is
        hardly covered: "Hugo Rodriguez" is still wanted when a document about another Rodriguez has been chosen."""
        return matched * (matched / self.best.clamp(min=1e-6)[:, None]).clamp(max=1) ** PARTIAL


def _window_maxima(similar: Tensor, window: int) -> Tensor:
    """[T, n] -> [T, n // window]."""
    whole = similar[:, : similar.shape[1] // window * window]
    return whole.reshape(len(whole), -1, window).amax(2)
