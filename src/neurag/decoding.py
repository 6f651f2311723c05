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
from typing import Any

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
    logits: Tensor
    """[rows, V] behind which the tokens come."""

    @classmethod
    def of(cls, backbone: Backbone, rows: list[int], tokens: list[int], logits: Tensor) -> Step:
        """Rows that have not said a stop token go on."""
        going = [row for row, token in zip(rows, tokens, strict=True) if token not in backbone.stop_ids]
        return cls(rows, tokens, going, logits)


def decode(backbone: Backbone, prompts: Sequence[Sequence[int]], limit: int) -> Iterator[Step]:
    """Yield up to `limit` steps for B prompts of token ids; a row ends at a stop token, which is yielded."""
    from transformers import DynamicCache

    cache = DynamicCache()
    logits, seen, positions = read_prompts(backbone, cache, prompts)
    step = Step.of(backbone, list(range(len(prompts))), logits.argmax(-1).tolist(), logits)
    yield step
    yield from go_on(backbone, cache, step, seen, positions, limit - 1)


@torch.no_grad()
def read_prompts(backbone: Backbone, cache: Any, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [B, V] behind the prompts, which of their tokens are real, and positions, [B, T] each."""
    ids, seen, positions = padded(backbone, prompts)
    return forward(backbone, cache, ids, seen, positions), seen, positions


@torch.no_grad()
def go_on(backbone: Backbone, cache: Any, step: Step, seen: Tensor, positions: Tensor, limit: int) -> Iterator[Step]:
    """Up to `limit` steps more behind one whose tokens are not read yet; `seen` and `positions` are of its rows."""
    for _ in range(limit):
        if not step.going:
            return
        kept = [place for place, token in enumerate(step.tokens) if token not in backbone.stop_ids]
        if len(kept) < len(step.rows):
            cache.batch_select_indices(torch.tensor(kept, device=seen.device))
            seen, positions = seen[kept], positions[kept]
        ids = torch.tensor([[step.tokens[place]] for place in kept], device=seen.device)
        seen = torch.cat([seen, seen.new_ones(len(seen), 1)], 1)
        positions = positions[:, -1:] + 1
        logits = forward(backbone, cache, ids, seen, positions)
        step = Step.of(backbone, step.going, logits.argmax(-1).tolist(), logits)
        yield step


def forward(backbone: Backbone, cache: Any, ids: Tensor, seen: Tensor, positions: Tensor) -> Tensor:
    """Logits [B, V] of the last tokens."""
    # without padding the model makes its own mask and positions
    told = {} if seen.all() else {"attention_mask": seen.long(), "position_ids": positions}
    out = backbone.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **told)
    return out.logits[:, -1]  # type: ignore[no-any-return]


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
