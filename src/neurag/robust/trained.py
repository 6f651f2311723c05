"""What is trained of a backbone: its own numbers, or a LoRA beside them, always as float32 masters.

`Weights` are whole matrices, or some rows or columns of them: gradients flow in the model's own format, the optimiser
moves float32 masters, and these are written back after each step. With a float32 model on a GPU, bfloat16 autocast does
the products; then the masters are as good as the weights. `Beside` is a LoRA (lora.py), folded in at the end. Both can
step aside, so that the untuned model can be asked in between. Not here: the loop (tuning.py), which parts (choice.py).

    >>> trained = Weights.of_layers(backbone, [16, 17, 18])                     # doctest: +SKIP
    >>> with trained.acting():                                                  # doctest: +SKIP
    ...     loss.backward(); trained.gather(); optimiser.step(); trained.push()
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

import torch
from torch import Tensor

from ..backbone import Backbone
from ..lora import ALL, FFN, applied, fold, start, targets

SCALE = 2.0
"""What a LoRA is multiplied by while it is trained, as in tasks/."""


class Trained(Protocol):
    """Masters by name, and how they reach the model."""

    masters: dict[str, Tensor]

    def acting(self) -> AbstractContextManager[None]:
        """A context in which the model can be trained."""

    def aside(self) -> AbstractContextManager[None]:
        """Inside: a context in which the model is as it was before."""

    def gather(self) -> None:
        """Move gradients to the masters."""

    def push(self) -> None:
        """Write the masters into the model."""

    def finish(self) -> None:
        """Make what was learned the model's own."""


@dataclass(frozen=True)
class Part:
    """A matrix, or some rows (dim 0) or columns (dim 1) of it."""

    parameter: Tensor
    dim: int = 0
    index: Tensor | None = None
    held: Tensor | None = None
    """Columns that are not to move: silenced ones."""

    def taken(self, tensor: Tensor) -> Tensor:
        """The numbers that are trained, of a tensor of the matrix's shape, in float32."""
        told = tensor if self.index is None else tensor.index_select(self.dim, self.index)
        return told.detach().to(torch.float32, copy=True)

    def gradient(self) -> Tensor | None:
        """What backward left."""
        if self.parameter.grad is None:
            return None
        told = self.taken(self.parameter.grad)
        if self.held is not None:
            told[:, self.held] = 0
        return told

    def write(self, master: Tensor) -> None:
        """Put numbers into the model."""
        told = master.to(self.parameter.dtype)
        if self.index is None:
            self.parameter.copy_(told)
        else:
            self.parameter.index_copy_(self.dim, self.index, told)


class Weights:
    """Some of the model's own numbers."""

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = dict(parts)
        self.masters = {name: part.taken(part.parameter) for name, part in parts.items()}
        self._before = {name: part.taken(part.parameter).to(part.parameter.dtype) for name, part in parts.items()}

    @classmethod
    def of_layers(cls, backbone: Backbone, layers: Iterable[int], held: Mapping[int, Tensor] | None = None) -> Weights:
        """The FFN blocks of layers; `held`: columns of their down projections that stay as they are."""
        parts = {}
        for layer in layers:
            for name in FFN:
                weight = attrgetter(name)(backbone.layers[layer]).weight
                keep = (held or {}).get(layer) if name == FFN[-1] else None
                parts[f"{layer}.{name}"] = Part(weight, held=keep)
        return cls(parts)

    @classmethod
    def of_units(cls, backbone: Backbone, columns: Mapping[int, Tensor]) -> Weights:
        """The rows of gate and up projections and the columns of down projections that belong to units."""
        parts = {}
        for layer, index in columns.items():
            for name in FFN:
                weight = attrgetter(name)(backbone.layers[layer]).weight
                parts[f"{layer}.{name}"] = Part(weight, int(name == FFN[-1]), index)
        return cls(parts)

    @classmethod
    def of_all(cls, backbone: Backbone, held: Mapping[int, Tensor] | None = None) -> Weights:
        """Everything; tied matrices once."""
        kept = {id(backbone.down_projection(layer).weight): index for layer, index in (held or {}).items()}
        named = backbone.model.named_parameters()
        return cls({name: Part(weight, held=kept.get(id(weight))) for name, weight in named})

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Let gradients flow into the matrices."""
        self.push()
        try:
            for part in self.parts.values():
                part.parameter.requires_grad_(True)
            yield
        finally:
            for part in self.parts.values():
                part.parameter.requires_grad_(False)
                part.parameter.grad = None

    @contextmanager
    def aside(self) -> Iterator[None]:
        """As the matrices were when this was made."""
        self._write(self._before)
        try:
            yield
        finally:
            self.push()

    def gather(self) -> None:
        """From the matrices to the masters."""
        for name, part in self.parts.items():
            self.masters[name].grad = part.gradient()
            part.parameter.grad = None

    def push(self) -> None:
        """From the masters to the matrices."""
        self._write(self.masters)

    def finish(self) -> None:
        """They are the model's own already."""
        self.push()

    @torch.no_grad()
    def _write(self, told: Mapping[str, Tensor]) -> None:
        for name, part in self.parts.items():
            part.write(told[name])


class Beside:
    """A LoRA on every matrix of every layer."""

    def __init__(self, backbone: Backbone, rank: int, seed: int) -> None:
        self._backbone, self._stack = backbone, ExitStack()
        self.lora = start(backbone, rank, seed, ALL)
        down = {f"down.{name}": x for name, x in self.lora.down.items()}
        self.masters = down | {f"up.{name}": x for name, x in self.lora.up.items()}

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Let the LoRA act."""
        self._enter()
        try:
            yield
        finally:
            self._stack.close()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Without it."""
        self._stack.close()
        try:
            yield
        finally:
            self._enter()

    def gather(self) -> None:
        """Gradients are there already."""

    def push(self) -> None:
        """Hooks read the masters."""

    def finish(self) -> None:
        """Fold it in."""
        fold(self._backbone, self.lora.finished(SCALE))

    def _enter(self) -> None:
        self._stack.enter_context(applied(self._backbone, self.lora, SCALE, self._backbone.dtype))


def equal_rank(backbone: Backbone, layer_count: int) -> int:
    """Rank at which a LoRA on all matrices has about as many parameters as the FFN blocks of some layers."""
    own = layer_count * sum(m.weight.numel() for m in targets(backbone, FFN).values()) / backbone.depth
    each = sum(sum(m.weight.shape) for m in targets(backbone, ALL).values())
    return max(1, round(own / each))


def parameters_of(backbone: Backbone) -> int:
    """Numbers of the model, tied ones once."""
    return sum(p.numel() for p in backbone.model.parameters())


def count(trained: Trained) -> int:
    """Numbers that are trained."""
    return sum(x.numel() for x in trained.masters.values())
