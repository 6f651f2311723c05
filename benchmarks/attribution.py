"""Attribution of FFN units: is it the same as the slow way, how much less does it cost, and does it tell the truth?

On questions of nq_open_oracle with one right passage and four related ones:
- relative_difference: largest difference to the reference (reference.py), over its largest score, in float32, at a few
  steps of three layers.
- completeness_error: sum |error| / sum |difference| over layers, at 20 steps, in the default format.
- speedup_vs_reference: seconds of the reference for three layers (bottom, middle, top) at 20 steps, in the model's own
  format, scaled to all layers, over ours for all of them; one run, the two taking turns.
- peak_memory_vs_forward: peak resident memory of a process that loads the backbone and scores one prompt, over that of
  one that loads it and reads the same prompt once; weights and interpreter are in both.
- spearman_SCORE and overlap_SCORE: rank correlation of a score with what setting single units to their baseline does to
  the gold token's probability, and share of the 50 strongest of the sample that it names (by size for scores without a
  sign); means over probes with relevant and with irrelevant contexts. default_score: rank of the default by spearman.
- deletion_SCORE: share of the gold token's probability that is left when the units with the highest scores are at their
  baseline together, mean of five counts; deletion_random: the same of random units.

    python benchmarks/attribution.py [--quick] [--data DIR] [--model M] [--json OUT]
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from common import Report, arguments, data_folder, read_rows, show, tracked
from neurag.backbone import Backbone
from neurag.config import DEFAULT_MODEL, MineOptions
from neurag.loading import load_backbone
from neurag.prompts import question_prompt
from neurag.robust.attribution import integrated_gradients
from neurag.robust.contexts import Context, Contexts, Question, Shown
from neurag.robust.curves import deletion
from neurag.robust.probe import Probe, Target
from neurag.robust.scores import SCORES, UNSIGNED
from neurag.robust.truth import ablated, sample_units, spearman, top_overlap
from reference import integrated

STEM = "nq_open_oracle"
PASSAGES, NOISE = 5, 0.8
TOP = 50
DELETED = (5, 10, 20, 50, 100)
"""Units set to their baseline together."""
MINE = MineOptions()


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    complete: int
    probes: int
    units: int
    check_steps: int = 5


FULL, QUICK = Size(3, 20, 20, 2000), Size(1, 4, 4, 500)


@dataclass(frozen=True)
class Case:
    """Token ids of a question with a context and without, and of its answer."""

    context: tuple[int, ...]
    question: tuple[int, ...]
    answer: tuple[int, ...]

    def probe(self, backbone: Backbone, options: MineOptions = MINE) -> Probe:
        """Watching the answer's first token."""
        return Probe.of(backbone, self.context, self.question, Target(self.answer), options)


def questions(folder: Path, limit: int) -> list[Question]:
    """Rows as the contexts take them."""
    return [
        Question(
            row["id"],
            row["question"],
            tuple(row["answers"]),
            tuple(Shown(doc["title"], doc["text"], doc["relevant"]) for doc in row["docs"]),
        )
        for row in read_rows(folder, STEM, limit)
    ]


def cases(backbone: Backbone, asked: Sequence[Question], make: Callable[[Question], Context | None]) -> list[Case]:
    """One for each question that has such a context."""
    found = []
    for one in asked:
        context = make(one)
        if context is not None and one.answers:
            shown, alone = (question_prompt(backbone, one.text, p).ids for p in (context.passages, ()))
            said = backbone.tokenizer(one.answers[0], add_special_tokens=False).input_ids
            found.append(Case(shown, alone, tuple(said)))
    return found


