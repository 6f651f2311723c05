"""A probe: one question with one context, read and ready for questions about its FFN units.

It holds what enters each down projection at the last prompt token with the context (z), the baseline it is compared
with (z0: the question alone, or zero), and what is watched: the probability of the first token of an answer, or the
log-probability of a whole one, whose tokens then stand behind the prompt (teacher forcing) and count as positions, too.
To set layer l's units to z0 + alpha (z - z0) is to add (1 - alpha) W_l (z0 - z) to the stream behind that layer, so
rows of width D are enough, and slopes with respect to them are carried back to units by one product with W_l.

Not here: scores (attribution.py, scores.py), the arithmetic of rows (rows.py).

    >>> probe = Probe.of(backbone, context_ids, question_ids, Target((3421,)), MineOptions())    # doctest: +SKIP
    >>> probe.units.shape, probe.value                                                           # doctest: +SKIP
    (torch.Size([30, 1, 1536]), 0.31)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..backbone import Backbone
from ..config import MineOptions, NeuragError
from ..hooks import read_input, read_output
from .rows import Prompt, climb, embedded, read_prompt
from .wide import log_probability, product


@dataclass(frozen=True)
class Target:
    """What is watched."""

    ids: tuple[int, ...]
    """Tokens of an answer, at least one."""
    whole: bool = False
    """The log-probability of all of them; else the probability of the first."""

    @property
    def said(self) -> tuple[int, ...]:
        """The tokens that are predicted: one for each of the A positions of a row."""
        return self.ids if self.whole else self.ids[:1]


@dataclass(frozen=True)
class Probe:
    """L layers, A positions, D width, F units."""

    prompt: Prompt
    tail: tuple[int, ...]
    """The A tokens of a row: the last one of the prompt, then those of the answer but its last."""
    target: Target
    outs: Tensor
    """[L, A, D] states behind each layer."""
    units: Tensor
    """[L, A, F] z."""
    baseline: Tensor
    """[L, A, F] z0."""

    @classmethod
    def of(
        cls, backbone: Backbone, context: Sequence[int], question: Sequence[int], target: Target, options: MineOptions
    ) -> Probe:
        """From the token ids of two prompts, with the context and without. Raises NeuragError without a target."""
        if not target.ids:
            raise NeuragError("an answer without a token cannot be watched: give the question another answer")
        dtype = torch.float32 if options.precision == "float32" else backbone.dtype
        tail = (context[-1], *target.said[:-1])
        prompt = read_prompt(backbone, context[:-1], dtype)
        outs, units = walk(prompt, tail)
        if options.baseline == "zero":
            baseline = torch.zeros_like(units)
        else:
            alone = read_prompt(backbone, question[:-1], dtype)
            baseline = walk(alone, (question[-1], *target.said[:-1]))[1]
        return cls(prompt, tail, target, outs, units, baseline)

    @property
    def backbone(self) -> Backbone:
        """The backbone that is probed."""
        return self.prompt.backbone

    @cached_property
    def shift(self) -> Tensor:
        """[L, A, D] what the baseline adds to the stream behind each layer: W_l (z0 - z)."""
        pairs = zip(self.baseline - self.units, range(len(self.units)), strict=True)
        return torch.stack([product(change, self.weight(layer)) for change, layer in pairs])

    @cached_property
    def value(self) -> float:
        """What is watched, as it is with the context."""
        return float(self.watch({len(self.outs) - 1: self.outs[-1:]}))

    def weight(self, layer: int) -> Tensor:
        """[D, F] W_l of the layer's down projection."""
        return self.backbone.down_projection(layer).weight  # type: ignore[return-value]

    def watch(self, joining: Mapping[int, Tensor]) -> Tensor:
        """[N] what is watched, in float32, for rows that join the stream behind layers (`rows.climb`)."""
        states = climb(self.prompt, joining)  # [N, A, D]
        head = self.backbone.part(self.backbone.family.head)
        said = torch.tensor(self.target.said, device=states.device)
        told = log_probability(states.flatten(0, 1), head.weight, said.repeat(len(states)))
        return told.view(len(states), -1).sum(1) if self.target.whole else told.exp()

    def by_unit(self, layer: int, slopes: Tensor) -> Tensor:
        """[..., F] slopes with respect to a layer's units, from those [..., D] of the stream behind it."""
        return slopes @ self.weight(layer).to(slopes.dtype)


@torch.no_grad()
def walk(prompt: Prompt, tail: Sequence[int]) -> tuple[Tensor, Tensor]:
    """States behind each layer [L, A, D] and what enters each down projection [L, A, F], at the tail's positions."""
    backbone = prompt.backbone
    outs: list[Tensor] = []
    units: list[Tensor] = []
    with ExitStack() as hooks:
        for number, layer in enumerate(backbone.layers):
            hooks.enter_context(read_output(layer, outs.append))
            hooks.enter_context(read_input(backbone.down_projection(number), units.append))
        climb(prompt, {-1: embedded(prompt, tail)})
    return torch.cat(outs), torch.cat(units)
