"""How much robustness.py does, and its flags. Not here: doing it (robustness.py).

>>> sized(own, quick=False, device=torch.device("cuda")).asked             # doctest: +SKIP
128
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TypeVar

import torch

from common import arguments
from neurag.config import MineOptions, UsageError
from neurag.robust.options import HardenOptions
from neurag.robust.systems import MAIN, SYSTEMS, system
from robust_results import OURS, PLAIN, SFT
from robust_sets import SIX

LIMITS = {"answer": 32, "evidence": 96}
"""Tokens of an answer by what is said."""


@dataclass(frozen=True)
class Size:
    """How much is done."""

    systems: tuple[str, ...]
    asked: int
    """Questions a set in the main condition."""
    swept: int
    """The same in the others, of `sets`."""
    mined: int
    harden: HardenOptions
    texts: int = 60
    """Neutral texts read."""
    tokens: int = 8192
    """Of prompts answered side by side."""
    mine: MineOptions = field(default_factory=MineOptions)
    sets: tuple[str, ...] = SIX
    faster: float = 1.0
    """What all learning rates are multiplied by."""

    def options(self, name: str, seed: int) -> HardenOptions:
        """Those of a system."""
        told = system(name, replace(self.harden, seed=seed))
        return replace(told, learning_rate=self.faster * told.rate(told.trains))


CPU = HardenOptions(steps=60, batch_tokens=4096, micro_tokens=4096)
GPU = HardenOptions(steps=150, batch_tokens=8192)
FEW = replace(CPU, steps=3, batch_tokens=1536, passages=3)
QUICK = Size((PLAIN, OURS, SFT), 2, 1, 6, FEW, texts=6, sets=("nq", "hotpotqa"))
ON_CPU = Size(MAIN, 100, 12, 60, CPU)
ON_GPU = Size((*MAIN, "ours_evidence"), 128, 24, 60, GPU, texts=246, tokens=300_000)


Options = TypeVar("Options", HardenOptions, MineOptions)


def changed(options: Options, pairs: Sequence[str]) -> Options:
    """Options with some set: "steps=60"; a list is a text with commas. Raises UsageError for what is none."""
    kinds = {one.name for one in fields(options)}
    for pair in pairs:
        name, _, told = pair.partition("=")
        name = name.replace("-", "_")
        if name not in kinds:
            raise UsageError(f"there is no option {name!r}: choose among {', '.join(sorted(kinds))}")
        value = getattr(options, name)
        try:
            if isinstance(value, tuple):
                new: object = tuple(type(value[0])(part) for part in told.split(","))
            else:
                kind = type(value) if value is not None else int if told.isdigit() else float
                new = kind(told)
        except ValueError:
            raise UsageError(f"{pair} is not a value of {name}") from None
        options = replace(options, **{name: new})
    return options


def flags(doc: str) -> tuple[argparse.Namespace, argparse.Namespace]:
    """Flags of this benchmark, and those of all."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--systems")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--asked", type=int)
    parser.add_argument("--swept", type=int)
    parser.add_argument("--rate-times", type=float, default=1.0)
    parser.add_argument("--retrieval", default="")
    parser.add_argument("--start", choices=("plain", "reader"), default="plain")
    parser.add_argument("--units", type=Path)
    parser.add_argument("--mine-only", action="store_true")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--mine", action="append", default=[])
    parser.add_argument("--harden", action="append", default=[])
    parser.add_argument("--model")
    own, rest = parser.parse_known_args()
    return own, arguments(doc, rest)


def sized(own: argparse.Namespace, quick: bool, device: torch.device) -> Size:
    """How much is done, with what the flags change."""
    size = QUICK if quick else ON_GPU if device.type == "cuda" else ON_CPU
    if own.full:
        size = replace(size, systems=tuple(SYSTEMS), asked=150, swept=50)
    if own.systems:
        size = replace(size, systems=tuple(own.systems.split(",")))
    options = changed(size.harden, own.harden)
    options = options if own.steps is None else replace(options, steps=own.steps)
    size = replace(size, asked=own.asked or size.asked, swept=own.swept or size.swept)
    size = replace(size, harden=options, mine=changed(size.mine, own.mine), faster=own.rate_times)
    for name in size.systems:
        size.options(name, 0)  # refused before the work
    return size