def layers_of(backbone: Backbone) -> list[int]:
    """Bottom, middle, top."""
    return [0, backbone.depth // 2, backbone.depth - 1]


def measure_equality(report: Report, model: str, case: Case, steps: int) -> None:
    """In float32, where rounding does not hide an error."""
    backbone = load_backbone(model, dtype="float32").reader
    layers = layers_of(backbone)
    wanted, _ = integrated(backbone, case.context, case.question, Target(case.answer), layers, steps)
    found = integrated_gradients(case.probe(backbone), replace(MINE, steps=steps)).units
    worst = max(float((found[n] - wanted[n]).abs().max() / wanted[n].abs().max()) for n in layers)
    report.add(relative_difference=worst)
    report.note(f"relative_difference: layers {layers}, {steps} steps, {len(case.context)} tokens, float32")


def measure_speed(report: Report, backbone: Backbone, told: Sequence[Case]) -> None:
    """The reference and ours in turn; ours with everything it needs: both prompts read, differences included."""
    layers = layers_of(backbone)
    slow, fast = [], []
    first = told[0]
    integrated_gradients(first.probe(backbone), MINE)  # the first call of anything is slow
    for case in tracked(told, "timing"):
        _, seconds = integrated(backbone, case.context, case.question, Target(case.answer), layers, MINE.steps)
        slow.append(seconds * backbone.depth / len(layers))
        begun = time.perf_counter()
        integrated_gradients(case.probe(backbone), MINE)
        fast.append(time.perf_counter() - begun)
    report.add(
        speedup_vs_reference=median(s / f for s, f in zip(slow, fast, strict=True)),
        reference_seconds=median(slow),
        seconds=median(fast),
        prompt_tokens=median(len(case.context) for case in told),
    )
    report.note(f"the reference was timed on layers {layers} and scaled to all {backbone.depth}")


def measure_completeness(report: Report, backbone: Backbone, told: Sequence[Case]) -> None:
    """Pooled over cases, as mining reports it."""
    error = whole = 0.0
    for case in tracked(told, "completeness"):
        scored = integrated_gradients(case.probe(backbone), MINE)
        error += float((scored.added - scored.difference).abs().sum())
        whole += float(scored.difference.abs().sum())
    report.add(completeness_error=error / whole)


def measure_truth(report: Report, backbone: Backbone, told: Sequence[Case], units: int) -> None:
    """Every score against the same ablations."""
    ranks: dict[str, list[float]] = {name: [] for name in SCORES}
    shares: dict[str, list[float]] = {name: [] for name in SCORES}
    seconds: dict[str, list[float]] = {name: [] for name in SCORES}
    left: dict[str, list[float]] = {name: [] for name in (*SCORES, "random")}
    for number, case in enumerate(tracked(told, "truth")):
        probe = case.probe(backbone)
        picks = sample_units(backbone.depth, backbone.ffn_width, units, seed=number)
        truth = ablated(probe, picks)
        for name, score in SCORES.items():
            begun = time.perf_counter()
            scores = score(probe, MINE).units
            seconds[name].append(time.perf_counter() - begun)
            left[name].append(float(deletion(probe, scores, DELETED).mean()) / probe.value)
            found = scores[picks[:, 0], picks[:, 1]]
            ranks[name].append(spearman(found, truth.abs() if name in UNSIGNED else truth))
            shares[name].append(top_overlap(found, truth, TOP))
        drawn = torch.rand(scores.shape, generator=torch.Generator().manual_seed(number))
        left["random"].append(float(deletion(probe, drawn, DELETED).mean()) / probe.value)
    report.meta["probes"], report.meta["units"] = len(told), units
    report.meta["score_seconds"] = {name: median(taken) for name, taken in seconds.items()}
    report.add(**{f"spearman_{name}": mean(found) for name, found in ranks.items()})
    report.add(**{f"overlap_{name}": mean(found) for name, found in shares.items()})
    report.add(**{f"deletion_{name}": mean(found) for name, found in left.items()})
    best = sorted(ranks, key=lambda name: -mean(ranks[name]))
    report.meta["default"], report.meta["by_spearman"] = MINE.score, best
    report.add(default_score=best.index(MINE.score) + 1)
    table = [(n, mean(ranks[n]), mean(shares[n]), mean(left[n]), median(seconds[n])) for n in best]
    show("Scores and silencing", ("score", "spearman", f"top {TOP}", "left", "seconds a probe"), table)


def measure_memory(report: Report, model: str, case: Case) -> None:
    """Each in a process of its own."""
    peaks = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "case.json"
        path.write_text(json.dumps({"model": model} | vars(case)), encoding="utf-8")
        for part in ("forward", "attribution"):
            told = subprocess.run(
                [sys.executable, __file__, "--peak", part, str(path)], capture_output=True, text=True, check=True
            )
            peaks[part] = int(told.stdout.split()[-1])
    report.meta["peak_bytes"] = peaks
    report.add(peak_memory_vs_forward=peaks["attribution"] / peaks["forward"])


def peak(part: str, path: Path) -> int:
    """Bytes of resident memory at their peak: load the backbone, then one forward pass or one attribution."""
    import resource

    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    backbone = load_backbone(told.pop("model")).reader
    case = Case(**{name: tuple(ids) for name, ids in told.items()})
    if part == "forward":
        with torch.no_grad():
            backbone.model(input_ids=torch.tensor([case.context], device=backbone.device), logits_to_keep=1)
    else:
        integrated_gradients(case.probe(backbone), MINE)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def main() -> None:
    """Cheap figures first; the file is whole after each."""
    asked = arguments(__doc__, model=DEFAULT_MODEL)
    report, size = Report(asked), QUICK if asked.quick else FULL
    rows = questions(data_folder(asked.data), 4 * (size.complete + size.probes))
    made = Contexts(rows, asked.seed)
    backbone = load_backbone(asked.model).reader
    mixed = cases(backbone, rows, lambda q: made.mixed(q, PASSAGES, NOISE, "related"))
    noisy = cases(backbone, rows[::-1], lambda q: made.irrelevant(q, "related", PASSAGES - 1))
    report.meta |= {"model": backbone.name, "rows": STEM, "passages": PASSAGES, "steps": MINE.steps}
    measure_completeness(report, backbone, mixed[: size.complete])
    measure_memory(report, asked.model, mixed[0])
    measure_speed(report, backbone, mixed[: size.rounds])
    half = size.probes // 2
    measure_truth(report, backbone, mixed[:half] + noisy[:half], size.units)
    del backbone
    measure_equality(report, asked.model, mixed[0], size.check_steps)
    report.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:  # what `measure_memory` asks of a process of its own
        print(peak(sys.argv[2], Path(sys.argv[3])))
    else:
        main()
