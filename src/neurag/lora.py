"""LoRA on a backbone's own matrices: W x becomes W x + s B A x, A [R, in] and B [out, R] of each matrix.

For adapters that are always on (tasks/) and for the layouts of other systems (evaluation/prag.py). Knowledge neurons
are not LoRA of this kind: they share one A and act at the last position only (knowledge/neurons.py). Not here: what an
adapter is trained on.

    >>> with applied(backbone, Lora.load(path)):          # doctest: +SKIP
    ...     backbone.model(input_ids=ids)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import torch
from torch import Tensor, nn

from .backbone import Backbone
from .config import NeuragError, UsageError
from .files import swapped
from .hooks import add_to_output

FFN = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
"""The matrices of PRAG's document adapters."""
ALL = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", *FFN)


@dataclass(frozen=True)
class Lora:
    """An adapter; keys are a layer number and a matrix: "7.mlp.up_proj"."""

    down: Mapping[str, Tensor]
    """A, [R, in], float32."""
    up: Mapping[str, Tensor]
    """s B, [out, R], float32: the scale s = alpha / R is in it."""

    @property
    def rank(self) -> int:
        """R."""
        return len(next(iter(self.down.values())))

    def finished(self, scale: float) -> Lora:
        """What was trained under `scale`, with the scale in it and no gradients."""
        down = {name: x.detach() for name, x in self.down.items()}
        return Lora(down, {name: x.detach() * scale for name, x in self.up.items()})

    def unfinished(self, scale: float) -> Lora:
        """A copy to be trained further under `scale`."""
        down = {name: x.detach().clone().requires_grad_() for name, x in self.down.items()}
        return Lora(down, {name: (x.detach() / scale).contiguous().requires_grad_() for name, x in self.up.items()})

    @property
    def fingerprint(self) -> str:
        """Hash of all its numbers."""
        digest = hashlib.sha256()
        for part in (self.down, self.up):
            for name in sorted(part):
                digest.update(name.encode() + part[name].detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: Path, small: bool = False) -> None:
        """Write a safetensors file aside and swap it in; `small`: as int8 with a scale for each direction."""
        from safetensors.torch import save_file

        told = {f"down.{n}": x for n, x in self.down.items()} | {f"up.{n}": x.T for n, x in self.up.items()}
        if small:
            scales = {f"scale.{n}": x.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127 for n, x in told.items()}
            told = {n: torch.round(x / scales[f"scale.{n}"]).to(torch.int8) for n, x in told.items()} | scales
        with swapped(path) as aside:
            save_file({name: x.contiguous() for name, x in told.items()}, aside)

    @classmethod
    def load(cls, path: Path) -> Lora:
        """Read what `save` wrote. Raises NeuragError for a file that is damaged or something else."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            told = load_file(path)
            rows = {n: x * told.get(f"scale.{n}", 1) for n, x in told.items() if not n.startswith("scale.")}
        except (OSError, SafetensorError) as error:
            raise NeuragError(f"the adapter {path} cannot be read ({error}): restore it, or train it again") from None
        down = {n.removeprefix("down."): x for n, x in rows.items() if n.startswith("down.")}
        return cls(down, {n.removeprefix("up."): x.T for n, x in rows.items() if n.startswith("up.")})


def targets(backbone: Backbone, matrices: Iterable[str] = FFN) -> dict[str, nn.Linear]:
    """Matrices of every layer, by key."""
    return {f"{n}.{name}": attrgetter(name)(layer) for n, layer in enumerate(backbone.layers) for name in matrices}


def start(backbone: Backbone, rank: int, seed: int, matrices: Iterable[str] = FFN) -> Lora:
    """A fresh adapter: A as PEFT draws it (uniform, He et al. 2015), B zero. Ready for training."""
    generator = torch.Generator().manual_seed(seed)
    down, up = {}, {}
    for name, module in targets(backbone, matrices).items():
        bound = 1 / math.sqrt(module.in_features)
        drawn = (2 * torch.rand(rank, module.in_features, generator=generator) - 1) * bound
        down[name] = drawn.to(backbone.device).requires_grad_()
        up[name] = torch.zeros(module.out_features, rank, device=backbone.device).requires_grad_()
    return Lora(down, up)


@contextmanager
def applied(backbone: Backbone, lora: Lora, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Let an adapter act on every position of the forward passes inside; `scale` multiplies it.

    `dtype` is the format of its products; the backbone's own is fastest.
    """

    def add(name: str, x: Tensor, y: Tensor) -> Tensor:
        told = x.to(dtype) @ lora.down[name].to(dtype).T @ lora.up[name].to(dtype).T
        return y + (scale * told).to(y.dtype)

    with ExitStack() as stack:
        for name, module in _matched(backbone, lora).items():
            stack.enter_context(add_to_output(module, lambda x, y, at=name: add(at, x, y)))  # type: ignore[misc]
        yield


@torch.no_grad()
def fold(backbone: Backbone, lora: Lora) -> None:
    """Make W + s B A the backbone's weights, for good. Raises UsageError for an adapter of another model."""
    for key, module in _matched(backbone, lora).items():
        down, up = (x[key].to(module.weight.device) for x in (lora.down, lora.up))
        module.weight.copy_(module.weight.float() + up @ down)


def _matched(backbone: Backbone, lora: Lora) -> dict[str, nn.Linear]:
    """The matrices an adapter belongs to."""
    try:
        modules = targets(backbone, dict.fromkeys(key.partition(".")[2] for key in lora.down))
        found = {key: modules[key] for key in lora.down}
    except (AttributeError, KeyError):
        found = {}
    shapes = {(key, m.weight.shape) for key, m in found.items()}
    if not found or shapes != {(key, (len(lora.up[key]), lora.down[key].shape[1])) for key in lora.down}:
        raise UsageError(f"the adapter was made for another model than {backbone.name}: train one for this model")
    return found
