"""LoRA on every matrix of every FFN: the layout of PRAG's document adapters, trained, fused and applied.

W x becomes W x + s B A x on gate, up and down projections, A [R, in] and B [out, R] of each. Several documents are
fused by the rules of the papers: PRAG's sum (Su et al., SIGIR 2025), DyPRAG's averages (Tan et al. 2025). For comparing
with; our own neurons are in knowledge/. Not here: what is trained on (prag.py).

    >>> with applied(backbone, fuse_sum([first, second])):          # doctest: +SKIP
    ...     backbone.model(input_ids=ids)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..hooks import add_to_output

MATRICES = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Lora:
    """An adapter; keys are a layer number and a matrix: "7.up_proj"."""

    down: Mapping[str, Tensor]
    """A, [R, in], float32."""
    up: Mapping[str, Tensor]
    """s B, [out, R], float32: the scale s = alpha / R is in it."""

    @property
    def bytes(self) -> int:
        """Size at two bytes a number."""
        return 2 * sum(x.numel() for part in (self.down, self.up) for x in part.values())

    def save(self, path: Path) -> None:
        """Write a safetensors file aside and swap it in."""
        from safetensors.torch import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        told = {f"down.{n}": x for n, x in self.down.items()} | {f"up.{n}": x for n, x in self.up.items()}
        save_file({name: x.contiguous() for name, x in told.items()}, aside)
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Lora:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        told = load_file(path)
        parts = [{n.partition(".")[2]: x for n, x in told.items() if n.startswith(side)} for side in ("down.", "up.")]
        return cls(*parts)


def targets(backbone: Backbone) -> dict[str, nn.Linear]:
    """The matrices an adapter acts on, by key."""
    return {f"{n}.{m}": getattr(layer.mlp, m) for n, layer in enumerate(backbone.layers) for m in MATRICES}


def start(backbone: Backbone, rank: int, alpha: float, seed: int) -> Lora:
    """The start all documents share: A as PEFT draws it (uniform, He et al. 2015), B zero. Ready for training."""
    generator = torch.Generator().manual_seed(seed)
    down, up = {}, {}
    for name, module in targets(backbone).items():
        bound = 1 / math.sqrt(module.in_features)
        drawn = (2 * torch.rand(rank, module.in_features, generator=generator) - 1) * bound
        down[name] = drawn.to(backbone.device).requires_grad_()
        up[name] = torch.zeros(module.out_features, rank, device=backbone.device).requires_grad_()
    return Lora(down, up)


@contextmanager
def applied(backbone: Backbone, lora: Lora, scale: float = 1.0) -> Iterator[None]:
    """Let an adapter act on every position of the forward passes inside; `scale` multiplies it."""

    def add(name: str, x: Tensor, y: Tensor) -> Tensor:
        return y + (scale * (x.float() @ lora.down[name].T @ lora.up[name].T)).to(y.dtype)

    with ExitStack() as stack:
        for name, module in targets(backbone).items():
            stack.enter_context(add_to_output(module, lambda x, y, at=name: add(at, x, y)))  # type: ignore[misc]
        yield


def train(
    backbone: Backbone, lora: Lora, lessons: Sequence[Sequence[int]], rate: float, epochs: int, alpha_over_rank: float
) -> Lora:
    """AdamW over token sequences, one a step, in order, the loss over the whole sequence (as PRAG trains)."""
    optimiser = torch.optim.AdamW([*lora.down.values(), *lora.up.values()], lr=rate)
    with applied(backbone, lora, alpha_over_rank), torch.enable_grad():
        for _ in range(epochs):
            for lesson in lessons:
                ids = torch.tensor([list(lesson)], device=backbone.device)
                optimiser.zero_grad()
                backbone.model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
                optimiser.step()
    return Lora(
        {name: x.detach() for name, x in lora.down.items()},
        {name: x.detach() * alpha_over_rank for name, x in lora.up.items()},
    )


def fuse_sum(loras: Sequence[Lora]) -> Lora:
    """sum_i B_i A_i, by stacking ranks: PRAG's fusion, PEFT's `add_weighted_adapter(combination_type="cat")`."""
    return Lora(
        {name: torch.cat([x.down[name] for x in loras], 0) for name in loras[0].down},
        {name: torch.cat([x.up[name] for x in loras], 1) for name in loras[0].up},
    )


def fuse_means(loras: Sequence[Lora]) -> Lora:
    """mean(B) mean(A): DyPRAG's fusion, which is not the mean of the products B_i A_i."""
    return Lora(
        {name: torch.stack([x.down[name] for x in loras]).mean(0) for name in loras[0].down},
        {name: torch.stack([x.up[name] for x in loras]).mean(0) for name in loras[0].up},
    )
