"""A hardened backbone on disk: an ordinary Hugging Face folder, with a card that says what was done.

config.json, safetensors, tokenizer: `AutoModelForCausalLM.from_pretrained(FOLDER)` needs nothing of ours. The folder is
written aside and swapped in; one that holds something else is never replaced. Not here: hardening (hardening.py).

    >>> write_checkpoint(backbone, card, Path("hardened"))                     # doctest: +SKIP
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..backbone import Backbone
from ..config import NeuragError, UsageError
from .hardening import Hardened
from .options import HardenOptions

CARD, ABOUT, MINED = "README.md", "hardening.json", "units"


@dataclass(frozen=True)
class Card:
    """What the card tells."""

    base: str
    """The model that was hardened."""
    fingerprint: str
    """Of its weights."""
    questions: int
    """How many it was hardened on."""
    options: HardenOptions
    hardened: Hardened
    width: int
    """Units of a layer."""
    mining_seed: int | None = None
    """None where nothing was mined."""
    metrics: Mapping[str, float] | None = None
    """Figures measured before and after, by name."""

    def text(self) -> str:
        """The card in Markdown."""
        done, options = self.hardened, self.options
        by_layer: dict[int, int] = {}
        for unit in sorted(done.units):
            by_layer[unit // self.width] = by_layer.get(unit // self.width, 0) + 1
        counts = ", ".join(f"layer {layer}: {count}" for layer, count in by_layer.items())
        tuned = ", ".join(map(str, done.layers)) or ("all" if done.trainable else "none")
        acted = "trained to denoise" if options.denoise == "train" else f"multiplied by {options.factor:g}"
        lines = [
            "---", f"base_model: {json.dumps(self.base)}", "tags: [retrieval-augmented-generation]", "---", "",
            f"# {self.base}, hardened against noisy passages", "",
            "Made by `neurag harden`. An ordinary checkpoint: the mask is in the weights.", "",
            f"- Base model: {self.base} (fingerprint {self.fingerprint})",
            f"- Stage 1: {len(done.units)} units {acted} ({options.units}; {counts or 'none'})",
            f"- Stage 2: layers tuned: {tuned}; trained: {options.trains if options.distils else 'nothing'}; "
            f"loss {options.loss}, target {options.target}, {options.steps if options.distils else 0} steps",
            f"- Trained: {done.trainable:,} of {done.parameters:,} numbers ({done.share:.2%})",
            f"- Questions: {self.questions}",
            f"- Seeds: training {options.seed}, mining {'none' if self.mining_seed is None else self.mining_seed}",
        ]  # fmt: skip
        lines += [f"- Last loss, {stage}: {loss:.3f} nats a token" for stage, loss in done.losses.items()]
        if self.metrics:
            lines += ["", "| figure | value |", "| --- | --- |"]
            lines += [f"| {name} | {value:.4g} |" for name, value in self.metrics.items()]
        else:
            lines += ["", "Not measured on questions that were held out."]
        return "\n".join(lines) + "\n"

    def told(self) -> dict[str, Any]:
        """The same for programs, with the units themselves."""
        done = asdict(self.hardened) | {"units": sorted(self.hardened.units), "layers": list(self.hardened.layers)}
        rest = {"base": self.base, "fingerprint": self.fingerprint, "questions": self.questions}
        seeds = {"mining_seed": self.mining_seed, "metrics": dict(self.metrics or {})}
        return rest | {"options": asdict(self.options), "hardened": done} | seeds


def work_folder(folder: Path) -> Path:
    """Where a run keeps what it needs to go on, beside its folder."""
    return folder.with_name(f".{folder.name}.work")


def check_folder(folder: Path) -> None:
    """Raises UsageError for a folder that holds something else than a hardened backbone."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: name a folder with --output")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ABOUT).is_file():
        raise UsageError(f"{folder} holds something else: name a new folder with --output")


def write_checkpoint(backbone: Backbone, card: Card, folder: Path, mined: Path | None = None) -> None:
    """Write model, tokenizer, card and the mined report, aside, then swap them in. Raises NeuragError on a bad disk."""
    check_folder(folder)
    aside, old = (folder.with_name(f".{folder.name}.{what}-{os.getpid()}") for what in ("new", "old"))
    try:
        aside.mkdir(parents=True)
        backbone.model.save_pretrained(aside)
        backbone.tokenizer.save_pretrained(aside)
        if mined is not None:
            shutil.copytree(mined, aside / MINED)
        (aside / CARD).write_text(card.text(), encoding="utf-8")
        (aside / ABOUT).write_text(json.dumps(card.told(), indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            folder.replace(old)
        aside.replace(folder)
    except OSError as error:
        raise NeuragError(f"cannot write the hardened model to {folder}: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
