"""Every option of hardening, written once: flags and Python share this frozen dataclass.

Stage 1 (denoising) acts on units, stage 2 (evidence distillation) tunes parts of a few layers. The baselines are other
values of the same options (systems.py), so they run in the same loop on the same data. Not here: options of mining
(config.MineOptions), what the options do.

    >>> HardenOptions(units="none").stages
    ('distillation',)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..config import UsageError, at_least

UnitChoice = Literal["irrelevant", "relevant", "random", "none"]
LayerChoice = Literal["relevant", "irrelevant", "random", "last", "none"]
Trains = Literal["ffn", "lora", "full"]

RATES = {"ffn": 2e-4, "units": 2e-4, "lora": 1e-3, "full": 5e-5}
"""Highest learning rate by what is trained, where none is given."""


@dataclass(frozen=True)
class HardenOptions:
    """How a backbone is hardened."""

    units: UnitChoice = "irrelevant"
    """What stage 1 acts on: units that are exclusive to irrelevant contexts, to relevant ones (swapped), or as many
    random ones in each layer as are exclusive to irrelevant contexts."""
    denoise: Literal["mask", "train"] = "mask"
    """What stage 1 does: multiply the units by `factor` for good, or train their own rows and columns to denoise."""
    factor: float = 0.0
    """What the units are multiplied by; 0 silences them, more than 1 boosts them."""
    layers: LayerChoice = "relevant"
    """Which layers stage 2 tunes: those with the most units exclusive to relevant contexts, to irrelevant ones, random
    ones, the last ones; none: stage 2 tunes no FFN block."""
    layer_count: int = 3
    """How many layers stage 2 tunes."""
    trains: Trains = "ffn"
    """What stage 2 tunes: the FFN blocks of those layers; a LoRA on all layers with as many parameters; everything."""
    rank: int | None = None
    """Rank of the LoRA; left out: as many parameters as the FFN blocks have."""
    loss: Literal["sft", "kl", "both"] = "both"
    """What stage 2 learns from: the target's tokens, what the untuned model says of them with the clean context, or
    both."""
    kl_weight: float = 0.5
    """Weight of the second of these where both count."""
    target: Literal["answer", "evidence"] = "answer"
    """What is said: the accepted answer, or the sentence of the relevant passages that holds it and then the answer."""
    absent: Literal["answer", "not_stated"] = "answer"
    """What is said where no relevant passage is shown: the accepted answer all the same, or that it is not stated."""
    noise: tuple[float, ...] = (0.0, 0.4, 0.6, 0.8, 1.0)
    """Shares of noise in the contexts that are learned from, in turn."""
    kinds: tuple[str, ...] = ("related", "random")
    """Kinds of noise, in turn."""
    passages: int = 5
    """Passages of a context, at most."""
    steps: int = 300
    """Optimiser steps of stage 2."""
    denoise_steps: int = 100
    """Optimiser steps of stage 1, where it trains."""
    batch_tokens: int = 16384
    """Tokens of a step, padding included."""
    micro_tokens: int = 16384
    """Tokens that go through the model at once: what bounds memory."""
    learning_rate: float | None = None
    """AdamW's rate at its highest; left out: by what is trained (RATES)."""
    warm_up: float = 0.05
    """Share of the steps in which the rate rises; then it falls linearly to zero."""
    save_every: int = 50
    """Steps between checkpoints."""
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, layer_count=1, passages=1, batch_tokens=1, micro_tokens=1, save_every=1)
        at_least(self, steps=0, denoise_steps=0, factor=0, kl_weight=0)
        if not self.noise or any(not 0 <= share <= 1 for share in self.noise):
            raise UsageError("--noise must name shares between 0 and 1")
        if not self.kinds:
            raise UsageError("--kinds must name a kind of noise: related, random or counterfactual")

    @property
    def distils(self) -> bool:
        """Whether stage 2 trains anything."""
        return self.steps > 0 and (self.trains != "ffn" or self.layers != "none")

    @property
    def stages(self) -> tuple[str, ...]:
        """What is done, in order."""
        return (("denoising",) if self.units != "none" else ()) + (("distillation",) if self.distils else ())

    @property
    def mined(self) -> bool:
        """Whether sets of units are needed."""
        return self.units != "none" or (
            self.distils and self.trains == "ffn" and self.layers in ("relevant", "irrelevant")
        )

    def rate(self, what: str) -> float:
        """The learning rate of "ffn", "units", "lora" or "full"."""
        return RATES[what] if self.learning_rate is None else self.learning_rate
