"""The course of a training: how fast each document of a batch learns, and when it has learned enough.

Every document's rate falls linearly to zero over all steps. One whose loss has stayed low for a whole round stops
early, after a few steps in which its rate falls to zero: neurons left at a high rate answer worse than their loss says.
So easy documents cost less, and each is trained as it would be alone. Not here: losses and gradients (encoder.py).

    >>> course = Course(torch.tensor([True, False]), EncodeOptions(steps=8), window=4)
    >>> course.going.tolist(), course.tell(torch.zeros(2)).tolist()
    ([True, False], [False, False])
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import EncodeOptions


class Course:
    """Rates and ends of N documents that are trained together."""

    def __init__(self, taught: Tensor, options: EncodeOptions, window: int) -> None:
        """`taught` [N]: which documents have lessons at all; `window`: steps in which every lesson is seen."""
        self.step, self._options, self._window = 0, options, window
        self.rates = taught * options.learning_rate
        """Rate of the next step, [N]."""
        self._falls = self.rates / max(1, options.steps)
        self._ends = taught * options.steps
        self._recent: list[Tensor] = []

    @property
    def going(self) -> Tensor:
        """Which documents are still learning, [N]."""
        return self.step < self._ends

    def tell(self, losses: Tensor) -> Tensor:
        """Take note of a step's losses [N], in nats a token; which documents ended with it, [N]."""
        before = self.going
        self.step, self.rates = self.step + 1, (self.rates - self._falls).clamp(min=0)
        self._recent = [*self._recent, losses.cpu()][-self._window :]
        if len(self._recent) == self._window:
            learned = torch.stack(self._recent).amax(0) < self._options.stop_loss
            early = learned & (self.step + self._options.cool_steps < self._ends)
            self._ends[early] = self.step + self._options.cool_steps
            self._falls[early] = self.rates[early] / max(1, self._options.cool_steps)
        return before & ~self.going
