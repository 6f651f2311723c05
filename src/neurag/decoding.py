"""Greedy decoding of one prompt or several side by side; each prompt is processed once.

Prompts are padded on the left, so that all end together; rows that have ended leave the batch. On a CPU eight
rows cost little more than one. Not here: what the tokens mean, and the neurons (their hooks act on the passes
made here).

    for step in decode(backbone, [ids_a, ids_b], limit=32):
        step.rows, step.tokens      # who said what; step.going: who goes on
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .backbone import Backbone


@dataclass(frozen=True)
class Step:
    """One token for each row still being written."""

    rows: list[int]
    tokens: list[int]
    going: list[int]
    """The rows of the next step, in the order in which they stand in its batch."""


@torch.no_grad()
def decode(backbone: Backbone, prompts: Sequence[Sequence[int]], limit: int) -> Iterator[Step]:
    """Yield up to `limit` steps for B prompts of token ids; a row ends at a stop token, which is yielded."""
    from transformers import DynamicCache

    cache = DynamicCache()
    ids, seen, positions = padded(backbone, prompts)
    stops = torch.tensor(sorted(backbone.stop_ids), device=ids.device)
    rows = list(range(len(prompts)))
    for _ in range(limit):
        # without padding the model makes its own mask and positions
        told = {} if seen.all() else {"attention_mask": seen.long(), "position_ids": positions}
        out = backbone.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **told)
        chosen = out.logits[:, -1].argmax(-1)
        done = torch.isin(chosen, stops)
        kept = (~done).nonzero()[:, 0]
        going = [rows[i] for i in kept.tolist()]
        yield Step(rows, chosen.tolist(), going)
        if not going:
            return
        if len(going) < len(rows):
            cache.batch_select_indices(kept)
            chosen, seen, positions = chosen[kept], seen[kept], positions[kept]
        rows, ids = going, chosen[:, None]
        seen = torch.cat([seen, seen.new_ones(len(seen), 1)], 1)
        positions = positions[:, -1:] + 1


def padded(backbone: Backbone, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, which of them are real, and positions, [B, T] each."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    seen = torch.ones(len(prompts), longest, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(list(prompt))
        seen[row, : longest - len(prompt)] = False
    positions = (seen.cumsum(1) - 1).clamp(min=0)
    return tuple(x.to(backbone.device) for x in (ids, seen, positions))  # type: ignore[return-value]
