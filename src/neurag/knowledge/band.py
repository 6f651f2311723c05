"""Frozen-prefix forward passes: a training step that costs the answers' tokens and the band's layers only.

Neurons act from the last prompt token on, and only inside the band. So a prompt's keys and values, and the
states that enter the band, are the backbone's own whatever the neurons are: they are computed once here, and
every step after that runs the band's layers over the last prompt token and the answer. Lessons of one document that
begin alike share a row (packed.py): what they begin with is read once. Not here: what the neurons are trained on
(augmentation.py) and how (encoder.py).

    >>> lessons = prepare(backbone, [Lesson(0, prompt_ids, answer_ids)], layers)   # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..hooks import on_each
from ..packed import Columns, Piece, segment_mask

Delta = Callable[[int, Tensor, Tensor], Tensor | None]
"""(place in the band, input of the down projection, its output) -> the new output."""
PADDED = 1.5
"""How much longer than the shortest row of a group another may be."""
LONGEST_ROW, GROUP, FROZEN = 768, 16384, 4096
"""Tokens of a row (a longer lesson has one of its own), of a group, and of one pass through the frozen layers."""


@dataclass(frozen=True)
class Lesson:
    """One training text: which document it teaches, the prompt, and the answer to learn."""

    document: int
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    weight: float = 1.0
    shared: int = 0
    """Tokens at the prompt's beginning that other lessons of the document begin with, too."""
    view: tuple[int, ...] = ()
    """The prompt with the passage in it, for a teacher; nothing where there is none."""
    view_shared: int = 0
    """As `shared`, of the view."""


@dataclass(frozen=True)
class Prepared:
    """Lessons ready for the band. E rows, P columns of prompts, T columns of answers."""

    hidden: Tensor
    """[E, T, D] states entering the band: of each lesson the last prompt token, then the answer but its last token."""
    keys: tuple[Tensor, ...]
    """Per band layer [E, H, P, d]."""
    values: tuple[Tensor, ...]
    mask: Tensor
    """[E, 1, T, P + T] additive: what each position sees."""
    places: Tensor
    """[E, T] of each position in its text."""
    targets: Tensor
    """[E, T] token to predict at each position, -100 where there is none."""
    weights: Tensor
    """[E, T] weight of each position."""
    documents: Tensor
    """[E] document of each row."""
    lessons: Tensor
    """[E, T] number of the lesson of each position, in the order they were given."""

    def only(self, rows: Tensor) -> Prepared:
        """Some of the rows, [E] of bool; itself where all are wanted."""
        if rows.all():
            return self
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        kept: dict[str, Any] = {
            name: tuple(y[rows] for y in x) if isinstance(x, tuple) else x[rows] for name, x in told.items()
        }
        return Prepared(**kept)


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


def prepare(backbone: Backbone, lessons: Sequence[Lesson], layers: Sequence[int]) -> list[Prepared]:
    """Run the frozen part of every lesson once. Rows of similar length are grouped to save padding."""
    rows = sorted(((_length(lessons, row), row) for row in _rows(lessons)), key=lambda told: told[0])
    groups: list[list[list[int]]] = []
    shortest = 0
    for length, row in rows:
        if not groups or length > PADDED * shortest or len(groups[-1]) * length > GROUP:
            groups.append([])
            shortest = length
        groups[-1].append(row)
    return [_prepare_group(backbone, lessons, group, layers) for group in groups]


def _rows(lessons: Sequence[Lesson]) -> list[list[int]]:
    """Numbers of the lessons of each row: of one document, beginning alike, not too long together."""
    open_rows: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    rows: list[list[int]] = []
    for number, lesson in enumerate(lessons):
        key = lesson.document, lesson.prompt[: lesson.shared]
        row = open_rows.get(key)
        if row is None or _length(lessons, [*row, number]) > LONGEST_ROW:
            row = open_rows[key] = []
            rows.append(row)
        row.append(number)
    return rows


def _length(lessons: Sequence[Lesson], row: Sequence[int]) -> int:
    first = lessons[row[0]]
    return first.shared + sum(len(lessons[n].prompt) - first.shared + len(lessons[n].answer) for n in row)


