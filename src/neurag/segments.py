"""Many texts read as one row of tokens: a layer's matrices see no padding, a text sees itself and what it is behind.

M tokens of any number of texts stand in one row. Each text may be *behind* another one, which many share (a passage
with everything asked about it): that one is read and kept once. Only attention puts the tokens into padded rows, one
for a text, with one softmax over both parts (their log-sum-exps say how to mix them, as in FlashAttention, Dao et al.
2022). Heads that share keys are multiplied together. Not here: what is read (stream.py, knowledge/band.py).

    >>> texts = Texts.new(2, backbone.device)                                    # doctest: +SKIP
    >>> read(backbone, texts, owners, ids)                                       # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from .backbone import Backbone

ATTENTION = "neurag-segments"


@dataclass(frozen=True)
class Rows:
    """M tokens of N owners as N padded rows of T, and back."""

    at: Tensor
    """[N T] where each place's token stands among the M; the first token where a row is padded."""
    place: Tensor
    """[M] of each token among the N T."""
    count: int

    @classmethod
    def of(cls, owners: Tensor, count: int) -> Rows:
        """Tokens with the same owner [M], in the order they stand, are a row."""
        column = columns(owners, count)
        longest = int(column.max()) + 1 if len(owners) else 0
        place = owners * longest + column
        at = torch.zeros(count * longest, dtype=torch.long, device=owners.device)
        at[place] = torch.arange(len(owners), device=owners.device)
        return cls(at, place, count)

    def spread(self, tokens: Tensor) -> Tensor:
        """[M, ...] -> [N, T, ...]; what stands in the padding means nothing."""
        return tokens.index_select(0, self.at).view(self.count, -1, *tokens.shape[1:])

    def gather(self, rows: Tensor) -> Tensor:
        """[N, T, ...] -> [M, ...]."""
        return rows.flatten(0, 1).index_select(0, self.place)


def columns(owners: Tensor, count: int) -> Tensor:
    """[M] how many earlier tokens have the same owner."""
    order = torch.argsort(owners, stable=True)
    sizes = torch.bincount(owners, minlength=count)
    found = torch.empty_like(owners)
    found[order] = torch.arange(len(owners), device=owners.device) - (sizes.cumsum(0) - sizes)[owners[order]]
    return found


