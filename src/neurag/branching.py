"""Branches: the answers that begin with each of the likeliest first tokens, several prompts side by side.

A neuron learned many answers and may begin the wrong one by a hair; its second and third are worth a look (which of
them is given is decided elsewhere: hyper_layer/placing.py). The prompt is read once, every branch goes on greedily
behind it, and a question whose first token is certain has one branch and costs what decoding costs. Not here: greedy
decoding alone (decoding.py).

    >>> branches(backbone, [prompt.ids], limit=12)                               # doctest: +SKIP
    [[Branch(tokens=(8232, 11943), likelihood=-0.8), Branch(tokens=(2011,), likelihood=-1.9)]]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .backbone import Backbone
from .decoding import padded

MOST = 5
"""Branches of a question."""
NEARLY = 3.0
"""Nats by which a first token may be less likely than the best: 12 find nothing more, 1 loses a quarter of the gain."""


@dataclass(frozen=True)
class Branch:
    """One answer, without its end token, and its log-likelihood in nats, end included."""

    tokens: tuple[int, ...]
    likelihood: float


@torch.no_grad()
def branches(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    limit: int,
    acting: list[Any] | None = None,
    wanted: Callable[[int], bool] = lambda row: True,
) -> list[list[Branch]]:
    """Up to `MOST` branches of each of B prompts, the one greedy decoding gives first, `limit` tokens long at most.

    `acting` is what a Hyper-Layer does for the rows (`HyperLayer.active`), in their order; it is kept in step. `wanted`
    says, once the prompts have been read, whether a prompt shall have more than that one branch.
    """
    from transformers import DynamicCache

    cache = DynamicCache()
    ids, seen, positions = padded(backbone, prompts)
    told = {} if seen.all() else {"attention_mask": seen.long(), "position_ids": positions}
    out = backbone.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **told)
    first = out.logits[:, -1].float().log_softmax(-1).topk(MOST, -1)
    near = first.values >= first.values[:, :1] - NEARLY
    near[[row for row in range(len(prompts)) if not wanted(row)], 1:] = False
    owners, places = near.nonzero(as_tuple=True)  # [S] prompt of each branch, prompt by prompt, likeliest first
    said = [[token] for token in first.indices[owners, places].tolist()]
    likelihoods = first.values[owners, places].tolist()
    cache.batch_select_indices(owners)
    if acting is not None:
        acting[:] = [acting[owner] for owner in owners.tolist()]
    for rows, tokens, values in _go_on(backbone, cache, said, seen[owners], positions[owners], limit, acting):
        for row, token, value in zip(rows, tokens, values, strict=True):
            said[row].append(token)
            likelihoods[row] += value
    made: list[list[Branch]] = [[] for _ in prompts]
    for owner, tokens, value in zip(owners.tolist(), said, likelihoods, strict=True):
        ended = tokens[:-1] if tokens[-1] in backbone.stop_ids else tokens
        made[owner].append(Branch(tuple(ended), value))
    return made


def _go_on(
    backbone: Backbone,
    cache: Any,
    said: Sequence[Sequence[int]],
    seen: torch.Tensor,
    positions: torch.Tensor,
    limit: int,
    acting: list[Any] | None,
) -> Iterator[tuple[list[int], list[int], list[float]]]:
    """Greedy steps of rows that have said their first token: row numbers, tokens, log-likelihoods."""
    stops = torch.tensor(sorted(backbone.stop_ids), device=seen.device)
    rows, chosen = list(range(len(said))), torch.tensor([tokens[0] for tokens in said], device=seen.device)
    for _ in range(limit - 1):
        kept = (~torch.isin(chosen, stops)).nonzero()[:, 0]
        if not len(kept):
            return
        if len(kept) < len(rows):
            cache.batch_select_indices(kept)
            rows, chosen, seen, positions = [rows[n] for n in kept], chosen[kept], seen[kept], positions[kept]
            if acting is not None:
                acting[:] = [acting[n] for n in kept.tolist()]
        seen = torch.cat([seen, seen.new_ones(len(seen), 1)], 1)
        positions = positions[:, -1:] + 1
        told = {"attention_mask": seen.long(), "position_ids": positions}
        out = backbone.model(input_ids=chosen[:, None], past_key_values=cache, use_cache=True, logits_to_keep=1, **told)
        best = out.logits[:, -1].float().log_softmax(-1).max(-1)
        chosen = best.indices
        yield rows, chosen.tolist(), best.values.tolist()
