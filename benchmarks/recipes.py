"""Recipes: ways of making a neuron side by side, on held-out passages that no other benchmark asks about.

Each recipe changes some options of the default one, or what its neurons learn beside questions (retelling.py); every
neuron is asked what people asked about its passage, with nothing in the prompt (own). The default's are also asked
about other passages (wrong), and with the passage pasted (hybrid); the passage alone stands beside it (prompt).
- gained, lost: questions that a recipe's neurons answer and the default's do not, and the other way round.
- yes_no: facts of invented companies, asked about with yes or no, that their neurons answer rightly (half by chance);
  of the default and of recipes that change how such questions are learned.
- training_seconds: a document, one process after the other: compare within a run only.
Not here: the figures the default is judged by (knowledge.py).

    python benchmarks/recipes.py [--quick] [--only NAME ...] [--passages N] [--model M] [--data DIR] [--json OUT]
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common import Report, arguments, code_version, data_folder, show, write_rows
from invented import checks, companies
from knowledge import FULL as RESERVED
from knowledge import SETS, documents_of, passages
from neurag.app.progress import EncodeProgress
from neurag.backbone import Backbone
from neurag.config import BASE_MODEL, DEFAULT_MODEL, AnswerOptions, AugmentOptions, EncodeOptions
from neurag.knowledge.documents import Document
from neurag.knowledge.pipeline import encode
from neurag.loading import load_backbone
from neurag.model import Model
from neurag.words import words
from quality import ask_all, own_cache
from retelling import Told, retrain, tell


@dataclass(frozen=True)
class Recipe:
    """What is done otherwise than by default."""

    encode: Mapping[str, Any] = field(default_factory=dict)
    """Changes of EncodeOptions."""
    augment: Mapping[str, Any] = field(default_factory=dict)
    """Changes of AugmentOptions."""
    told: tuple[str, ...] = ()
    """Texts that are learned, too (retelling.REQUESTS)."""
    confined: bool = False
    """Whether neurons keep out of the directions the task adapter writes to."""


RECIPES: Mapping[str, Recipe] = {
    "default": Recipe(),
    "rank_8": Recipe({"rank": 8}),
    "rank_32": Recipe({"rank": 32}),
    "band_half": Recipe({"band": (0.5, 1.0)}),
    "steps_16": Recipe({"steps": 16}),
    "steps_48": Recipe({"steps": 48}),
    "rate_04": Recipe({"learning_rate": 0.04}),
    "rate_12": Recipe({"learning_rate": 0.12}),
    "alone": Recipe({"interference": 0.0}),
    "small_chunks": Recipe({"chunk_tokens": 64}, {"asked_back": 10}),
    "passage": Recipe(told=("passage",)),
    "summary": Recipe(told=("summary",)),
    "passage_rewrite": Recipe(told=("passage", "rewrite")),
    "orthogonal": Recipe(confined=True),
    "distilled": Recipe({"distil": 0.5}),
    "only_distilled": Recipe({"distil": 1.0}),
    "distilled_states": Recipe({"distil_states": 1.0}),
    "no_lead_in": Recipe(augment={"lead_in": False}),
    "checks_2": Recipe(augment={"checks": 2}),
    "checks_6": Recipe(augment={"checks": 6}),
    "two_phrasings": Recipe(augment={"phrasings": 2}),
    "questions_12": Recipe(augment={"questions": 12}),
    "questions_32": Recipe(augment={"questions": 32}),
    "asked_back_none": Recipe(augment={"asked_back": 0}),
    "asked_back_40": Recipe(augment={"asked_back": 40}),
    "asked_back_whole": Recipe(augment={"around": 40}),
    "none_written": Recipe(augment={"questions": 0, "asked_back": 24}),
    "search_only": Recipe(augment={"questions": 10, "wordings": ("search",)}),
}
CHECKED = ("default", "checks_2", "checks_6")
COMPANIES = 12
QUICK = ("default", "steps_16", "summary")
OWN = {"neurag-oracle": "own"}
SYSTEMS = {"rag-oracle": "prompt", **OWN, "neurag-wrong": "wrong", "hybrid-oracle": "hybrid"}
FULL_COUNT, QUICK_COUNT = 40, 8
"""Passages of each set, unless --passages says otherwise."""


def measure(
    report: Report, backbone: Backbone, name: str, rows: Sequence[Mapping[str, Any]], data: Path, told: Told
) -> list[str]:
    """One recipe; the names of its figures."""
    recipe, documents = RECIPES[name], documents_of(rows)
    options = replace(EncodeOptions(), **recipe.encode)
    augment = replace(AugmentOptions(), **recipe.augment)
    bank, usual = (data.with_suffix(f".{one}.bank") for one in (name, "default"))
    if (recipe.told or recipe.confined) and usual.exists() and not bank.exists():
        shutil.copytree(usual, bank)  # its neurons are trained again
    with EncodeProgress() as progress:
        made = encode(documents, bank, options=options, augment=augment, progress=progress, backbone=backbone)
    trained, begun = made.split.get("training", 0.0), time.perf_counter()
    if recipe.told or recipe.confined:
        retrain(backbone, bank, documents, told, recipe.told, recipe.confined)
        trained = time.perf_counter() - begun
    systems = SYSTEMS if name == "default" else OWN
    result = ask_all(backbone, data, systems, report.meta["seed"], bank)
    figures = {systems[system]: one for system, one in result.systems.items()}
    report.meta["intervals"][name] = {kind: [one.match_low, one.match_high] for kind, one in figures.items()}
    coverage = made.coverage if made.encoded else None  # of a copy nothing new is known
    kept = {kind: one.match for kind, one in figures.items()} | {"f1": figures["own"].f1, "coverage": coverage}
    kept |= {"training_seconds": trained / len(documents), "bytes": result.meta["bytes_per_document"]}
    right = {one.id for one in result.answers if one.system == "neurag-oracle" and one.correct}
    report.meta["right"][name] = sorted(right)
    if (before := report.meta["right"].get("default")) is not None:
        kept |= {"gained": len(right - set(before)), "lost": len(set(before) - right)}
    kept = {kind: value for kind, value in kept.items() if value is not None}
    report.add(**{f"{kind}_{name}": value for kind, value in kept.items()})
    return list(kept)


def yes_no(backbone: Backbone, name: str, bank: Path) -> float:
    """Share of the checks that are answered rightly by the neuron of the company, forced."""
    made = companies(COMPANIES)
    documents = [Document(company.text, company.name, company.name) for company in made]
    encode(documents, bank, augment=replace(AugmentOptions(), **RECIPES[name].augment), backbone=backbone)
    asked = [(c.name, *pair) for c, pairs in zip(made, checks(made), strict=True) for pair in pairs]
    model = Model.load(bank=bank, backbone=backbone)
    options = [AnswerOptions(max_new_tokens=4, force=((document, 1.0),)) for document, _, _ in asked]
    said = model.answers([question for _, question, _ in asked], options)
    right = [words(told.answer)[:1] == [wanted] for told, (_, _, wanted) in zip(said, asked, strict=True)]
    return sum(right) / len(right)


def main() -> None:
    """Every recipe, or those asked for."""
    asked = arguments(__doc__, only=RECIPES, model=DEFAULT_MODEL, count="passages")
    report, folder, backbone = Report(asked), data_folder(asked.data), load_backbone(asked.model)
    plain = load_backbone(BASE_MODEL)
    count = asked.passages or (QUICK_COUNT if asked.quick else FULL_COUNT)
    rows = [row for stem in SETS for row in passages(folder, stem, count, RESERVED)]
    names = asked.only or (QUICK if asked.quick else tuple(RECIPES))
    report.meta |= {"model": backbone.name, "questions": len(rows), "intervals": {}, "right": {}}
    with own_cache(backbone, f"recipes-{backbone.fingerprint[:8]}-{count}-{code_version()}") as cache:
        data = cache / "recipes.jsonl"
        write_rows(data, rows)
        told = tell(backbone, plain, documents_of(rows)) if any(RECIPES[name].told for name in names) else {}
        for name in names:
            kinds = measure(report, backbone, name, rows, data, told)
            if name in CHECKED:
                report.add(**{f"yes_no_{name}": yes_no(backbone, name, cache / f"companies.{name}.bank")})
                kinds.append("yes_no")
            show(name, ("figure", "value"), [(kind, report.figures[f"{kind}_{name}"]) for kind in kinds])
    report.finish()


if __name__ == "__main__":
    main()
