"""The command `neurag mine`: which FFN units of a backbone process relevant contexts, and which irrelevant ones.

Not here: attribution and votes (robust/), reading rows (evaluation/data.py), errors and exit codes (`cli.py`).

    $ neurag mine rows.jsonl --model smollm2-135m-instruct -o units --limit 100
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..config import DEFAULT_MODEL, MineOptions
from .bank_commands import errors, output

if TYPE_CHECKING:
    from ..evaluation.data import Row
    from ..robust.contexts import Question, Retrieve
    from ..robust.mining import Mined

MineFlags = Annotated[MineOptions, Parameter(name="*")]
ReportFolder = Annotated[Path, Parameter(name=["--output", "-o"], help="The folder for units.json and plots.")]
MINE = MineOptions()


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
    rows = _rows(data, options.limit)
    retrieve = None if contexts == "labels" else _retriever(rows, contexts, embedder, splade)
    backbone = load_backbone(model).reader
    with MineMeter(errors()) as progress:
        mined = mine(backbone, _questions(rows), options, output, progress, retrieve)
    if plots:
        draw(mined.units, mined.stability, output)
    _show(mined, output)


def _rows(data: Path, limit: int | None) -> list[Row]:
    from ..evaluation.data import Row, read_rows, sharing
    from .eval_commands import BrokenRows

    said = BrokenRows(errors())
    rows = []
    for item in sharing(read_rows(data, limit)):
        if isinstance(item, Row):
            rows.append(item)
        else:
            said(item)
    said.close()
    return rows


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
