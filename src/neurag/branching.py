"""Branches: the answers that begin with each of the likeliest first tokens, several prompts side by side.

A neuron learned many answers and may begin the wrong one by a hair; its second and third are worth a look (which of
them is given is decided elsewhere: hyper_layer/recall.py). The prompt is read once, every branch goes on greedily
behind it, and a question whose first token is certain has one branch and costs what decoding costs. Not here: greedy
decoding alone (decoding.py).

    >>> branches(backbone, begin(backbone, [prompt.ids]), limit=12)              # doctest: +SKIP
    [[Branch(tokens=(8232, 11943), likelihood=-0.8), Branch(tokens=(2011,), likelihood=-1.9)]]
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from .backbone import Backbone
from .decoding import Step, forward, go_on, read_prompts

MOST = 5
"""Branches of a question."""
NEARLY = 3.0
"""Nats by which a first token may be less likely than the best: 12 find nothing more, 1 loses a quarter of the gain."""


@dataclass(frozen=True)
class Branch:
    """One answer, without its end token, and its log-likelihood in nats, end included."""

    tokens: tuple[int, ...]
    likelihood: float


@dataclass(frozen=True)
class Begun:
    """B prompts that have been read."""

    last: Tensor
    """[B, 1] their last tokens."""
    cache: Any
    logits: Tensor
    """[B, V] behind them."""
    seen: Tensor
    """[B, T] which tokens are real."""
    positions: Tensor
    """[B, T]."""

    @torch.no_grad()
    def read_again(self, backbone: Backbone) -> None:
        """Pass the last tokens through the backbone once more, for hooks that are there now; nothing else changes."""
        cache = copy.deepcopy(self.cache)
        cache.crop(-1)
        forward(backbone, cache, self.last, self.seen, self.positions[:, -1:])


def begin(backbone: Backbone, prompts: Sequence[Sequence[int]]) -> Begun:
    """Read B prompts of token ids."""
    from transformers import DynamicCache

    cache = DynamicCache()
    logits, seen, positions = read_prompts(backbone, cache, prompts)
    return Begun(torch.tensor([[ids[-1]] for ids in prompts], device=seen.device), cache, logits, seen, positions)


@torch.no_grad()
def branches(
    backbone: Backbone,
    begun: Begun,
    limit: int,
    acting: list[Any] | None = None,
    wanted: Callable[[int], bool] = lambda row: True,
) -> list[list[Branch]]:
    """Up to `MOST` branches of each of B prompts, the one greedy decoding gives first, `limit` tokens long at most.

    `acting` is what a Hyper-Layer does for the rows (`HyperLayer.active`), in their order; it is kept in step. `wanted`
    says whether a prompt shall have more than that one branch. What was `begun` is used up.
    """
    prompts = len(begun.last)
    first = begun.logits.float().log_softmax(-1).topk(MOST, -1)
    near = first.values >= first.values[:, :1] - NEARLY
    near[[row for row in range(prompts) if not wanted(row)], 1:] = False
    owners, places = near.nonzero(as_tuple=True)  # [S] prompt of each branch, prompt by prompt, likeliest first
    whose, speakers = owners.tolist(), list(acting or ())
    begun.cache.batch_select_indices(owners)
    heads = first.indices[owners, places].tolist()
    started = Step.of(backbone, list(range(len(whose))), heads, begun.logits[owners])
    rest = go_on(backbone, begun.cache, started, begun.seen[owners], begun.positions[owners], limit - 1)
    said: list[list[int]] = [[] for _ in whose]
    likelihoods = [0.0] * len(whose)
    for step in chain([started], rest):
        tokens = torch.tensor(step.tokens, device=step.logits.device)
        values = step.logits.float().log_softmax(-1).gather(1, tokens[:, None])[:, 0].tolist()
        for row, token, value in zip(step.rows, step.tokens, values, strict=True):
            said[row].append(token)
            likelihoods[row] += value
        if acting is not None:
            acting[:] = [speakers[whose[row]] for row in step.going]
    made: list[list[Branch]] = [[] for _ in range(prompts)]
    for owner, ids, likelihood in zip(whose, said, likelihoods, strict=True):
        made[owner].append(Branch(tuple(ids[:-1] if ids[-1] in backbone.stop_ids else ids), likelihood))
    return made
