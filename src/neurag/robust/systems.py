"""The baselines: hardening with other options, by name, so that all run in one loop on the same lessons.

Where something is trained, it is as many numbers as the FFN blocks of the chosen layers have (a LoRA as near as a whole
rank allows); `full` alone trains everything. IRCAN-style boosting trains nothing. These are our versions of published
ideas in one frame, not their authors' code: RetRobust and InstructRAG train other models on other data with other
budgets. Not here: asking and judging (benchmarks/robustness.py).

    >>> system("stage1", HardenOptions()).distils
    False
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..config import UsageError
from .options import HardenOptions


@dataclass(frozen=True)
class System:
    """What is compared."""

    words: str
    """What it is."""
    changes: Mapping[str, Any]
    """Options that differ from those of the run."""


_NO_UNITS: Mapping[str, Any] = {"units": "none"}
_NOTHING: Mapping[str, Any] = {"layers": "none", "trains": "ffn", "steps": 0}
_LORA: Mapping[str, Any] = {"units": "none", "trains": "lora", "loss": "sft"}

SYSTEMS: Mapping[str, System] = {
    "plain": System("the backbone as it is", {**_NO_UNITS, **_NOTHING}),
    "ours": System("both stages", {}),
    "sft_lora": System("mixed-noise SFT with a LoRA of equal size (RetRobust-style)", {**_LORA, "target": "answer"}),
    "stage2": System("stage 2 only", _NO_UNITS),
    "stage1": System("stage 1 only", _NOTHING),
    "last_layers": System("stage 2 in the last layers", {**_NO_UNITS, "layers": "last"}),
    "random_layers": System("stage 2 in random layers", {**_NO_UNITS, "layers": "random"}),
    "rationale_lora": System(
        "SFT on evidence sentence and answer with a LoRA of equal size (InstructRAG-style)",
        {**_LORA, "target": "evidence"},
    ),
    "random_units": System("both stages, random units of the same layers silenced", {"units": "random"}),
    "swapped": System(
        "both stages with the sets swapped: relevant units silenced, layers dense in irrelevant ones tuned",
        {"units": "relevant", "layers": "irrelevant"},
    ),
    "boosted": System(
        "units exclusive to relevant contexts boosted, nothing trained (IRCAN-style)",
        {**_NOTHING, "units": "relevant", "factor": 2.0},
    ),
    "full": System("stage 2 on everything: more parameters than all others", {**_NO_UNITS, "trains": "full"}),
    "ours_evidence": System("both stages, evidence sentence and then the answer", {"target": "evidence"}),
    "ours_sft": System("both stages, learned from the answer alone", {"loss": "sft"}),
    "ours_kl": System("both stages, learned from the clean context alone", {"loss": "kl"}),
    "ours_soft": System("both stages, units at half strength in place of none", {"factor": 0.5}),
    "ours_denoised": System("both stages, units trained to denoise in place of silenced", {"denoise": "train"}),
    "random_stage1": System(
        "random units of the same layers silenced, nothing trained", {**_NOTHING, "units": "random"}
    ),
    "swapped_stage1": System("relevant units silenced, nothing trained", {**_NOTHING, "units": "relevant"}),
}
"""All systems; those at the top are told first."""

MAIN = tuple(SYSTEMS)[: tuple(SYSTEMS).index("full") + 1]
"""The method and its baselines; the others are variants of the method."""


def system(name: str, options: HardenOptions) -> HardenOptions:
    """The options of a system, for a run with these. Raises UsageError for a name that is none."""
    if name not in SYSTEMS:
        raise UsageError(f"there is no system {name!r}: choose among {', '.join(SYSTEMS)}")
    return replace(options, **SYSTEMS[name].changes)
