"""One-token rows: many variants of the last prompt token side by side, over one prompt that is read once.

Whatever is changed at the last token leaves the keys and values of all earlier ones untouched. So a variant is a row
of one token (or of a few, where an answer follows) that sees the cached prompt and itself. A row that is changed in
layer l equals the unchanged one below, so it enters the stream behind layer l, with the rows that entered further down:
one climb through the stack carries rows of all layers. Rows share a position, and the cache is not copied.

The numbers are those of full passes with a hook, to rounding (tested). Not here: what is changed (probe.py) and why.

    >>> prompt = read_prompt(backbone, ids[:-1], torch.float32)                 # doctest: +SKIP
    >>> climb(prompt, {-1: embedded(backbone, ids[-1:]), 5: variants}).shape    # doctest: +SKIP
    torch.Size([21, 1, 576])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..config import UsageError
from ..segments import attending
from .wide import widened

ATTENTION = "neurag-rows"
"""Name under which transformers finds `rows_attention` while rows climb."""


@dataclass(frozen=True)
class Prompt:
    """All of a prompt but what stands in the rows, read. L layers, K key heads, P tokens."""

    backbone: Backbone
    keys: tuple[Tensor, ...]
    """Per layer [K, P, d], in the format of the rows."""
    values: tuple[Tensor, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Format in which rows are computed."""
        return self.keys[0].dtype

    def __len__(self) -> int:
        return self.keys[0].shape[1]


@torch.no_grad()
def read_prompt(backbone: Backbone, ids: Sequence[int], dtype: torch.dtype) -> Prompt:
    """Read tokens in the backbone's own format; keys and values are kept in `dtype`."""
    from transformers import DynamicCache

    cache = DynamicCache()
    body = backbone.part(backbone.family.body)
    body(input_ids=torch.tensor([list(ids)], device=backbone.device), past_key_values=cache, use_cache=True)
    kept = cache.layers
    return Prompt(backbone, tuple(x.keys[0].to(dtype) for x in kept), tuple(x.values[0].to(dtype) for x in kept))


def embedded(prompt: Prompt, ids: Sequence[int]) -> Tensor:
    """One row [1, A, D] of A tokens as it enters the first layer."""
    backbone = prompt.backbone
    states: Tensor = backbone.part(backbone.family.embed)(torch.tensor([list(ids)], device=backbone.device))
    return states.to(prompt.dtype)


def climb(prompt: Prompt, joining: Mapping[int, Tensor]) -> Tensor:
    """Final states [N, A, D] of all rows behind the last norm, in the order of the layers they join.

    `joining[l]` [n, A, D] are rows as they leave layer l (-1: as they enter the first one). Gradients flow where they
    are enabled. Raises UsageError where a sliding window would hide a part of the prompt.
    """
    backbone = prompt.backbone
    first = next(iter(joining.values()))
    tokens, width = first.shape[1:]
    _refuse_windows(backbone, len(prompt) + tokens)
    places = torch.arange(len(prompt), len(prompt) + tokens, device=first.device)[None]
    turns = backbone.part(backbone.family.rotary)(first, places)
    states = first[:0]
    with widened(backbone.layers), attending(backbone, ATTENTION, rows_attention):
        for number in range(min(joining), backbone.depth):
            if len(states):
                told = backbone.layers[number](
                    states.reshape(1, -1, width),
                    position_embeddings=tuple(turn.repeat(1, len(states), 1) for turn in turns),
                    prompt=prompt,
                    tokens=tokens,
                )
                states = told.view(-1, tokens, width)
            if number in joining:
                states = torch.cat([states, joining[number]])
    return backbone.part(backbone.family.norm)(states)  # type: ignore[no-any-return]


def rows_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    prompt: Prompt,
    tokens: int,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of N rows of A tokens to the prompt and, causally, to themselves; softmax in float32.

    `query` [1, H, N A, d], `key` and `value` [1, K, N A, d] -> [1, N A, H, d].
    """
    layer, size = int(module.layer_idx), query.shape[-1]  # type: ignore[arg-type]
    heads, group, count = key.shape[1], query.shape[1] // key.shape[1], key.shape[2] // tokens
    asked = (query * scaling).reshape(heads, -1, size)  # [K, G N A, d]
    own_keys, own_values = (x.reshape(heads, 1, count, tokens, size) for x in (key, value))
    own = asked.view(heads, group, count, tokens, size) @ own_keys.transpose(3, 4)  # [K, G, N, A, A]
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=own.device).triu(1)
    own = own.masked_fill(later, float("-inf")).view(heads, -1, tokens)
    scores = torch.cat([asked @ prompt.keys[layer].transpose(1, 2), own], 2)
    weights = scores.softmax(2, dtype=torch.float32).to(query.dtype)  # [K, G N A, P + A]
    beside = weights[..., len(prompt) :].reshape(heads, group, count, tokens, tokens) @ own_values
    told = weights[..., : len(prompt)] @ prompt.values[layer] + beside.reshape(heads, -1, size)
    by_token = told.view(heads * group, count * tokens, size).transpose(0, 1)
    return by_token[None].contiguous(), None


def _refuse_windows(backbone: Backbone, length: int) -> None:
    window = getattr(backbone.model.config, "sliding_window", None)
    if window is not None and length > window and getattr(backbone.model.config, "use_sliding_window", True):
        raise UsageError(
            f"the prompt is {length} tokens long, and {backbone.name} sees {window} at once: show fewer passages"
        )
