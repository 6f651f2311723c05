"""Asking a backbone many questions at once, fast on a GPU: what it says, and how well it knows ordinary text.

Prompts of like length are answered side by side, as many as a number of tokens allows. Not here: judging answers
(evaluation/), prompts' wording (prompts.py).

    >>> say(backbone, [ids, other_ids], limit=32)                              # doctest: +SKIP
    ['Oskerby', 'Tarnhow']
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..backbone import Backbone
from ..decoding import decode
from .tuning import logits_of


@dataclass(frozen=True)
class Fluency:
    """How well texts are predicted."""

    perplexity: float
    right: float
    """Share of the tokens that were the likeliest."""


def say(backbone: Backbone, prompts: Sequence[Sequence[int]], limit: int, tokens: int = 8192) -> list[str]:
    """Greedy answers of up to `limit` tokens; `tokens`: of prompts and answers read side by side, padding included."""
    said: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    while order:
        rows = max(1, tokens // (len(prompts[order[0]]) + limit))
        batch, order = order[:rows], order[rows:]
        for step in decode(backbone, [prompts[number] for number in batch], limit):
            for row, token in zip(step.rows, step.tokens, strict=True):
                said[batch[row]].append(token)
    return [backbone.tokenizer.decode([t for t in ids if t not in backbone.stop_ids]).strip() for ids in said]


@torch.no_grad()
def fluency(backbone: Backbone, texts: Sequence[str], longest: int = 512, batch: int = 8) -> Fluency:
    """Over the tokens of texts, each read alone, the first token given."""
    loss, right, count = 0.0, 0, 0
    ids = [backbone.tokenizer(text, add_special_tokens=False).input_ids[:longest] for text in texts]
    ids = sorted((one for one in ids if len(one) > 1), key=len)
    for at in range(0, len(ids), batch):
        part = ids[at : at + batch]
        logits = logits_of(backbone, [one[:1] for one in part], [one[1:] for one in part])
        told = torch.tensor([token for one in part for token in one[1:]], device=logits.device)
        loss += float(torch.nn.functional.cross_entropy(logits, told, reduction="sum"))
        right += int((logits.argmax(-1) == told).sum())
        count += len(told)
    return Fluency(math.exp(loss / count), right / count) if count else Fluency(math.nan, math.nan)
