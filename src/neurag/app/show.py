"""What the command line shows: answers with their neurons, banks, and the demo, all through rich consoles.

Not here: commands and their options (`cli.py`), progress of encoding (`progress.py`), any figure. Texts of
documents and models are shown as they are, never as rich markup.

    show_answer(Console(), model.answer("Who runs the mill?"), explain=True)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..answer import Answer, Conflict, FiredNeuron, Source, Step, declines
from ..config import BATCH
from ..knowledge.documents import clean_text
from .explain import show_explanation
from .progress import EncodeProgress, clock

if TYPE_CHECKING:
    from ..demo.corpus import Question
    from ..demo.figures import DemoResult
    from ..knowledge.pipeline import EncodeReport, Plan
    from ..knowledge.readers import Skipped
    from ..knowledge.rows import DocumentSummary, NeuronRow

NO_NEURON = "no neuron fired: this is the plain backbone speaking"
UNSURE = "the documents may not say: take this as a guess"
POLICIES = {"newest": "the newest speaks", "trusted": "the most trusted speaks", "all": "all of them speak"}
_BAR = 12


def show_json(value: object) -> None:
    """Write one JSON value and nothing else to stdout."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(value, ensure_ascii=not utf8, indent=2) + "\n")


def show_line(console: Console, text: str) -> None:
    """Write one text as it is; a terminal wraps it, a file gets it whole."""
    console.print(Text(clean_text(text)), soft_wrap=True)


def show_pieces(console: Console, pieces: Iterable[str]) -> None:
    """Write the pieces of an answer as they come, then end the line."""
    for piece in pieces:
        console.print(Text(clean_text(piece)), end="", soft_wrap=True)
        console.file.flush()
    console.print()


def show_answer(console: Console, answer: Answer, explain: bool = False, said: bool = False) -> None:
    """Show an answer and the neurons behind it; `said` leaves out the text, which was streamed."""
    if not said:
        show_line(console, answer.answer)
    if answer.abstained and not declines(answer.answer):  # which says it by itself
        unsure = answer.confidence is not None
        told = f"{UNSURE} ({answer.confidence:.0%} likely right)" if unsure else NO_NEURON
        console.print(Text(told, style="yellow"), soft_wrap=True)
    if answer.steps:
        show_steps(console, answer.steps)
    if answer.conflict:
        show_conflict(console, answer.conflict)
    if answer.neurons:
        console.print(neuron_table(answer.neurons))
    if explain:
        _explain(console, answer)


def show_steps(console: Console, steps: Sequence[Step]) -> None:
    """Show what was asked one after the other, what was answered, and how likely that is right."""
    console.print(Text("asked in steps:", style="dim"))
    table = Table(box=None, show_header=False, pad_edge=False)
    for step in steps:
        table.add_row(*_texts(step.question, step.answer), f"{step.confidence:.0%}")
    console.print(table)


def show_conflict(console: Console, conflict: Conflict) -> None:
    """Show who says what; an arrow marks the side that was followed."""
    console.print(Text(f"the documents disagree ({POLICIES[conflict.policy]}):", style="yellow"), soft_wrap=True)
    table = Table(box=None, show_header=False, pad_edge=False)
    for side in conflict.sides:
        named = ", ".join(_source(one) for one in side.documents)
        table.add_row(
            "→" if side.followed else "",
            *_texts(" ".join(side.answer.split()), named),
            style="bold" if side.followed else "",
        )
    console.print(table)


def _source(source: Source) -> str:
    trust = "" if source.trust is None else f"trust {source.trust:g}"
    known = ", ".join(told for told in (source.timestamp, trust) if told)
    return f"{source.doc_id} ({known})" if known else source.doc_id


def neuron_table(neurons: Sequence[FiredNeuron]) -> Table:
    """Neurons as a table: weight, title, document id."""
    table = _table("neuron", "", "title", "document")
    for neuron in neurons:
        full = round(min(max(neuron.weight, 0.0), 1.0) * _BAR)
        bar = Text("█" * full, style="cyan").append("░" * (_BAR - full), style="dim")
        table.add_row(f"{neuron.weight:.2f}", bar, *_texts(neuron.title, neuron.doc_id))
    return table


def _explain(console: Console, answer: Answer) -> None:
    if answer.explanation:
        show_explanation(console, answer.explanation)
    else:
        for neuron in answer.neurons:
            show_line(console, f"{neuron.doc_id} ({neuron.weight:.2f}) was made from:")
            console.print(Padding(Text(clean_text(neuron.text), style="dim"), (0, 0, 1, 2)))
    told = answer.timing
    show_line(
        console,
        f"{told.total_s:.2f} s: prompt {told.prefill_s:.2f} ({told.prompt_tokens} tokens), "
        f"routing {told.routing_s:.3f}, writing {told.decode_s:.2f}; "
        f"first token after {told.first_token_s:.2f}",
    )


def show_skipped(console: Console, skipped: Sequence[Skipped]) -> None:
    """Name and count what could not be read."""
    for one in skipped:
        show_line(console, f"skipped {one.where}: {one.reason}")
    if skipped:
        show_line(console, f"{len(skipped)} could not be read")


