"""Frozen-prefix forward passes: a training step that costs the answer's tokens and the band's layers only.

Neurons act from the last prompt token on, and only inside the band. So a prompt's keys and values, and the
states that enter the band, are the backbone's own whatever the neurons are: they are computed once here, and
every step after that runs the band's layers over the last prompt token and the answer. Not here: what the
neurons are trained on (augmentation.py) and how (encoder.py).

    >>> lessons = prepare(backbone, [Lesson(0, prompt_ids, answer_ids)], layers)   # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone import Backbone, causal_mask
from ..hooks import on_each

Delta = Callable[[int, Tensor, Tensor], Tensor | None]
"""(place in the band, input of the down projection, its output) -> the new output."""


@dataclass(frozen=True)
class Lesson:
    """One training text: which document it teaches, the prompt, and the answer to learn."""

    document: int
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Prepared:
    """Lessons of similar length, ready for the band. E lessons, P prompt positions, T answer positions."""

    hidden: Tensor
    """[E, T, D] states entering the band: last prompt token, then the answer without its last token."""
    keys: tuple[Tensor, ...]
    """Per band layer [E, H, P, d]."""
    values: tuple[Tensor, ...]
    seen: Tensor
    """[E, P + T] true where a position is real."""
    positions: Tensor
    """[E, T] position ids of the answer part."""
    targets: Tensor
    """[E, T] token to predict at each position, -100 where there is none."""
    documents: Tensor
    """[E] document of each lesson."""
    weights: Tensor
    """[E] weight of each lesson."""


class _FrozenPrefix:
    """A key-value cache that shows each layer its cached prefix and keeps nothing."""

    def __init__(self, layers: Sequence[int], prepared: Prepared) -> None:
        self._place = {layer: i for i, layer in enumerate(layers)}
        self._prepared = prepared

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        at = self._place[layer_idx]
        return (
            torch.cat([self._prepared.keys[at], keys], 2),
            torch.cat([self._prepared.values[at], values], 2),
        )


@torch.no_grad()
def prepare(
    backbone: Backbone, lessons: Sequence[Lesson], layers: Sequence[int], batch_tokens: int = 4096
) -> list[Prepared]:
    """Run the frozen part of every lesson once. Lessons are grouped by answer length to save padding."""
    groups: dict[int, list[Lesson]] = {}
    for lesson in lessons:
        groups.setdefault(_bucket(len(lesson.answer)), []).append(lesson)
    return [_prepare_group(backbone, group, layers, batch_tokens) for _, group in sorted(groups.items())]


def _bucket(length: int) -> int:
    return next((size for size in (6, 12, 24, 48, 96, 192) if length <= size), 384)


def _prepare_group(backbone: Backbone, lessons: Sequence[Lesson], layers: Sequence[int], batch_tokens: int) -> Prepared:
    prompt = max(len(x.prompt) for x in lessons) - 1
    answer = max(len(x.answer) for x in lessons)
    ids = torch.zeros(len(lessons), prompt + answer, dtype=torch.long)
    seen = torch.zeros(len(lessons), prompt + answer, dtype=torch.bool)
    targets = torch.full((len(lessons), answer), -100)
    for row, lesson in enumerate(lessons):
        shown = [*lesson.prompt, *lesson.answer[:-1]]
        start = prompt + 1 - len(lesson.prompt)  # prompts end together, answers start together
        ids[row, start : start + len(shown)] = torch.tensor(shown)
        seen[row, start : start + len(shown)] = True
        targets[row, : len(lesson.answer)] = torch.tensor(lesson.answer)
    at = backbone.device
    ids, seen, targets = ids.to(at), seen.to(at), targets.to(at)
    positions = (seen.cumsum(1) - 1).clamp(min=0)
    size = max(1, batch_tokens // ids.shape[1])
    parts = [
        _frozen_pass(backbone, ids[i : i + size], seen[i : i + size], positions[i : i + size], layers, prompt)
        for i in range(0, len(ids), size)
    ]
    return Prepared(
        hidden=torch.cat([p[0] for p in parts]),
        keys=tuple(torch.cat([p[1][i] for p in parts]) for i in range(len(layers))),
        values=tuple(torch.cat([p[2][i] for p in parts]) for i in range(len(layers))),
        seen=seen,
        positions=positions[:, prompt:],
        targets=targets,
        documents=torch.tensor([x.document for x in lessons], device=at),
        weights=torch.tensor([x.weight for x in lessons], device=at),
    )


def _frozen_pass(
    backbone: Backbone, ids: Tensor, seen: Tensor, positions: Tensor, layers: Sequence[int], prompt: int
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """States entering the band, and the band's prompt keys and values."""
    from transformers import DynamicCache

    family = backbone.family
    hidden = backbone.part(family.embed)(ids)
    rotary = backbone.part(family.rotary)(hidden, positions)
    mask = causal_mask(seen, ids.shape[1], hidden.dtype)
    for layer in backbone.layers[: layers[0]]:
        hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary)
    entering = hidden[:, prompt:].clone()
    cache = DynamicCache()
    hidden, mask = hidden[:, :prompt], mask[:, :, :prompt, :prompt]
    rotary = (rotary[0][:, :prompt], rotary[1][:, :prompt])
    for number in range(layers[0], layers[-1] + 1):
        hidden = backbone.layers[number](hidden, attention_mask=mask, position_embeddings=rotary, past_key_values=cache)
    kept = [cache.layers[number] for number in layers]
    return entering, [x.keys for x in kept], [x.values for x in kept]


def band_states(backbone: Backbone, prepared: Prepared, layers: Sequence[int], delta: Delta) -> Tensor:
    """Final states [M, D] at the M positions that have a target, in row order, with `delta` in the band."""
    family = backbone.family
    hidden = prepared.hidden
    rotary = backbone.part(family.rotary)(hidden, prepared.positions)
    mask = causal_mask(prepared.seen, hidden.shape[1], hidden.dtype)
    cache = _FrozenPrefix(layers, prepared)
    modules: list[nn.Module] = [backbone.down_projection(n) for n in layers]
    with on_each(modules, delta):
        # prefix keys above the band would depend on the neurons too, so a band always ends at the top
        for number in layers:
            hidden = backbone.layers[number](
                hidden, attention_mask=mask, position_embeddings=rotary, past_key_values=cache
            )
    return backbone.part(family.norm)(hidden[prepared.targets != -100])  # type: ignore[no-any-return]


def band_logits(backbone: Backbone, prepared: Prepared, layers: Sequence[int], delta: Delta) -> Tensor:
    """Logits [M, V] over the whole vocabulary at the M positions that have a target."""
    states = band_states(backbone, prepared, layers, delta)
    return backbone.part(backbone.family.head)(states).float()  # type: ignore[no-any-return]
