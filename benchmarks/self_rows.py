"""More training rows for the task adapter, written by the adapter itself and kept where its own reading agrees.

Passages that the adapter may see (`held_out` keeps the others away) are asked about as in encoding: an answer is
picked, a question written for it, and the question answered from the passage. Where the answer comes back, the question
is one that the writer should go on writing (rejection sampling, as in STaR, Zelikman et al. 2022); people's own
questions about the passage stand beside them. Lines are added passage by passage, so a stopped run goes on where it
was. Not here: training (`neurag train-task OUTPUT --from task`).

    python benchmarks/self_rows.py --data DIR -o self.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import data_folder, gold_of, held_out, read_rows, tracked
from neurag.backbone import Backbone
from neurag.config import DEFAULT_MODEL, AugmentOptions
from neurag.knowledge.augmentation import ask, is_sound
from neurag.knowledge.questions import TOGETHER, Written
from neurag.loading import load_backbone
from neurag.words import holds, overlap, words
from task_rows import FILES, STYLES, surface

LONGEST, WORDS, SEED = 200, (25, 150), 11
"""Passages under LONGEST words are shuffled, and the first of those with WORDS (least, most) are taken."""
COUNT, PLAIN = 320, 700
"""Passages that are asked about, and those behind them of which only people's questions are taken, so that reading is
not forgotten."""
AGREES = 0.65
"""Share of words (F1) from which on the answer has come back."""


@dataclass
class Passage:
    """A passage, and what people asked about it: (question, accepted answers, style)."""

    title: str
    text: str
    asked: list[tuple[str, list[str], str]] = field(default_factory=list)


def passages(files: Mapping[str, Sequence[Mapping[str, Any]]], count: int) -> list[Passage]:
    """The passages to ask about."""
    found: dict[str, Passage] = {}
    for rows in files.values():
        for row in rows:
            for doc in gold_of(row):
                if not held_out(doc["title"]) and len(doc["text"].split()) < LONGEST:
                    passage = found.setdefault(doc["id"], Passage(doc["title"], doc["text"]))
                    passage.asked.append((row["question"].strip(), row["answers"], STYLES[row["type"]]))
    order = list(found.values())
    random.Random(SEED).shuffle(order)
    return [p for p in order if WORDS[0] <= len(p.text.split()) <= WORDS[1]][:count]


def rows_of(passage: Passage, written: Sequence[Written]) -> Iterator[dict[str, Any]]:
    """What people asked, then what was written and came back."""
    shown = {"passage": [{"title": passage.title, "text": passage.text}]}
    for question, answers, style in passage.asked:
        if answer := surface(answers, passage.text):
            yield {**shown, "question": question, "answer": answer, "style": style}
    text = words(passage.text)
    for one in written:
        meant = words(one.answer)
        came_back = overlap(words(one.told), meant) >= AGREES
        if came_back and is_sound(one, text) and not holds(words(one.question), meant):
            yield {**shown, "question": one.question, "answer": one.answer, "style": one.wording}


def missing(todo: Sequence[Passage], output: Path) -> list[Passage]:
    """The passages of which `output` has no row yet."""
    lines = output.read_text(encoding="utf-8").splitlines() if output.exists() else []
    done = {json.loads(line)["passage"][0]["text"] for line in lines}
    return [passage for passage in todo if passage.text not in done]


def write(backbone: Backbone, todo: Sequence[Passage], output: Path) -> Iterator[int]:
    """Ask about the passages, add their rows; yields how many of each lot."""
    lots = [todo[at : at + TOGETHER] for at in range(0, len(todo), TOGETHER)]
    for lot in tracked(lots, "lots of passages"):
        _, made = ask(backbone, [(p.title, p.text) for p in lot], AugmentOptions())
        yield add(
            output, [row for passage, written in zip(lot, made, strict=True) for row in rows_of(passage, written)]
        )


def add(output: Path, rows: Sequence[Mapping[str, Any]]) -> int:
    """Append the rows; returns how many."""
    with output.open("a", encoding="utf-8") as told:
        told.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return len(rows)


def main() -> None:
    """Write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help="question files (default ../shared/data)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=COUNT, help=f"passages to write about (default {COUNT})")
    parser.add_argument(
        "--plain", type=int, default=PLAIN, help=f"further passages, not written about (default {PLAIN})"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="which model writes and reads")
    told = parser.parse_args()
    folder = data_folder(told.data)
    found = passages({stem: read_rows(folder, stem) for stem in FILES}, told.count + told.plain)
    count = sum(write(load_backbone(told.model).reader, missing(found[: told.count], told.output), told.output))
    alone = missing(found[told.count :], told.output)
    count += add(told.output, [row for passage in alone for row in rows_of(passage, [])])
    print(f"{count} rows more in {told.output}")


if __name__ == "__main__":
    main()
