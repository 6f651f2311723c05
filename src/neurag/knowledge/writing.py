"""Greedy writing for many prompts at once, behind one shared prefix that is read only once.

Not here: answering with neurons (model.py), and what is asked for (augmentation.py).

    >>> write(backbone, prefix_ids, [ids_a, ids_b], new_tokens=24, stop="\\n")    # doctest: +SKIP
    ['When was ...?', 'Who ...?']
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..backbone import Backbone
from ..decoding import decode


@torch.no_grad()
def write(
    backbone: Backbone,
    prefix: Sequence[int],
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    stop: str = "\n",
    keep_stop: bool = False,
    batch: int = 64,
) -> list[str]:
    """One continuation a prompt, cut before (or after) `stop`, in the order given."""
    from transformers import DynamicCache

    shared = DynamicCache()
    ids = torch.tensor([list(prefix)], device=backbone.device)
    backbone.model(input_ids=ids, past_key_values=shared, use_cache=True, logits_to_keep=1)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # alike lengths: little padding
    texts = [""] * len(prompts)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        cache = DynamicCache()
        for layer, kept in enumerate(shared.layers):
            cache.update(kept.keys.expand(len(rows), -1, -1, -1), kept.values.expand(len(rows), -1, -1, -1), layer)
        tokens = _greedy(backbone, cache, len(prefix), [prompts[i] for i in rows], new_tokens, stop)
        for row, text in zip(rows, backbone.tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True):
            head, found, _ = text.partition(stop)
            texts[row] = (head + (found if keep_stop else "")).strip()
    return texts


def _greedy(
    backbone: Backbone, cache: Any, prefix: int, prompts: Sequence[Sequence[int]], new_tokens: int, stop: str
) -> list[list[int]]:
    """Token ids of each row, its stop included."""

    def stopped(tokens: Tensor) -> Tensor:
        texts = backbone.tokenizer.batch_decode(tokens[:, None])
        return torch.tensor([stop in text for text in texts], device=tokens.device)

    out: list[list[int]] = [[] for _ in prompts]
    for step in decode(backbone, prompts, new_tokens, cache, prefix, stopped):
        for row, token in zip(step.rows, step.tokens, strict=True):
            out[row].append(token)
    return out