def in_one_row(texts: Sequence[Sequence[int]], owners: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """The owner and the id of every token of some texts, one text after the other, [M] each."""
    told = [(owner, token) for owner, text in zip(owners, texts, strict=True) for token in text]
    owner, ids = torch.tensor(told, dtype=torch.long, device=device).view(-1, 2).T.contiguous()
    return owner, ids


def common_start(texts: Sequence[Sequence[int]]) -> int:
    """How many tokens all begin with; 0 of no texts."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*texts, strict=False)))


class Texts:
    """Keys and values of N texts as far as they have been read, by layer [N, K, P, d]."""

    def __init__(self, lengths: Tensor) -> None:
        """`lengths` [N] of what has been read: zeros for new texts."""
        self.lengths = lengths
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    @classmethod
    def new(cls, count: int, device: torch.device) -> Texts:
        """Nothing read of `count` texts."""
        return cls(torch.zeros(count, dtype=torch.long, device=device))

    def only(self, which: Tensor) -> Texts:
        """Some of the texts, by number."""
        kept = Texts(self.lengths[which])
        kept.keys = {layer: x[which] for layer, x in self.keys.items()}
        kept.values = {layer: x[which] for layer, x in self.values.items()}
        return kept

    def give(self, other: Texts, which: slice, layers: Sequence[int]) -> None:
        """Copy what is held of some layers to `other`, as its texts `which`."""
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            for layer in layers:
                if layer in mine:
                    _make_room(theirs, layer, len(other.lengths), mine[layer])
                    theirs[layer][which, :, : mine[layer].shape[2]] = mine[layer]

    def with_added(
        self, layer: int, at: tuple[Tensor, Tensor], room: int, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor]:
        """All keys and values with those of M tokens [M, K, d] at (text, column), all below column `room`. They are
        kept, unless they have gradients."""
        for held, new in ((self.keys, keys), (self.values, values)):
            _make_room(held, layer, len(self.lengths), new[:1].transpose(0, 1)[None].expand(-1, -1, room, -1))
        index = at[0][:, None], torch.arange(keys.shape[1], device=keys.device)[None], at[1][:, None]
        if torch.is_grad_enabled():
            return self.keys[layer].index_put(index, keys), self.values[layer].index_put(index, values)
        self.keys[layer][index], self.values[layer][index] = keys, values
        return self.keys[layer], self.values[layer]


def _make_room(held: dict[int, Tensor], layer: int, count: int, like: Tensor) -> None:
    """Let `held[layer]` of `count` texts have at least as many columns as `like` [., K, P, d]."""
    before = held.get(layer, like.new_zeros(count, like.shape[1], 0, like.shape[3]))
    if (lacking := like.shape[2] - before.shape[2]) > 0:
        spare = max(lacking, before.shape[2] // 4)  # texts that grow token by token are not copied every time
        before = torch.cat([before, before.new_zeros(*before.shape[:2], spare, before.shape[3])], 2)
    held[layer] = before


class Reading:
    """M tokens that are read next: where each stands, and what it sees."""

    def __init__(
        self, texts: Texts, owners: Tensor, column: Tensor, behind: Texts | None = None, whose: Tensor | None = None
    ) -> None:
        """Tokens of `texts` number `owners` [M] at `column` [M]; text n is behind `behind` number `whose[n]`."""
        if behind is not None and not behind.lengths.any():
            behind = None
        self.texts, self.owners, self.column = texts, owners, column
        self.behind, self.whose = behind, whose
        self._rows = Rows.of(owners, len(texts.lengths))
        at = self._rows.spread(column)[..., None]  # [N, T, 1]
        self._seen = _Seen(torch.arange(int(column.max()) + 1, device=owners.device) <= at)
        self.places = column
        if self.behind is not None and whose is not None:
            held = self.behind.lengths
            self._shared = Rows.of(whose[owners], len(held))
            self.places = column + held[whose[owners]]
            self._seen_behind = _Seen((torch.arange(int(held.max()), device=owners.device) < held[:, None])[:, None])

    def only(self, tokens: Tensor) -> Reading:
        """Some of the tokens, [M] of bool."""
        return Reading(self.texts, self.owners[tokens], self.column[tokens], self.behind, self.whose)

    def compact(self) -> Reading:
        """The same, without texts that none of the tokens belong to."""
        kept, owners = torch.unique(self.owners, return_inverse=True)
        whose = None if self.whose is None else self.whose[kept]
        return Reading(self.texts.only(kept), owners, self.column, self.behind, whose)

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """`query` [M, H, d], scaled, `keys` and `values` [M, K, d] of the tokens -> [M, H, d]."""
        own = self.texts.with_added(layer, (self.owners, self.column), self._seen.width, keys, values)
        told, mass = _part(query, self._rows, own, self._seen)
        if self.behind is None:
            return told
        shared, other = _part(
            query, self._shared, (self.behind.keys[layer], self.behind.values[layer]), self._seen_behind
        )
        return torch.lerp(shared, told, torch.sigmoid(mass - other)[..., None].to(told.dtype))


class Joined:
    """Readings of different texts in one row: the tokens of the first, then those of the next."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self.readings = tuple(readings)
        self._sizes = [len(reading.owners) for reading in readings]
        self.places = torch.cat([reading.places for reading in readings])

    def only(self, tokens: Tensor) -> Joined:
        """Some of the tokens, [M] of bool, at least one; texts that none of them belong to are dropped."""
        kept = zip(self.readings, torch.split(tokens, self._sizes), strict=True)
        return Joined([reading.only(which).compact() for reading, which in kept if which.any()])

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """As `Reading.attend`."""
        parts = zip(self.readings, *(torch.split(x, self._sizes) for x in (query, keys, values)), strict=True)
        return torch.cat([reading.attend(layer, *part) for reading, *part in parts])


class _Seen:
    """What the tokens of padded rows see, [N, T or 1, P] of bool, as what is added to their scores."""

    def __init__(self, seen: Tensor) -> None:
        self.width = seen.shape[2]
        self._seen = seen
        self._bias: Tensor | None = None

    def bias(self, heads: int, group: int, dtype: torch.dtype) -> Tensor:
        """[N K, G T or 1, P]; the same for every layer, so it is made once."""
        if self._bias is None:
            bias = torch.zeros(self._seen.shape, dtype=dtype, device=self._seen.device)
            bias = bias.masked_fill(~self._seen, torch.finfo(dtype).min)[:, None, None]
            group = group if self._seen.shape[1] > 1 else 1
            self._bias = bias.expand(-1, heads, group, -1, -1).flatten(2, 3).flatten(0, 1)
        return self._bias


def _part(query: Tensor, rows: Rows, held: tuple[Tensor, Tensor], seen: _Seen) -> tuple[Tensor, Tensor]:
    """Attention [M, H, d] to what is seen of keys and values [N, K, P, d], and its log-sum-exp [M, H]."""
    keys, values = (x[:, :, : seen.width].flatten(0, 1) for x in held)  # [N K, P, d]
    heads, size = held[0].shape[1], query.shape[2]
    spread = rows.spread(query)
    asked = spread.view(*spread.shape[:2], heads, -1, size).permute(0, 2, 3, 1, 4)  # [N, K, G, T, d]
    shape = asked.shape[:4]
    bias = seen.bias(heads, shape[2], query.dtype)
    scores = torch.baddbmm(bias, asked.reshape(len(keys), -1, size), keys.transpose(1, 2))  # [N K, G T, P]
    weights = scores.softmax(-1)  # in float32 inside
    mass = scores.amax(-1).float() - weights.amax(-1).float().log()  # the log-sum-exp without a second exponential
    told = weights @ values
    said, sums = told.view(*shape, size).permute(0, 3, 1, 2, 4), mass.view(shape).permute(0, 3, 1, 2)
    return rows.gather(said.flatten(2, 3)), rows.gather(sums.flatten(2))


def climb(backbone: Backbone, hidden: Tensor, reading: Reading | Joined, layers: Sequence[int]) -> Tensor:
    """States [M, D] of the tokens behind some neighbouring layers, from those in front of them."""
    turns = backbone.part(backbone.family.rotary)(hidden[None], reading.places[None])
    with attending(backbone, ATTENTION, segment_attention):
        for number in layers:
            hidden = backbone.layers[number](hidden[None], position_embeddings=turns, reading=reading)[0]
    return hidden


@torch.no_grad()
def read(
    backbone: Backbone,
    texts: Texts,
    owners: Tensor,
    ids: Tensor,
    behind: Texts | None = None,
    whose: Tensor | None = None,
) -> Tensor:
    """Read tokens `ids` [M] of the texts `owners` [M] behind what has been read of them; their final states [M, D]."""
    column = texts.lengths[owners] + columns(owners, len(texts.lengths))
    reading = Reading(texts, owners, column, behind, whose)
    states = climb(backbone, backbone.part(backbone.family.embed)(ids), reading, range(backbone.depth))
    texts.lengths = texts.lengths + torch.bincount(owners, minlength=len(texts.lengths))
    return backbone.part(backbone.family.norm)(states)  # type: ignore[no-any-return]


def segment_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    reading: Reading | Joined,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: `query` [1, H, M, d], `key` and `value` [1, K, M, d] -> [1, M, H, d]."""
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    asked, keys, values = (x[0].transpose(0, 1) for x in (query * scaling, key, value))
    return reading.attend(layer, asked, keys, values)[None], None


@contextmanager
def attending(
    backbone: Backbone, name: str, function: Callable[..., tuple[Tensor, None]] | None = None
) -> Iterator[None]:
    """Let the backbone's layers attend by a function of ours, called as transformers calls its own, or one of its."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    config = backbone.model.config
    before = config._attn_implementation
    if function:
        ALL_ATTENTION_FUNCTIONS[name] = function
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before
        if function:
            del ALL_ATTENTION_FUNCTIONS[name]
