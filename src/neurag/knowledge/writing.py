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
) -> Tensor:
    """Token ids [B, new_tokens], filled up with an end token after the stop.

    Prompts are padded on the left, between the prefix and themselves.
    """
    longest = max(len(p) for p in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    seen = torch.ones(len(prompts), prefix + longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(list(prompt))
        seen[row, prefix : prefix + longest - len(prompt)] = 0
    at = backbone.device
    ids, seen = ids.to(at), seen.to(at)
    ends = torch.tensor(sorted(backbone.stop_ids), device=at)
    out = torch.full((len(prompts), new_tokens), int(ends[0]), device=at)
    rows = torch.arange(len(prompts), device=at)  # still being written
    positions = (seen.cumsum(1) - 1)[:, prefix:]
    for step in range(new_tokens):
        logits = backbone.model(
            input_ids=ids, attention_mask=seen, position_ids=positions, past_key_values=cache,
            use_cache=True, logits_to_keep=1,
        ).logits[:, -1]  # fmt: skip
        ids = logits.argmax(-1, keepdim=True)
        out[rows, step] = ids[:, 0]
        done = torch.isin(ids[:, 0], ends)
        done |= torch.tensor([stop in t for t in backbone.tokenizer.batch_decode(ids)], device=at)
        going = (~done).nonzero()[:, 0]
        if not len(going):
            break
        seen = torch.cat([seen, seen.new_ones(len(seen), 1)], 1)
        positions = positions[:, -1:] + 1
        # finished rows leave the batch: most questions are half as long as the longest
        if len(going) < len(rows):
            cache.batch_select_indices(going)
            rows, ids, seen, positions = rows[going], ids[going], seen[going], positions[going]
    return out