def show_done(console: Console, done: Plan | EncodeReport, bank: Path) -> None:
    """Show what encoding would do, or what it did."""
    text = f"{done.documents} documents, {done.chunks} chunks"
    if hasattr(done, "todo"):  # a Plan; importing its module to ask would load torch
        told = cast("Plan", done)
        text += (
            f", {told.tokens} tokens; to encode: {told.todo} chunks, {size(told.bytes)}, "
            f"about {clock(told.seconds)}. Nothing was written."
        )
    else:
        text += f" in {bank}: {done.encoded} encoded, {done.reused} already there, {clock(done.seconds)}"
        if done.encoded and done.seconds:
            split = ", ".join(f"{name} {clock(spent)}" for name, spent in done.split.items())
            text += f" ({done.documents / done.seconds:.2g} documents/s: {split})"
            text += f"; the lessons answer about {done.coverage:.0%} of what may be asked"
    show_line(console, text)


def show_info(console: Console, info: Mapping[str, object]) -> None:
    """Show a bank's summary, a line for each entry."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in info.items():
        number = isinstance(value, (int, float)) and "bytes" in name
        table.add_row(*_texts(name.replace("_", " "), size(float(str(value))) if number else str(value)))
    console.print(table)


def show_documents(console: Console, documents: Sequence[DocumentSummary]) -> None:
    """List the documents of a bank."""
    table = _table("document", "title", "chunks", "pairs", "covered", "size", "date", "labels", right=(2, 3, 4, 5))
    for one in documents:
        numbers = (str(one.chunks), str(one.pairs), f"{one.coverage:.0%}", size(one.bytes))
        table.add_row(*_texts(one.id, one.title, *numbers, one.timestamp, ", ".join(one.labels)))
    console.print(table)


def show_chunks(console: Console, chunks: Sequence[Mapping[str, Any]]) -> None:
    """Show the chunks of one document, as `described` has them."""
    for one in chunks:
        place = f"{one['source'] or 'from memory'}, characters {one['start']}-{one['end']}"
        console.print(Text(clean_text(f"{one['id']}  {one['title']}"), style="bold"), soft_wrap=True)
        show_line(
            console,
            f"{place}; {one['pairs']} pairs cover {one['coverage']:.0%}, {one['keys']} keys, {size(one['bytes'])}",
        )
        console.print(Padding(Text(clean_text(one["text"])), (0, 0, 1, 2)))


def described(row: NeuronRow) -> dict[str, Any]:
    """Return all that can be read of a row: everything but its arrays, which are counted."""
    arrays = (row.keys, row.neuron, row.scale)
    names = [
        "id",
        "document_id",
        "chunk_index",
        "title",
        "text",
        "start",
        "end",
        "source",
        "timestamp",
        "trust",
    ]
    told = {name: getattr(row, name) for name in [*names, "pairs", "coverage", "created", "recipe", "content_hash"]}
    told |= {"labels": list(row.labels), "metadata": dict(row.metadata)}
    return told | {"keys": len(row.keys), "bytes": sum(array.nbytes for array in arrays)}


def size(count: float) -> str:
    """Write a number of bytes: 1500 is '1.5 kB'."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB" if count < 1000 else f"{count:,.0f} GB"


def _table(*names: str, right: Sequence[int] = ()) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(names):
        table.add_column(name, justify="right" if place in right else "left", overflow="fold")
    return table


def _texts(*values: str) -> Iterator[Text]:
    return (Text(clean_text(value)) for value in values)


class DemoScreen:
    """Shows the demo on a console; the counterpart of `demo.run.Show`."""

    def __init__(self, console: Console, errors: Console) -> None:
        self._console = console
        self._errors = errors

    def say(self, text: str) -> None:
        """Show a paragraph."""
        self._console.print(Text(text), end="\n\n")

    def progress(self) -> EncodeProgress:
        """Show how far encoding is."""
        return EncodeProgress(self._errors)

    def asked(self, question: Question, pieces: Iterator[str]) -> None:
        """Show a question, then its answer as the pieces come."""
        self._console.print(Text(question.question, style="bold"), soft_wrap=True)
        show_pieces(self._console, pieces)

    def fired(self, question: Question, answer: Answer) -> None:
        """Show the neurons behind an answer, and the gold answer."""
        gold = f"gold answer: {question.answers[0]} (from {', '.join(question.docs)})"
        self._console.print(Text(gold, style="green"), soft_wrap=True)
        show_answer(self._console, answer, said=True)
        self._console.print()

    def judging(self, name: str, done: int, total: int) -> None:
        """Show how far the comparison is: a line that replaces itself, on terminals only."""
        if self._errors.is_terminal:
            text = f"asking {name}: {done} of {total}" if done < total else ""
            self._errors.file.write(f"\r{text:<60}\r")  # rich would strip the carriage returns
            self._errors.file.flush()

    def result(self, result: DemoResult) -> None:
        """Show the table of systems and the kinds of questions."""
        table = _table("system", "match", "seconds per question", "prompt tokens", right=(1, 2, 3))
        for score in result.scores:
            figures = (
                f"{score.match:.2f}",
                f"{score.seconds_per_question:.2f}",
                f"{score.prompt_tokens:.0f}",
            )
            table.add_row(score.name, *figures, style="bold" if score.name == "NeuRAG" else "")
        kinds = _table("questions about", "number", "NeuRAG", "RAG", "hybrid", right=(1, 2, 3, 4))
        for kind in result.kinds:
            matches = (f"{match:.2f}" for match in (kind.neurag, kind.rag, kind.hybrid))
            kinds.add_row(kind.kind, str(kind.questions), *matches)
        self._console.print(table)
        self._console.print(kinds)
        told = result.routing
        self.say(
            f"Seconds are a question's share when up to {BATCH} are asked side by side, by every system alike. "
            f"A gold document's neuron was the strongest in {told.first:.0%} of the questions, and "
            f"among those that fired in {told.among_fired:.0%}. Encoding took {result.encode_seconds:.0f} s."
        )
