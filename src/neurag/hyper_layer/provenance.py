"""Provenance: what each neuron was chosen for, and what it did for the answer.

Three things, computed only when asked for, after the answer: the weights a_i(t) that acted at each token; the places in
a neuron's text whose tokens matched the question best, which the stored keys' positions lead back to (the text is
tokenised again, nothing more is stored); and the effect of leaving the neuron out on the answer's log-likelihood,

    e_i = log p(answer | all that acted) - log p(answer | the same without i)

the other weights staying as they were. Leave-one-out as in ContextCite (Cohen-Wang et al. 2024), there for passages.
Not here: drawing (app/explain.py), scores (routing.py).

    >>> explain(layer, firing, prompt, question, tokens).neurons[0].effect      # doctest: +SKIP
    7.31
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..answer import Explanation, NeuronTrace, Span
from ..backbone import Backbone
from ..knowledge.chance import Yardstick
from ..knowledge.keys import lower_case
from ..knowledge.rows import RowText
from ..prompts import Prompt, render
from .layer import Firing, HyperLayer, acting
from .routing import Routed

NEAR = 2
"""Characters between two cited words that are one span."""


def explain(layer: HyperLayer, firing: Firing, prompt: Prompt, question: str, tokens: Sequence[int]) -> Explanation:
    """Why the answer `tokens` came out as they did; `firing` has answered `prompt`, which holds `question`.

    Raises BankError where the bank cannot be read; a neuron that has left it meanwhile has no text and no spans.
    """
    rows = list(dict.fromkeys(row for routed in firing.path for row, _ in acting(routed) if row >= 0))
    paths = [firing.path, *([_without(routed, row) for routed in firing.path] for row in rows)]
    whole, *rest = likelihoods(layer, firing, prompt, tokens, paths)
    traces = []
    for row, left in zip(rows, rest, strict=True):
        weights = [dict(acting(routed)).get(row, 0.0) for routed in firing.path[: len(tokens)]]
        (stored,) = stored_rows(layer, firing, [row])
        shares, keys = matches(layer, firing, row)
        spans = cited(layer.backbone, stored, keys, shares, prompt, question) if stored else ()
        title, text = (stored.title, stored.text) if stored else ("", "")
        name = firing.index.document_ids[row]
        traces.append(NeuronTrace(name, title, text, tuple(weights), tuple(shares), spans, whole - left))
    decode = layer.backbone.tokenizer.decode
    words = tuple(question[a:b] for a, b in prompt.offsets)
    return Explanation(words, tuple(decode([token]) for token in tokens), whole, tuple(traces))


@torch.no_grad()
def likelihoods(
    layer: HyperLayer, firing: Firing, prompt: Prompt, tokens: Sequence[int], paths: Sequence[Sequence[Routed]]
) -> list[float]:
    """log p(tokens) in nats for each path, which says for each token who acts: all side by side, token by token, since
    neurons act at the last position only. As many passes as the answer has tokens."""
    from transformers import DynamicCache

    model, device, cache = layer.backbone.model, layer.backbone.device, DynamicCache()
    rows = [replace(firing, path=[], routed=Routed((), (), ()), fused=None, held={}, coming=None) for _ in paths]
    ids = torch.tensor([prompt.ids] * len(paths), device=device)
    total = torch.zeros(len(paths), device=device)
    with layer.active(rows):
        for place, token in enumerate(tokens):
            for row, path in zip(rows, paths, strict=True):
                layer.fix(row, path[place])
            out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            total += out.logits[:, -1].float().log_softmax(-1)[:, token]
            ids = torch.full((len(paths), 1), token, device=device)
    return [float(x) for x in total]


def matches(layer: HyperLayer, firing: Firing, row: int) -> tuple[list[float], list[int]]:
    """For each token of the question what it adds to the row's score S, and which of the row's keys it matched best."""
    states = asked_states(firing)
    keys = firing.index.keys.row(row)
    yardstick = layer.router.yardstick(states)
    told, places = matched(yardstick, states, keys)
    return (told / yardstick.best.sum().clamp(min=1e-6)).tolist(), places.tolist()


def matched(yardstick: Yardstick, states: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """r [T] of a question's tokens (states [T, key_width]) in a row with these keys [n, key_width], and which key each
    of them matched best."""
    if not len(keys) or not len(states):
        return torch.zeros(len(states)), torch.zeros(len(states), dtype=torch.long)
    best, places = (states.to(keys.dtype) @ keys.T).float().max(1)
    return yardstick.surprise(best[:, None], torch.tensor([float(len(keys))]))[:, 0], places


def cited(
    backbone: Backbone, row: RowText, keys: Sequence[int], shares: Sequence[float], prompt: Prompt, question: str
) -> tuple[Span, ...]:
    """The words of a row's title and text that the question's tokens matched, neighbours joined, weightiest first.

    `keys` [T] are the row's keys that the T tokens matched best, `shares` [T] what that was worth; where it was worth
    nothing, nothing is cited.
    """
    shown, offsets = offsets_of(backbone, row.title, row.text)
    begin = len(shown) - len(row.text)
    parts = []
    for key, share, (a, b) in zip(keys, shares, prompt.offsets, strict=True):
        if share > 0:
            start, end = _word(shown, *offsets[int(row.positions[key])])
            if start < end:
                asked = slice(*_word(question, a, b))
                parts.append(Span(start, end, start < begin, (question[asked],), share))
    joined: list[Span] = []
    for part in sorted(parts, key=lambda span: (span.start, span.end)):
        last = joined[-1] if joined else None
        if last is None or part.in_title != last.in_title or part.start > last.end + NEAR:
            joined.append(part)
        else:
            told = tuple(dict.fromkeys([*last.words, *part.words]))
            joined[-1] = Span(last.start, max(last.end, part.end), last.in_title, told, last.share + part.share)
    moved = [s if s.in_title else replace(s, start=s.start - begin, end=s.end - begin) for s in joined]
    return tuple(sorted(moved, key=lambda span: -span.share))


def offsets_of(backbone: Backbone, title: str, text: str) -> tuple[str, list[tuple[int, int]]]:
    """A row's title and text as its keys were read from, and the characters of each token, by position."""
    shown = f"{title}\n{text}" if title else text
    return shown, [*render(backbone, shown).offsets, *render(backbone, lower_case(shown)).offsets]


def _word(text: str, start: int, end: int) -> tuple[int, int]:
    """The whole words that a range of characters touches, without the space around it."""
    inside = text[start:end]
    start, end = start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip())
    while 0 < start < end and re.match(r"\w\w", text[start - 1 : start + 1]):
        start -= 1
    while start < end < len(text) and re.match(r"\w\w", text[end - 1 : end + 1]):
        end += 1
    return start, end


def _without(routed: Routed, row: int) -> Routed:
    """The same choice with one neuron silent."""
    weights = (0.0 if other == row else weight for other, weight in zip(routed.rows, routed.weights, strict=True))
    return replace(routed, weights=tuple(weights))


def asked_states(firing: Firing) -> Tensor:
    """[T, key_width] states of the question's own tokens, without those that rerouting has added."""
    assert firing.states is not None
    return firing.states[: firing.span[1] - firing.span[0]]


def stored_rows(layer: HyperLayer, firing: Firing, rows: Sequence[int]) -> list[RowText | None]:
    """Rows as the bank has them now; None for one that is gone or was replaced since the question came."""
    names = [firing.index.ids[row] for row in rows]
    held = layer.bank.texts(names)
    counts = {name: firing.index.keys.count(row) for name, row in zip(names, rows, strict=True)}
    return [held[name] if name in held and len(held[name].positions) == counts[name] else None for name in names]
