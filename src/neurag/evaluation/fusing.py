"""How other systems train a document's LoRA, and fuse several.

PRAG's training and its sum (Su et al., SIGIR 2025), DyPRAG's averages (Tan et al. 2025). For comparing with; our own
neurons are in knowledge/. Not here: what is trained on (prag.py), what a LoRA is (lora.py).

    >>> with applied(backbone, fuse_sum([first, second])):          # doctest: +SKIP
    ...     backbone.model(input_ids=ids)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..backbone import Backbone
from ..lora import Lora, applied


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
    return lora.finished(alpha_over_rank)


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
