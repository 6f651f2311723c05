"""Hooks on submodules as context managers: they are always removed, whatever happens inside.

Not here: what is done with the tensors. Three verbs are all the project needs.

    >>> with add_to_output(layer.mlp.down_proj, lambda x: x * 0):  # doctest: +SKIP
    ...     model(ids)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn


def _first(value: Tensor | tuple[Tensor, ...]) -> Tensor:
    return value[0] if isinstance(value, tuple) else value


@contextmanager
def read_output(module: nn.Module, see: Callable[[Tensor], None]) -> Iterator[None]:
    """Call `see` with the module's output at every forward pass."""

    def hook(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
        see(_first(output))

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def read_input(module: nn.Module, see: Callable[[Tensor], None]) -> Iterator[None]:
    """Call `see` with the module's first positional input at every forward pass."""

    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        see(inputs[0])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def add_to_output(module: nn.Module, delta: Callable[[Tensor, Tensor], Tensor | None]) -> Iterator[None]:
    """Replace the output by `delta(input, output)`; None leaves it as it is."""

    with on_each([module], lambda _, given, output: delta(given, output)):
        yield


@contextmanager
def on_each(modules: Sequence[nn.Module], delta: Callable[[int, Tensor, Tensor], Tensor | None]) -> Iterator[None]:
    """`add_to_output` on several modules; `delta` also gets the module's place in the list."""

    def hook(place: int) -> Callable[..., Tensor | None]:
        return lambda _, inputs, output: delta(place, inputs[0], output)

    handles = []
    try:
        for place, module in enumerate(modules):
            handles.append(module.register_forward_hook(hook(place)))
        yield
    finally:
        for handle in handles:
            handle.remove()