def _prepare_group(
    backbone: Backbone, lessons: Sequence[Lesson], rows: Sequence[Sequence[int]], layers: Sequence[int]
) -> Prepared:
    device = backbone.device
    asked, told = _columns(lessons, rows, device)
    size = max(1, FROZEN // (asked.ids.shape[1] + told.ids.shape[1]))
    parts = []
    for start in range(0, len(rows), size):
        here = slice(start, start + size)
        parts.append(_frozen_pass(backbone, asked.rows(here), told.rows(here), layers))
    targets, weights = torch.full_like(told.ids, -100), torch.zeros(told.ids.shape, device=device)
    numbers = torch.full_like(told.ids, -1)
    for at, row in enumerate(rows):
        learned = [token for n in row for token in lessons[n].answer]
        targets[at, : len(learned)] = torch.tensor(learned, device=device)
        each = torch.tensor([len(lessons[n].answer) for n in row])
        weights[at, : len(learned)] = torch.tensor([lessons[n].weight for n in row]).repeat_interleave(each).to(device)
        numbers[at, : len(learned)] = torch.tensor(row).repeat_interleave(each).to(device)
    return Prepared(
        hidden=torch.cat([p[0] for p in parts]),
        keys=tuple(torch.cat([p[1][i] for p in parts]) for i in range(len(layers))),
        values=tuple(torch.cat([p[2][i] for p in parts]) for i in range(len(layers))),
        mask=segment_mask(told, asked.beside(told), backbone.dtype),
        places=told.places,
        targets=targets,
        weights=weights,
        documents=torch.tensor([lessons[row[0]].document for row in rows], device=device),
        lessons=numbers,
    )


def _columns(lessons: Sequence[Lesson], rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Columns, Columns]:
    """The prompts but their last tokens, and from there on; a lesson is a segment behind what its row shares."""
    asked: list[list[Piece]] = []
    told: list[list[Piece]] = []
    for row in rows:
        shared = lessons[row[0]].shared
        asked.append([Piece(0, 0, lessons[row[0]].prompt[:shared])])
        told.append([])
        for segment, number in enumerate(row, 1):
            prompt, answer = lessons[number].prompt, lessons[number].answer
            asked[-1].append(Piece(segment, shared, prompt[shared:-1]))
            told[-1].append(Piece(segment, len(prompt) - 1, (prompt[-1], *answer[:-1])))
    return Columns.of(asked, device), Columns.of(told, device)


@torch.no_grad()
def _frozen_pass(
    backbone: Backbone, asked: Columns, told: Columns, layers: Sequence[int]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """States entering the band, and the band's prompt keys and values."""
    from transformers import DynamicCache

    family, whole, count = backbone.family, asked.beside(told), asked.ids.shape[1]
    hidden = backbone.part(family.embed)(whole.ids)
    rotary = backbone.part(family.rotary)(hidden, whole.places)
    mask = segment_mask(whole, whole, hidden.dtype)
    for layer in backbone.layers[: layers[0]]:
        hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary)
    entering = hidden[:, count:].clone()
    cache = DynamicCache()
    hidden, mask = hidden[:, :count], mask[:, :, :count, :count]
    rotary = (rotary[0][:, :count], rotary[1][:, :count])
    for number in range(layers[0], layers[-1] + 1):
        hidden = backbone.layers[number](hidden, attention_mask=mask, position_embeddings=rotary, past_key_values=cache)
    kept = [cache.layers[number] for number in layers]
    return entering, [x.keys for x in kept], [x.values for x in kept]


def band_states(backbone: Backbone, prepared: Prepared, layers: Sequence[int], delta: Delta) -> Tensor:
    """Final states [M, D] at the M positions that have a target, in row order, with `delta` in the band."""
    family = backbone.family
    hidden = prepared.hidden
    rotary = backbone.part(family.rotary)(hidden, prepared.places)
    cache = _FrozenPrefix(layers, prepared)
    modules: list[nn.Module] = [backbone.down_projection(n) for n in layers]
    with on_each(modules, delta):
        # prefix keys above the band would depend on the neurons too, so a band always ends at the top
        for number in layers:
            hidden = backbone.layers[number](
                hidden, attention_mask=prepared.mask, position_embeddings=rotary, past_key_values=cache
            )
    return backbone.part(family.norm)(hidden[prepared.targets != -100])  # type: ignore[no-any-return]


def band_logits(backbone: Backbone, prepared: Prepared, layers: Sequence[int], delta: Delta) -> Tensor:
    """Logits [M, V] over the whole vocabulary at the M positions that have a target."""
    states = band_states(backbone, prepared, layers, delta)
    return backbone.part(backbone.family.head)(states).float()  # type: ignore[no-any-return]
