"""Recipes: ways of making a neuron side by side, on held-out passages that no other benchmark asks about.

Each recipe changes some options of the default one; every neuron is asked what people asked about its passage, with
nothing in the prompt (own), questions about other passages (wrong), and with the passage pasted (hybrid); the passage
alone stands beside it (prompt). Training seconds are of one process after the other: compare within a run only. Not
here: the figures the default is judged by (knowledge.py).

    python benchmarks/recipes.py [--quick] [--only NAME ...] [--model M] [--data DIR] [--json OUT]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import Report, arguments, code_version, data_folder, show, write_rows
from knowledge import FULL as RESERVED
from knowledge import SETS, documents_of, passages
from neurag.app.progress import EncodeProgress
from neurag.backbone import Backbone
from neurag.config import DEFAULT_MODEL, AugmentOptions, EncodeOptions
from neurag.knowledge.pipeline import encode
from neurag.loading import load_backbone
from quality import ask_all, own_cache

Changes = Mapping[str, Any]
RECIPES: Mapping[str, tuple[Changes, Changes]] = {
    "default": ({}, {}),
    "rank_8": ({"rank": 8}, {}),
    "rank_32": ({"rank": 32}, {}),
    "band_half": ({"band": (0.5, 1.0)}, {}),
    "steps_16": ({"steps": 16}, {}),
    "steps_48": ({"steps": 48}, {}),
    "rate_04": ({"learning_rate": 0.04}, {}),
    "rate_12": ({"learning_rate": 0.12}, {}),
    "alone": ({"interference": 0.0}, {}),
    "small_chunks": ({"chunk_tokens": 64}, {"asked_back": 10}),
    "distilled": ({"distil": 0.5}, {}),
    "only_distilled": ({"distil": 1.0}, {}),
    "two_phrasings": ({}, {"phrasings": 2}),
    "questions_12": ({}, {"questions": 12}),
    "questions_32": ({}, {"questions": 32}),
    "asked_back_none": ({}, {"asked_back": 0}),
    "asked_back_40": ({}, {"asked_back": 40}),
    "asked_back_whole": ({}, {"around": 40}),
    "none_written": ({}, {"questions": 0, "asked_back": 24}),
    "search_only": ({}, {"questions": 10, "wordings": ("search",)}),
}
"""By name: changes of EncodeOptions and of AugmentOptions."""
QUICK = ("default", "steps_16", "none_written")
SYSTEMS = {"rag-oracle": "prompt", "neurag-oracle": "own", "neurag-wrong": "wrong", "hybrid-oracle": "hybrid"}
FULL_COUNT, QUICK_COUNT = 40, 8
"""Passages of each set."""


def measure(report: Report, backbone: Backbone, name: str, rows: Sequence[Mapping[str, Any]], data: Path) -> None:
    """One recipe."""
    encoding, augmenting = RECIPES[name]
    options, augment = replace(EncodeOptions(), **encoding), replace(AugmentOptions(), **augmenting)
    bank, documents = data.with_suffix(f".{name}.bank"), documents_of(rows)
    with EncodeProgress() as progress:
        made = encode(documents, bank, options=options, augment=augment, progress=progress, backbone=backbone)
    result = ask_all(backbone, data, SYSTEMS, report.meta["seed"], bank)
    told = {SYSTEMS[system]: figures for system, figures in result.systems.items()}
    report.meta["intervals"][name] = {kind: [one.match_low, one.match_high] for kind, one in told.items()}
    report.add(**{f"{kind}_{name}": one.match for kind, one in told.items() if one.match is not None})
    report.add(**{
        f"coverage_{name}": made.coverage,
        f"training_seconds_{name}": made.split.get("training", 0.0) / len(documents),
        f"bytes_{name}": result.meta["bytes_per_document"],
    })  # fmt: skip


def main() -> None:
    """Every recipe, or those asked for."""
    asked = arguments(__doc__, only=RECIPES, model=DEFAULT_MODEL)
    report, folder, backbone = Report(asked), data_folder(asked.data), load_backbone(asked.model)
    count = QUICK_COUNT if asked.quick else FULL_COUNT
    rows = [row for stem in SETS for row in passages(folder, stem, count, RESERVED)]
    names = asked.only or (QUICK if asked.quick else tuple(RECIPES))
    report.meta |= {"model": backbone.name, "questions": len(rows), "intervals": {}}
    with own_cache(backbone, f"recipes-{backbone.fingerprint[:8]}-{count}-{code_version()}") as cache:
        data = cache / "recipes.jsonl"
        write_rows(data, rows)
        for name in names:
            measure(report, backbone, name, rows, data)
            kinds = (*SYSTEMS.values(), "coverage", "training_seconds")
            show(name, ("figure", "value"), [(kind, report.figures[f"{kind}_{name}"]) for kind in kinds])
    report.finish()


if __name__ == "__main__":
    main()
