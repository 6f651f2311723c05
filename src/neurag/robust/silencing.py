"""Silencing units: their activations multiplied by a factor, with a hook or for good.

A unit is one input coordinate of a down projection, so multiplying it is multiplying a column of that matrix: folded
in, the model is an ordinary one and costs nothing more. 0 silences, 0.5 softens, more than 1 boosts (IRCAN). The hook
leaves the weights as they are, and can act on the last position only, where units were mined. Not here: which units
(choice.py).

    >>> with silenced(backbone, units.only_irrelevant):                        # doctest: +SKIP
    ...     backbone.model(input_ids=ids)
    >>> fold_silence(backbone, units.only_irrelevant)                          # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from ..backbone import Backbone
from ..config import UsageError
from ..hooks import add_to_output


def columns_of(backbone: Backbone, units: Iterable[int]) -> dict[int, Tensor]:
    """The units of each layer that has some, counted within it, in order. Raises UsageError for another model's."""
    width, found = backbone.ffn_width, {}
    told = sorted(set(units))
    if told and not 0 <= told[0] <= told[-1] < width * backbone.depth:
        raise UsageError(f"the units were mined on another model than {backbone.name}: mine them on this one")
    for layer in range(backbone.depth):
        own = [unit - layer * width for unit in told if unit // width == layer]
        if own:
            found[layer] = torch.tensor(own, device=backbone.device)
    return found


@contextmanager
def silenced(backbone: Backbone, units: Iterable[int], factor: float = 0.0, last_only: bool = False) -> Iterator[None]:
    """Multiply units in the forward passes inside; `last_only`: at the last position of each pass."""

    def change(columns: Tensor, weight: Tensor, x: Tensor, y: Tensor) -> Tensor:
        told = x[:, -1:] if last_only else x
        less = (factor - 1) * (told[..., columns] @ weight[:, columns].T)
        return torch.cat([y[:, :-1], y[:, -1:] + less], 1) if last_only else y + less

    with ExitStack() as stack:
        for layer, columns in columns_of(backbone, units).items():
            module = backbone.down_projection(layer)
            act = lambda x, y, c=columns, m=module: change(c, m.weight, x, y)  # noqa: E731
            stack.enter_context(add_to_output(module, act))
        yield


@torch.no_grad()
def fold_silence(backbone: Backbone, units: Iterable[int], factor: float = 0.0) -> None:
    """Multiply units for good: the columns of the down projections."""
    for layer, columns in columns_of(backbone, units).items():
        weight: Tensor = backbone.down_projection(layer).weight  # type: ignore[assignment]
        weight[:, columns] *= factor
