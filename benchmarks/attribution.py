"""Attribution of FFN units: is it the same as the slow way, how much less does it cost, and does it tell the truth?

On questions of nq_open_oracle with one right passage and four related ones:
- relative_difference: largest difference to the reference (reference.py), over its largest score, at a few steps of
  three layers: ours in float32, the reference in float64, because in float32 it is the less exact of the two
  (reference_rounding: the reference in float32 against itself in float64). The worst of some prompts.
- completeness_error: sum |error| / sum |difference| over layers, at 20 steps, in the default format.
- speedup_vs_reference: seconds of the reference for three layers (bottom, middle, top) at 20 steps, in the model's own
  format, scaled to all layers, over ours for all of them; one run, the two taking turns.
- peak_memory_vs_forward: peak resident memory of a process that scores one prompt, over that of one that reads the same
  prompt once; each from when the backbone is loaded, which takes more; weights and interpreter are in both.
- spearman_SCORE and overlap_SCORE: rank correlation of a score with what setting single units to their baseline does to
  the gold token's probability, and share of the 50 strongest of the sample that it names (by size for scores without a
  sign); means over probes with relevant and with irrelevant contexts. default_score: rank of the default by spearman.
- deletion_SCORE: share of the gold token's probability, summed over probes, that is left when the units with the
  highest scores are at their baseline together, mean of five counts. insertion_SCORE: with all others at theirs.
  deletion_random, insertion_random: as many random units in each layer as the default score names there.

    python benchmarks/attribution.py [--quick] [--data DIR] [--model M] [--json OUT]
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from common import Report, arguments, data_folder, forget_peak, peak_memory, read_rows, show, tracked
from neurag.backbone import Backbone
from neurag.config import DEFAULT_MODEL, MineOptions
from neurag.loading import load_backbone
from neurag.prompts import question_prompt
from neurag.robust.attribution import integrated_gradients
from neurag.robust.contexts import Context, Contexts, Question, Shown
from neurag.robust.curves import deletion, insertion
from neurag.robust.probe import Probe, Target
from neurag.robust.scores import SCORES, UNSIGNED
from neurag.robust.truth import ablated, sample_units, spearman, top_overlap
from reference import integrated

STEM = "nq_open_oracle"
PASSAGES, NOISE = 5, 0.8
TOP = 50
DELETED = (5, 10, 20, 50, 100)
"""Units set to their baseline together."""
INSERTED = (100, 500, 2000, 5000, 10000)
"""Units that are not, where all others are."""
MINE = MineOptions()


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    complete: int
    probes: int
    units: int
    checked: int
    check_steps: int = 5


FULL, QUICK = Size(3, 20, 20, 2000, 3), Size(1, 4, 4, 500, 1)


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


def measure_equality(report: Report, model: str, told: Sequence[Case], steps: int) -> None:
    """Ours and the reference in float32, both against the reference in float64."""
    backbone = load_backbone(model, dtype="float32").reader
    layers, options = layers_of(backbone), replace(MINE, steps=steps)

    def referred(words: str) -> list[Mapping[int, Tensor]]:
        asked = tracked(told, words)
        return [integrated(backbone, c.context, c.question, Target(c.answer), layers, steps)[0] for c in asked]

    ours = [integrated_gradients(case.probe(backbone), options).units for case in tracked(told, "float32")]
    narrow = referred("reference")
    backbone.model.double()
    exact = referred("reference, float64")

    def worst(found: Sequence[Mapping[int, Tensor] | Tensor]) -> float:
        pairs = [(f[n], e[n]) for f, e in zip(found, exact, strict=True) for n in layers]
        return max(float((f - e).abs().max() / e.abs().max()) for f, e in pairs)

    report.add(relative_difference=worst(ours), reference_rounding=worst(narrow))
    report.note(f"relative_difference: layers {layers}, {steps} steps, prompts: {len(told)}")


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


@dataclass
class Judged:
    """What the probes said of one score, a number each."""

    ranks: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    deleted: list[float] = field(default_factory=list)
    inserted: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def curves(self, probe: Probe, scores: Tensor) -> None:
        """What is watched when many units are at their baseline."""
        self.deleted.append(float(deletion(probe, scores, DELETED).mean()))
        self.inserted.append(float(insertion(probe, scores, INSERTED).mean()))

    def told(self, whole: float) -> dict[str, float]:
        """Means, and shares of what is watched with nothing at its baseline."""
        shares = {"deletion": mean(self.deleted) / whole, "insertion": mean(self.inserted) / whole}
        return {"spearman": mean(self.ranks), "overlap": mean(self.shares), **shares} if self.ranks else shares


def measure_truth(report: Report, backbone: Backbone, told: Sequence[Case], units: int) -> None:
    """Every score against the same ablations."""
    judged = {name: Judged() for name in (*SCORES, "random")}
    values = []
    for number, case in enumerate(tracked(told, "truth")):
        probe = case.probe(backbone)
        values.append(probe.value)
        picks = sample_units(backbone.depth, backbone.ffn_width, units, seed=number)
        truth = ablated(probe, picks)
        for name, score in SCORES.items():
            begun = time.perf_counter()
            scores = score(probe, MINE).units
            judged[name].seconds.append(time.perf_counter() - begun)
            judged[name].curves(probe, scores)
            found = scores[picks[:, 0], picks[:, 1]]
            judged[name].ranks.append(spearman(found, truth.abs() if name in UNSIGNED else truth))
            judged[name].shares.append(top_overlap(found, truth, TOP))
            if name == MINE.score:
                judged["random"].curves(probe, shuffled(scores, number))
    report.meta["probes"], report.meta["units"] = len(told), units
    tell_truth(report, judged, mean(values))


def shuffled(scores: Tensor, seed: int) -> Tensor:
    """Scores [L, F] that name as many units of each layer, but random ones."""
    drawn = torch.Generator().manual_seed(seed)
    return torch.stack([layer[torch.randperm(len(layer), generator=drawn)] for layer in scores])


def tell_truth(report: Report, judged: Mapping[str, Judged], whole: float) -> None:
    """Means over probes, and the scores by rank correlation."""
    told = {name: one.told(whole) for name, one in judged.items()}
    report.add(**{f"{what}_{name}": value for name, one in told.items() for what, value in one.items()})
    ranked = sorted(SCORES, key=lambda name: -told[name]["spearman"])
    seconds = {name: median(judged[name].seconds) for name in ranked}
    report.meta |= {"score_seconds": seconds, "default": MINE.score, "by_spearman": ranked}
    report.add(default_score=ranked.index(MINE.score) + 1)
    rows = [(name, *told[name].values(), seconds[name]) for name in ranked]
    show("Scores and silencing", ("score", "spearman", f"top {TOP}", "deletion", "insertion", "s a probe"), rows)


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
    """Bytes of resident memory at their peak, once the backbone is loaded: one forward pass or one attribution."""
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    backbone = load_backbone(told.pop("model")).reader
    case = Case(**{name: tuple(ids) for name, ids in told.items()})
    forget_peak()
    if part == "forward":
        with torch.no_grad():
            backbone.model(input_ids=torch.tensor([case.context], device=backbone.device), logits_to_keep=1)
    else:
        integrated_gradients(case.probe(backbone), MINE)
    return peak_memory()


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
    measure_equality(report, asked.model, mixed[: size.checked], size.check_steps)
    report.finish()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:  # what `measure_memory` asks of a process of its own
        print(peak(sys.argv[2], Path(sys.argv[3])))
    else:
        main()
