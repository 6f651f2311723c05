"""Hardening against noise: both stages of Neuro-RIT, its controls and its rivals, asked with mixed contexts.

Every system is the same backbone after hardening with other options (neurag.robust.systems): one loop, the same
lessons, as many trained parameters as layers and whole ranks allow (`full`: all of them). Asked greedily: NQ, TriviaQA
and WebQ (about documents held out from training), PopQA, HotpotQA, 2Wiki, RAMDocs and PoisonedRAG (never trained on).
- match_SYSTEM_SET: answers that hold an accepted one, with all relevant passages filled up to five with related ones,
  in random order. match_SYSTEM: mean over six sets (not RAMDocs, PoisonedRAG). What stands behind the last "Answer:"
  counts, where a system writes evidence first.
- match_SYSTEM_noise_RATE: six sets pooled; round(5 RATE) related passages beside the relevant ones, five in all at
  most, so a question with one relevant passage has fewer than five below 0.8. Likewise distractors_N (beside all
  relevant ones), gold_PLACE and kind_KIND (as in the main condition).
- absent_SYSTEM: the same with five related passages and no relevant one; closed_SYSTEM: with nothing in the prompt.
- trainable_share: trained by ours, of the backbone. words_SYSTEM: words of an answer.
- ability_SYSTEM: per cent of the next tokens of the neutral texts in the package that are predicted rightly (written
  by a model of the default's family); perplexity_SYSTEM: on the same; ability_change: ours minus plain, in points.
- noise_loss_ratio: what ours loses from noise 0 to 0.8, over what sft_lora loses.

Verdicts: paired bootstrap over questions of six sets, sign flips or McNemar, Holm over all systems.

    python benchmarks/robustness.py [--quick | --full] [--device cuda] [--systems a,b] [--seeds N] [--steps N]
        [--asked N] [--swept N] [--rate-times X] [--retrieval bm25,dense] [--start plain|reader]
        [--units FOLDER [--mine-only]] [--minutes M] [--mine OPTION=VALUE] [--harden OPTION=VALUE] [--data DIR]
        [--model M] [--seed S] [--json OUT]

--full: every system in every condition, variants too, three training and mining seeds; else plain, ours, sft_lora and
the best other baseline are asked in all conditions. --asked, --swept: questions a set in the main condition, and in the
others. --retrieval: also the five passages that a search over the set's passages finds (retrieved_KIND). --rate-times:
multiplies the learning rates of all systems. --mine, --harden: options of mining, and of all systems that do not set
them themselves; may be repeated. --units: a folder from which mined units are read, and into which they are mined where
it has none; --mine-only: and no more. --minutes: start no further system after so many. --quick: two sets only but in
the main condition. Figures are saved after each system.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from common import Report, data_folder
from neurag.backbone import Backbone
from neurag.config import BASE_MODEL, DEFAULT_MODEL, NeuragError
from neurag.knowledge.calibration import neutral_texts
from neurag.loading import load_backbone
from neurag.packing import pack
from neurag.robust.asking import fluency, say
from neurag.robust.hardening import Hardened, harden
from neurag.robust.lessons import Lesson, lessons
from neurag.robust.mining import mine
from neurag.robust.options import HardenOptions
from neurag.robust.systems import SYSTEMS
from neurag.robust.units import FILE, Units, load_units
from robust_results import OURS, PLAIN, SFT, Results, compared, tell
from robust_sets import ALWAYS, SWEPT, Asked, Parted, parted, prompts
from robust_sizes import LIMITS, Size, flags, sized

ALWAYS_SWEPT = (PLAIN, OURS, SFT)
"""Systems asked in every condition; the best other baseline is, too."""


@dataclass
class Run:
    """What all systems share."""

    report: Report
    backbone: Backbone
    found: Parted
    size: Size
    cells: Mapping[str, list[Asked]]
    start: dict[str, torch.Tensor]
    results: Results = field(default_factory=Results)
    kept: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    """Weights of the best baseline."""
    lessons: dict[tuple[object, ...], list[Lesson]] = field(default_factory=dict)

    def reset(self, weights: Mapping[str, torch.Tensor] | None = None) -> None:
        """Back to the backbone as it was, or to weights that were kept."""
        self.backbone.model.load_state_dict(weights or self.start)
        self.backbone.__dict__.pop("fingerprint", None)

    def taught(self, options: HardenOptions) -> list[Lesson]:
        """Lessons of these options, made once."""
        key = options.target, options.absent, options.seed
        if key not in self.lessons:
            made = lessons(self.backbone, self.found.learned, options, options.steps * options.batch_tokens)
            self.lessons = {k: x for k, x in self.lessons.items() if k[2] == options.seed} | {key: made}
        return self.lessons[key]


def mined(run: Run, folder: Path | None, seed: int) -> Units:
    """Read from a folder, or mined on training questions, into it where there is one."""
    kept = folder / f"seed-{seed}" if folder else None
    if kept is not None and (kept / FILE).is_file():
        units, report = load_units(kept / FILE)
        if report.get("backbone") != run.backbone.fingerprint:
            raise SystemExit(f"the units in {kept} were mined on another model: name another folder with --units")
        return units
    options = replace(run.size.mine, seed=seed)
    if run.backbone.device.type == "cuda":
        options = replace(options, chunk=16384)
    with TemporaryDirectory() as work:
        told = mine(run.backbone, run.found.learned[: run.size.mined], options, kept or Path(work))
    run.report.meta["mining"] = {
        "contexts": told.contexts,
        "skipped": told.skipped,
        "stability": told.stability,
        "seconds": told.seconds,
        "units": {name: len(getattr(told.units, name)) for name in ("only_relevant", "shared", "only_irrelevant")},
    }
    if told.completeness_error is not None:
        run.report.add(completeness_error=told.completeness_error)
    return told.units


def measure(run: Run, name: str, units: Units | None, seed: int, conditions: Sequence[str]) -> Hardened | None:
    """Harden and ask; None, with a note, where that cannot be done."""
    options = run.size.options(name, seed)
    run.reset()
    begun = time.perf_counter()
    try:
        made = run.taught(options) if options.distils else None
        done = harden(run.backbone, units, run.found.learned, options, made=made)
    except NeuragError as error:
        run.report.note(f"{name}: not run, {error}")
        return None
    pack(run.backbone.model)  # where there is a packed copy, it is of the weights before
    tuned = time.perf_counter()
    ask(run, name, conditions)
    if seed == run.report.meta["seed"]:
        told = fluency(run.backbone, texts(run.size.texts))
        run.report.add(**{f"perplexity_{name}": told.perplexity, f"ability_{name}": 100 * told.right})
    run.report.meta["systems"][name] = {
        "words": SYSTEMS[name].words,
        "trainable": done.trainable,
        "layers": done.layers,
        "units": len(done.units),
        "losses": dict(done.losses),
        "tune_seconds": round(tuned - begun, 1),
        "ask_seconds": round(time.perf_counter() - tuned, 1),
    }
    return done


def texts(count: int) -> list[str]:
    """The first neutral texts of the package."""
    return [line.partition("\t")[2] for line in neutral_texts()[0].split("\n") if line.strip()][:count]


def ask(run: Run, name: str, conditions: Sequence[str]) -> None:
    """All prompts of the conditions side by side, equal ones once."""
    asked = [one for condition in conditions for one in run.cells[condition]]
    distinct = list(dict.fromkeys(one.prompt for one in asked))
    limit = LIMITS[run.size.options(name, 0).target]
    said = dict(zip(distinct, say(run.backbone, distinct, limit, run.size.tokens), strict=True))
    for condition in conditions:
        cell = run.cells[condition]
        run.results.add(name, condition, cell, [said[one.prompt] for one in cell])


def keep(run: Run, name: str) -> None:
    """Keep the weights of the best baseline so far, of those that are not swept anyway."""
    if name in ALWAYS_SWEPT or name.startswith(OURS):
        return
    if all(run.results.main(name) > run.results.main(other) for other in run.kept):
        run.kept = {name: {key: x.clone() for key, x in run.backbone.model.state_dict().items()}}


def sweep(run: Run, conditions: Sequence[str]) -> None:
    """The other conditions for the best baseline."""
    for name, weights in run.kept.items():
        run.reset(weights)
        pack(run.backbone.model)
        ask(run, name, conditions)
        tell(run.report, run.results, name, tuple(run.found.sets))


def prepared(report: Report, own: argparse.Namespace, asked: argparse.Namespace) -> Run:
    """Backbone, questions and prompts."""
    model = own.model or (BASE_MODEL if own.start == "plain" else DEFAULT_MODEL)
    backbone = load_backbone(model, own.device).reader
    size = sized(own, asked.quick, backbone.device)
    found = parted(data_folder(asked.data), size.asked)
    swept = {name: found.sets[name] for name in size.sets}
    searched = own.retrieval or ("bm25,dense" if own.full else "")
    cells = {"mixed": prompts(backbone, found.sets, "mixed", size.asked, asked.seed)}
    for condition in (*ALWAYS, *SWEPT, *(f"retrieved_{kind}" for kind in searched.split(",") if kind)):
        cells[condition] = prompts(backbone, swept, condition, size.swept, asked.seed)
    start = {key: x.clone() for key, x in backbone.model.state_dict().items()}
    report.meta |= {
        "model": backbone.name, "start": own.start, "steps": size.harden.steps, "learned": len(found.learned),
        "batch_tokens": size.harden.batch_tokens, "device": str(backbone.device), "systems": {},
        "sets": {name: sum(one.set == name for one in cells["mixed"]) for name in found.sets},
        "swept": len(cells["noise_1.0"]), "rate_times": size.faster,
    }  # fmt: skip
    report.save()
    return Run(report, backbone, found, size, cells, start)


def compete(run: Run, own: argparse.Namespace, seed: int, until: float) -> None:
    """Every system with one seed, figures after each."""
    run.reset()
    needed = any(run.size.options(name, seed).mined for name in run.size.systems)
    units = mined(run, own.units, seed) if needed else None
    rest = tuple(name for name in run.cells if name not in ("mixed", *ALWAYS))
    for name in () if own.mine_only else run.size.systems:
        if time.monotonic() > until:
            run.report.note(f"{name}, seed {seed}: not run, --minutes were over")
            continue
        swept = rest if own.full or name in ALWAYS_SWEPT else ()
        done = measure(run, name, units, seed, ("mixed", *ALWAYS, *swept))
        if done is None:
            continue
        if name == OURS:
            run.report.add(trainable_share=done.share)
        tell(run.report, run.results, name, tuple(run.found.sets))
        if not own.full:
            keep(run, name)
        took = run.report.meta["systems"][name]
        print(f"{name}, seed {seed}: match {run.results.main(name):.3f}, tuning {took['tune_seconds']} s, "
              f"asking {took['ask_seconds']} s", flush=True)  # fmt: skip
    if run.kept and time.monotonic() < until:
        sweep(run, rest)


def main() -> None:
    """Seeds one by one, then how systems compare."""
    own, asked = flags(__doc__ or "")
    until = time.monotonic() + 60 * own.minutes if own.minutes else math.inf
    report = Report(asked)
    run = prepared(report, own, asked)
    for seed in range(asked.seed, asked.seed + (own.seeds or (3 if own.full else 1))):
        run.kept = {}
        compete(run, own, seed, until)
    if own.mine_only:
        return
    compared(report, run.results)
    run.results.table(tuple(run.found.sets))
    print(*report.meta.get("verdicts", ()), sep="\n")
    report.finish()


if __name__ == "__main__":
    try:
        main()
    except NeuragError as error:
        sys.exit(str(error))
