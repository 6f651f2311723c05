"""The commands `neurag mine` (which FFN units process relevant and irrelevant contexts) and `neurag harden`.

Not here: the work (robust/), reading rows (evaluation/data.py), errors and exit codes (`cli.py`).

    $ neurag mine rows.jsonl --model smollm2-135m-instruct -o units --limit 100
    $ neurag harden rows.jsonl --model smollm2-135m-instruct -o hardened
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..config import DEFAULT_MODEL, MineOptions, UsageError
from ..robust.options import HardenOptions
from .bank_commands import Flag, errors, output
from .eval_commands import sound_rows
from .progress import clock

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..evaluation.data import Row
    from ..robust.contexts import Question, Retrieve
    from ..robust.hardening import Cost, Hardened
    from ..robust.mining import Mined
    from ..robust.units import Units

MineFlags = Annotated[MineOptions, Parameter(name="*")]
ReportFolder = Annotated[Path, Parameter(name=["--output", "-o"], help="The folder for units.json and plots.")]
MINE = MineOptions()
HardenFlags = Annotated[HardenOptions, Parameter(name="*")]
MiningFlags = Annotated[MineOptions, Parameter(name="mine")]
HardenedFolder = Annotated[Path, Parameter(name=["--output", "-o"], help="The folder for the hardened model.")]
HARDEN, MINING = HardenOptions(), MineOptions(limit=200)


@dataclass(frozen=True)
class MinedUnits:
    """What hardening takes of a mining."""

    folder: Path
    """Of the report."""
    units: Units
    seed: int | None


def mine(
    data: Path,
    /,
    *,
    output: ReportFolder,
    model: str = DEFAULT_MODEL,
    options: MineFlags = MINE,
    contexts: Literal["labels", "bm25", "dense", "splade"] = "labels",
    embedder: str | None = None,
    splade: str | None = None,
    plots: bool = True,
) -> None:
    """Find the FFN units that process relevant contexts, irrelevant ones, or both.

    A stopped run goes on where it was when the same command is given again.

    Args:
        data: Rows as in docs/data.md: .jsonl or .jsonl.gz.
        model: A hub name or a folder.
        contexts: Where contexts come from: the rows' labels, or a search over all their documents.
        embedder: Sentence-transformers model for dense contexts.
        splade: SparseEncoder for splade contexts.
        plots: Also draw layers, overlap and stability.
    """
    from ..loading import load_backbone
    from ..robust.mining import mine
    from ..robust.plots import draw, need_matplotlib
    from .progress import MineMeter

    if plots:
        need_matplotlib()
    rows = sound_rows(data, options.limit)
    retrieve = None if contexts == "labels" else _retriever(rows, contexts, embedder, splade)
    backbone = load_backbone(model).reader
    with MineMeter(errors()) as progress:
        mined = mine(backbone, _questions(rows), options, output, progress, retrieve)
    if plots:
        draw(mined.units, mined.stability, output)
    _show(mined, output)


def harden(
    data: Path,
    /,
    *,
    output: HardenedFolder,
    model: str = DEFAULT_MODEL,
    start: Literal["plain", "reader"] = "plain",
    options: HardenFlags = HARDEN,
    mined: Path | None = None,
    mining: MiningFlags = MINING,
    limit: int | None = None,
    hold_out: float = 0.1,
    device: str = "auto",
    dry_run: Flag = False,
) -> None:
    """Silence the units that noise drives, teach evidence to a few layers, and write an ordinary model folder.

    Units are mined first, unless --mined names what `neurag mine` found. A stopped run goes on where it was when the
    same command is given again.

    Args:
        data: Rows as in docs/data.md: .jsonl or .jsonl.gz, with passages labelled relevant or not.
        model: A hub name or a folder.
        start: What is hardened of MODEL+ADAPTER: the model without the adapter, or the one that reads with it.
        mined: The folder of an earlier `neurag mine` with the same model.
        mining: How units are mined.
        limit: Take the first so many sound rows.
        hold_out: Share of the questions, by document, that are not learned from and measured before and after.
        device: auto, cpu, cuda or mps.
        dry_run: Say what would be trained, memory and time, and stop.
    """
    from ..loading import load_backbone
    from ..robust.checking import parted
    from ..robust.checkpoint import check_folder, work_folder
    from ..robust.hardening import plan

    check_folder(output)
    rows = sound_rows(data, limit)
    learned, held = parted(_questions(rows), hold_out)
    backbone = load_backbone(_base(model) if start == "plain" else model, device).reader
    if dry_run:
        _show_cost(plan(backbone, learned, options))
        return
    work = work_folder(output)
    report = _mined(backbone, learned, options, mined, mining, work)
    _harden(backbone, (learned, held), options, report, output)
    shutil.rmtree(work, ignore_errors=True)


def _base(model: str) -> str:
    """The model without its adapter."""
    return model if Path(model).exists() else model.rpartition("+")[0] or model


def _mined(
    backbone: Backbone,
    questions: Sequence[Question],
    options: HardenOptions,
    folder: Path | None,
    mining: MineOptions,
    work: Path,
) -> MinedUnits | None:
    """Sets of units with their report: read, or mined now; nothing where the options need none."""
    from ..robust.mining import mine
    from ..robust.units import FILE, load_units
    from .progress import MineMeter

    if not options.mined:
        return None
    if folder is None:
        asked = repr((questions[: mining.limit], mining, backbone.fingerprint))
        report = work / f"units-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"
        if not (report / FILE).is_file():  # it is there where this very command was stopped after mining
            with MineMeter(errors()) as progress:
                mine(backbone, questions[: mining.limit], mining, report, progress)
        folder = report
    units, told = load_units(folder / FILE)
    if told.get("backbone") != backbone.fingerprint:
        raise UsageError(f"the units in {folder} were mined on another model than {backbone.name}: mine again")
    return MinedUnits(folder, units, told.get("options", {}).get("seed"))


def _harden(
    backbone: Backbone,
    questions: tuple[Sequence[Question], Sequence[Question]],
    options: HardenOptions,
    report: MinedUnits | None,
    folder: Path,
) -> None:
    from ..robust.checking import check
    from ..robust.checkpoint import Card, work_folder, write_checkpoint
    from ..robust.hardening import harden
    from .progress import HardenMeter

    learned, held = questions
    fingerprint, work = backbone.fingerprint, work_folder(folder)
    before = check(backbone, held, options.passages)
    with HardenMeter(errors()) as progress:
        done = harden(backbone, report.units if report else None, learned, options, work, progress)
    after = check(backbone, held, options.passages)
    metrics = {f"{name}_before": value for name, value in before.items()}
    metrics |= {f"{name}_after": value for name, value in after.items()}
    seed = report.seed if report else None
    card = Card(backbone.name, fingerprint, len(learned), options, done, backbone.ffn_width, seed, metrics)
    write_checkpoint(backbone, card, folder, report.folder if report else None)
    _show_hardened(done, before, after, folder)


def _show_cost(cost: Cost) -> None:
    from .show import show_line

    share = cost.trainable / cost.parameters
    show_line(output(), f"trains {cost.trainable:,} of {cost.parameters:,} numbers ({share:.2%})")
    whole, step = cost.bytes / 2**30, cost.activation_bytes / 2**30
    show_line(output(), f"memory {whole:.1f} GiB, and about {step:.1f} GiB for a step")
    show_line(output(), f"about {clock(cost.seconds)} of tuning at the pace of this machine, after mining")


def _show_hardened(done: Hardened, before: dict[str, float], after: dict[str, float], folder: Path) -> None:
    from .show import show_line

    layers = ", ".join(map(str, done.layers)) or "none chosen"
    show_line(
        output(), f"{len(done.units)} units acted on; layers tuned: {layers}; {done.share:.2%} trained, in {folder}"
    )
    if "match" in before and "match" in after:
        told = f"match {before['match']:.2f} before, {after['match']:.2f} after"
        show_line(output(), f"{told} on {before['questions']:.0f} questions held out")


def _questions(rows: Sequence[Row]) -> list[Question]:
    from ..robust.contexts import Question, Shown

    return [
        Question(row.id, row.question, row.answers, tuple(Shown(d.title, d.text, d.relevant) for d in row.docs))
        for row in rows
    ]


def _retriever(rows: Sequence[Row], kind: str, embedder: str | None, splade: str | None) -> Retrieve:
    from ..evaluation.data import documents_of
    from ..knowledge.embedding import Embedded, dense_encoder, splade_encoder
    from ..knowledge.retrieval import Passages
    from ..robust.contexts import retriever

    texts = [(doc.id, doc.id, doc.title, doc.text) for doc in documents_of(rows)]
    index: Any
    if kind == "bm25":
        index = Passages(texts)
    else:
        index = Embedded(texts, dense_encoder(embedder) if kind == "dense" else splade_encoder(splade))
    return retriever(index)


def _show(mined: Mined, folder: Path) -> None:
    from .show import show_line

    units, said = mined.units, mined.contexts
    parts = {"relevant only": units.only_relevant, "shared": units.shared, "irrelevant only": units.only_irrelevant}
    counts = ", ".join(f"{name} {len(found)}" for name, found in parts.items())
    show_line(output(), f"{counts} (of {units.depth * units.width} units), in {folder}")
    show_line(output(), f"from {said['relevant']} relevant and {said['irrelevant']} irrelevant contexts")
    if mined.completeness_error is not None:
        show_line(output(), f"completeness error {mined.completeness_error:.2%}")
    firm = ((name.replace("_", " "), value) for name, value in mined.stability.items() if value is not None)
    show_line(output(), "Jaccard of halves: " + (", ".join(f"{name} {value:.2f}" for name, value in firm) or "none"))
    for why, count in sorted(mined.skipped.items(), key=lambda one: -one[1]):
        show_line(errors(), f"left out {count}: {why}")
