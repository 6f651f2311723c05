"""States that are read once and kept: what the routing projection is trained on.

They are written in parts as they are read, so a stopped run reads on where it was. Not here: reading
(knowledge/keys.py, knowledge/states.py), training (routing.py).

    >>> held = hold(folder, "documents", texts, lambda part: read_chunks(backbone, layer, part))   # doctest: +SKIP
    >>> held.of([3, 8])[0].shape                           # the tokens of two texts, [M, D]  # doctest: +SKIP
    torch.Size([281, 576])
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ..files import swapped

PART = 256
"""Texts of a file."""
T = TypeVar("T")


@dataclass(frozen=True)
class Held:
    """States of n texts in float16, one text after the other."""

    states: Tensor
    """[sum n_i, D]."""
    lengths: Tensor
    """[n]."""

    def of(self, numbers: Sequence[int]) -> tuple[Tensor, list[int]]:
        """[M, D] in float32 of some texts, one after the other, and how many tokens each has."""
        ends = self.lengths.cumsum(0)
        spans = [(int(ends[n] - self.lengths[n]), int(ends[n])) for n in numbers]
        return torch.cat([self.states[a:b] for a, b in spans]).float(), [b - a for a, b in spans]


def hold(
    folder: Path,
    name: str,
    texts: Sequence[T],
    read: Callable[[Sequence[T]], Iterable[Tensor]],
    told: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Held:
    """Read all texts, `PART` at a time, or take from `folder` what was read of them before.

    `read` gives [T, D] for each text; `told` names all else that decides what it gives. `progress` gets the texts done
    and all there are.
    """
    states, lengths = [], []
    for at in range(0, len(texts), PART):
        part = texts[at : at + PART]
        key = hashlib.sha256(f"{told}{part!r}".encode()).hexdigest()[:16]
        path = folder / f"{name}-{at // PART:04}-{key}.pt"
        if not path.exists():
            found = [x.half().cpu() for x in read(part)]
            with swapped(path) as aside:
                torch.save((torch.cat(found), torch.tensor([len(x) for x in found])), aside)
        made, sizes = torch.load(path, weights_only=True)
        states.append(made)
        lengths.append(sizes)
        if progress:
            progress(min(at + PART, len(texts)), len(texts))
    return Held(torch.cat(states), torch.cat(lengths))
