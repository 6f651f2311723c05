"""The weigher: which of several answers to give, by a few numbers about each; and whether to trust it.

    worth(f) = v . tanh(W f + b)

for the numbers f that hyper_layer/recall.py tells of an answer. A weigher is trained on questions about documents whose
answers are known (tasks/weighing.py) and lies beside a backbone's adapter, as JSON that can be read. Not here: where
the answers come from.

    >>> weigher = Weigher(np.ones((1, 1)), np.zeros(1), np.ones(1))
    >>> weigher.worth([[-1.0], [0.0]]).round(2).tolist()
    [-0.76, 0.0]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config import NeuragError
from .files import write_whole

Array = NDArray[Any]

NUMBERS = ("likelihood", "begun", "placed", "near", "near_written", "learned", "lessons", "words", "heard")
"""F: what is told of an answer, in this order."""


@dataclass(frozen=True, eq=False)
class Weigher:
    """H hidden units over F numbers."""

    weight: Array
    """W [H, F]."""
    bias: Array
    """b [H]."""
    out: Array
    """v [H]."""

    def worth(self, told: Sequence[Sequence[float]] | Array) -> Array:
        """[n, F] numbers about n answers -> [n]."""
        return np.tanh(np.asarray(told) @ self.weight.T + self.bias) @ self.out  # type: ignore[no-any-return]

    def save(self, path: Path) -> None:
        """Write JSON aside and swap it in."""
        told = {name: np.round(getattr(self, name), 5).tolist() for name in ("weight", "bias", "out")}
        write_whole(path, json.dumps({"numbers": NUMBERS, **told}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Weigher:
        """Read what `save` wrote. Raises NeuragError for a file that is damaged, or weighs other numbers than these."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            weight, bias, out = (np.array(told[name], np.float64) for name in ("weight", "bias", "out"))
            if tuple(told["numbers"]) != NUMBERS or weight.shape != (len(out), len(NUMBERS)) or bias.shape != out.shape:
                raise ValueError("it weighs other numbers")
            return cls(weight, bias, out)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise NeuragError(f"{path} cannot be read ({error}): restore it, or train weighing again") from None
