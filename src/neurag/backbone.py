"""The backbone: a frozen causal language model, its tokenizer, and where its parts are.

Not here: where it comes from (loading.py), neurons, prompts' wording, routing. Other model families are one line in
`FAMILIES`, as long as they are built from decoder layers with a `down_proj`.

    >>> backbone = load_backbone()                       # doctest: +SKIP
    >>> backbone.depth, backbone.width                   # doctest: +SKIP
    (30, 576)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import nn

from .projection import Projection
from .weigher import Weigher


@dataclass(frozen=True)
class Family:
    """Dotted paths of the parts of one model family, from the causal LM down."""

    body: str = "model"
    """All but the head."""
    layers: str = "model.layers"
    embed: str = "model.embed_tokens"
    norm: str = "model.norm"
    rotary: str = "model.rotary_emb"
    head: str = "lm_head"
    down: str = "mlp.down_proj"
    """From a layer: the FFN's output projection, whose input coordinates are the units."""


FAMILIES: Mapping[str, Family] = {name: Family() for name in ("llama", "mistral", "qwen2", "qwen3")}


@dataclass(frozen=True)
class Backbone:
    """A loaded model with its tokenizer. The weights are frozen and never changed by this package."""

    name: str
    model: Any
    tokenizer: Any
    family: Family
    reading: Backbone | None = None
    """The model that reads and writes, where that is another (`reader`)."""
    routing: Projection | None = None
    """The space in which keys and queries are compared, where it was trained."""
    weigher: Weigher | None = None
    """Which of several answers is given, where that was trained."""

    @property
    def layers(self) -> list[nn.Module]:
        """The decoder layers, bottom first."""
        return list(attrgetter(self.family.layers)(self.model))

    @property
    def depth(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)

    @property
    def width(self) -> int:
        """D, the size of a hidden state."""
        return int(self.model.config.hidden_size)

    @property
    def ffn_width(self) -> int:
        """Number of units of one FFN."""
        return int(self.model.config.intermediate_size)

    @property
    def context(self) -> int:
        """Longest sequence in tokens."""
        return int(self.model.config.max_position_embeddings)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights."""
        return next(self.model.parameters()).dtype  # type: ignore[no-any-return]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device  # type: ignore[no-any-return]

    @property
    def reader(self) -> Backbone:
        """Who reads passages and writes questions about them: itself, or a model of its own trained for that."""
        return self.reading or self

    def part(self, path: str) -> Any:
        """The submodule at a path of the family table, `backbone.part(backbone.family.norm)`."""
        return attrgetter(path)(self.model)

    def down_projection(self, layer: int) -> nn.Module:
        """The FFN output projection of one layer: neurons add to its output."""
        return attrgetter(self.family.down)(self.layers[layer])  # type: ignore[no-any-return]

    def count_tokens(self, text: str) -> int:
        """Tokens in a text, without special tokens."""
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end an answer."""
        told = self.model.generation_config.eos_token_id
        ids = set(told if isinstance(told, list) else [told]) | {self.tokenizer.eos_token_id}
        return frozenset(i for i in ids if i is not None)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, the same in any number format: 1,024 spread values of every tensor."""
        digest = hashlib.sha256(str(self.model.config.model_type).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            flat = tensor.flatten()
            spread = flat[:: max(1, len(flat) // 1024)].to(torch.bfloat16).view(torch.int16)
            digest.update(f"{name}{tuple(tensor.shape)}".encode() + spread.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """Hash of the tokenizer and its chat template."""
        told = self.tokenizer.backend_tokenizer.to_str() + str(self.tokenizer.chat_template)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Where derived files go: $NEURAG_CACHE, else the user's cache directory."""
    told = os.environ.get("NEURAG_CACHE")
    return Path(told) if told else Path(user_cache_path("neurag"))


def processor_format() -> torch.dtype:
    """bfloat16 where the processor multiplies it itself: fastest there, and very slow elsewhere; else float32."""
    able = torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.bfloat16 if able else torch.float32
