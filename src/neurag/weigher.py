"""The weigher: which of several answers to give, by a few numbers about each; and whether to trust it.

    worth(f) = v . tanh(W f + b)          P(right) = sigmoid(u . (f, S, lead, 1))

for the numbers f that hyper_layer/recall.py tells of an answer; P is that of the one with the most worth, `lead` what
it is worth more than the next, S the score of the best neuron (routing.py). Where P is below `sure`, a model does not
know. A weigher is trained on questions about documents whose answers are known (tasks/weighing.py) and lies beside a
backbone's adapter, as JSON that can be read. Not here: where the answers come from.

    >>> weigher = Weigher(np.ones((1, 1)), np.zeros(1), np.ones(1), np.zeros(4), 0.5)
    >>> weigher.worth([[-1.0], [0.0]]).round(2).tolist()
    [-0.76, 0.0]
"""

from __future__ import annotations

import hashlib
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

NUMBERS = ("likelihood", "begun", "placed", "near", "near_written", "learned", "lessons", "words", "heard", "repeats")
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
    trust: Array
    """u [F + 3]."""
    sure: float
    """P from which on an answer is one."""

    @property
    def fingerprint(self) -> str:
        """Hash of all its numbers."""
        told = np.concatenate([self.weight.ravel(), self.bias, self.out, self.trust, [self.sure]])
        return hashlib.sha256(np.round(told, 5).tobytes()).hexdigest()[:16]

    def worth(self, told: Sequence[Sequence[float]] | Array) -> Array:
        """[n, F] numbers about n answers -> [n]."""
        return np.tanh(np.asarray(told) @ self.weight.T + self.bias) @ self.out  # type: ignore[no-any-return]

    def chosen(self, told: Sequence[Sequence[float]] | Array, score: float) -> tuple[int, float]:
        """Number of the answer to be given, of one at least, and how likely it is right; `score` is S."""
        worth = self.worth(told)
        best = int(worth.argmax())
        return best, likely(trusted(told[best], worth, score), self.trust)

    def save(self, path: Path) -> None:
        """Write JSON aside and swap it in."""
        told = {name: np.round(getattr(self, name), 5).tolist() for name in ("weight", "bias", "out", "trust", "sure")}
        write_whole(path, json.dumps({"numbers": NUMBERS, **told}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Weigher:
        """Read what `save` wrote. Raises NeuragError for a file that is damaged, or weighs other numbers than these."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            weight, bias, out, trust = (np.array(told[name], np.float64) for name in ("weight", "bias", "out", "trust"))
            shapes = weight.shape, bias.shape, trust.shape
            if tuple(told["numbers"]) != NUMBERS or shapes != _shapes(len(out)):
                raise ValueError("it weighs other numbers")
            return cls(weight, bias, out, trust, float(told["sure"]))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise NeuragError(f"{path} cannot be read ({error}): restore it, or train weighing again") from None


def trusted(told: Sequence[float] | Array, worth: Array, score: float) -> Array:
    """[F + 3] what tells whether the answer with the most worth is right."""
    first, second = np.sort(np.append(worth, worth.min() - 1))[::-1][:2]
    return np.array([*told, score, first - second, 1.0])


def likely(told: Array, trust: Array) -> float:
    """P, of what `trusted` says."""
    return float(1 / (1 + np.exp(-told @ trust)))


def _shapes(hidden: int) -> tuple[tuple[int, ...], ...]:
    return (hidden, len(NUMBERS)), (hidden,), (len(NUMBERS) + 3,)
