"""Batches, rates, and what is held out: what every training loop here shares, tasks/ and robust/ alike.

Not here: the loops themselves (training.py, robust/tuning.py) and the order in which they go through their examples.

    >>> alike([0, 1, 2], [5, 2, 3], tokens=6)
    [[1, 2], [0]]
    >>> [rate_share(step, steps=4, warm_up=0.5) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence


def alike(numbers: Iterable[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """The numbers in the order of their lengths, cut into batches of at most so many tokens, padding included; what is
    longer than that stands alone."""
    batches: list[list[int]] = []
    for number in sorted(numbers, key=lambda n: lengths[n]):
        if not batches or (len(batches[-1]) + 1) * lengths[number] > tokens:
            batches.append([])
        batches[-1].append(number)
    return batches


def place_of(text: str) -> float:
    """Where a document falls in 0..1 by what it says, always the same: those below a share are held out."""
    return hashlib.sha256(text.encode()).digest()[0] / 256


def rate_share(step: int, steps: int, warm_up: float) -> float:
    """Of the learning rate: up over the first steps, then linearly down to zero."""
    rising = max(1, int(steps * warm_up))
    return min((step + 1) / rising, (steps - step) / max(1, steps - rising))
