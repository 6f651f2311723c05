"""What the backbone holds while it reads: states of the routing layer, and units, the inputs of down projections.

Texts are read many at once, without padding (segments.py), and what all of them begin with, the chat template's head,
is read once; layers above the last one that is asked for do not run. Not here: what is made of states and units
(calibration.py, asking.py, keys.py).

    >>> [states] = span_states(backbone, [question_prompt(backbone, "Who runs the mill?")], layer=10)  # doctest: +SKIP
    >>> states.shape                                                               # [T, D]  # doctest: +SKIP
    torch.Size([6, 576])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor

from ..backbone import Backbone
from ..hooks import read_input
from ..prompts import Prompt, render
from ..segments import Reading, Texts, climb, columns, common_start, in_one_row

STATES, UNITS = 3072, 768
"""Tokens that are read together for the one and for the other: what bounds memory. Units are of all layers."""


def routing_states(backbone: Backbone, text: str, layer: int) -> Tensor:
    """[T, D] outputs of layer `layer` (1 = after the first) for the tokens of a text inside a user message.

    Living inside the chat template puts keys where queries live, and keeps attention sinks off the text.
    """
    return next(span_states(backbone, [render(backbone, text)], layer))


@torch.no_grad()
def span_states(backbone: Backbone, prompts: Sequence[Prompt], layer: int) -> Iterator[Tensor]:
    """[T, D] outputs of layer `layer` for the tokens of each prompt's span, in float32, one prompt after the other."""
    start = common_start([prompt.head for prompt in prompts])
    rests = [prompt.ids[start : prompt.span[1]] for prompt in prompts]  # what follows the span it does not see
    shared = _read(backbone, prompts[0].ids[:start] if prompts else (), layer)
    for first, end in _groups(rests, STATES):
        states = _climbed(backbone, Texts.new(end - first, backbone.device), rests[first:end], layer, shared)
        parts = torch.split(states, [len(rest) for rest in rests[first:end]])
        for prompt, part in zip(prompts[first:end], parts, strict=True):
            yield part[prompt.span[0] - start :].float()


@torch.no_grad()
def last_units(backbone: Backbone, texts: Sequence[Sequence[int]], counts: Sequence[int]) -> Iterator[Tensor]:
    """[depth, n, F] units of all layers at the last n tokens of each text (`counts`), in float32."""
    start = common_start([text[: len(text) - n] for text, n in zip(texts, counts, strict=True)])
    rests = [text[start:] for text in texts]
    shared = _read(backbone, texts[0][:start] if texts else (), backbone.depth)
    for first, end in _groups(rests, UNITS):
        group, wanted = rests[first:end], counts[first:end]
        kept = [at >= len(rest) - n for rest, n in zip(group, wanted, strict=True) for at in range(len(rest))]
        which = torch.tensor(kept, device=backbone.device).nonzero()[:, 0]
        seen: list[Tensor] = []
        with ExitStack() as hooks:
            for layer in range(backbone.depth):
                down = backbone.down_projection(layer)
                hooks.enter_context(read_input(down, partial(_keep, seen, which)))
            _climbed(backbone, Texts.new(end - first, backbone.device), group, backbone.depth, shared)
        yield from torch.split(torch.stack(seen), list(wanted), 1)


def _read(backbone: Backbone, ids: Sequence[int], layers: int) -> Texts:
    """One text, of which so many layers have read `ids`."""
    text = Texts.new(1, backbone.device)
    if ids:
        _climbed(backbone, text, [ids], layers)
        text.lengths += len(ids)
    return text


def _climbed(
    backbone: Backbone, texts: Texts, ids: Sequence[Sequence[int]], layers: int, behind: Texts | None = None
) -> Tensor:
    """[M, D] behind some layers of all tokens of some texts, one after the other, each behind what `behind` read."""
    owners, tokens = in_one_row(ids, range(len(ids)), backbone.device)
    embedded: Tensor = backbone.part(backbone.family.embed)(tokens)
    if not len(tokens):
        return embedded
    whose = torch.zeros(len(ids), dtype=torch.long, device=backbone.device)
    reading = Reading(texts, owners, columns(owners, len(ids)), behind, whose)
    return climb(backbone, embedded, reading, range(layers))


def _keep(seen: list[Tensor], which: Tensor, units: Tensor) -> None:
    seen.append(units[0, which].float())


def _groups(texts: Sequence[Sequence[int]], tokens: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of neighbours that have so many tokens together, at most, or of one text."""
    first, held = 0, 0
    for place, text in enumerate(texts):
        if place > first and held + len(text) > tokens:
            yield first, place
            first, held = place, 0
        held += len(text)
    if first < len(texts):
        yield first, len(texts)
