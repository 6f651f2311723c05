"""Questions written about passages, as lessons to be matched: what `neurag train-task --lessons` takes.

Two kinds of passages are asked about as in encoding: those of the training rows (task_rows.py), and, with `--more`,
passages of the large Wikipedia corpus whose titles occur in no question file and are not held out, so that no
evaluation asks about them. A question is kept, with the answer the reader gives it, where that stands in the passage.
Lines are added lot by lot, so a stopped run goes on where it was. Not here: training.

    python benchmarks/lesson_rows.py rows.jsonl --data DIR --more 3000 -o lessons.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from common import data_folder, held_out, plain, read_rows, tracked
from neurag.backbone import Backbone
from neurag.config import DEFAULT_MODEL, AugmentOptions
from neurag.knowledge.augmentation import ask, is_sound
from neurag.knowledge.questions import Written
from neurag.loading import load_backbone
from neurag.tasks.examples import read_rows as read_task_rows
from neurag.words import words
from self_rows import Passage, add, missing

LARGE, CLOSED = "text_wiki_passages", "2wiki_closed_corpus"
LOT, WORDS, SEED = 256, (25, 180), 5
"""Passages written about before lines are added; words of a passage (least, most) of the large corpus."""


def trained_on(rows: Path) -> list[Passage]:
    """The passages of the training rows that answer a question alone, each once."""
    told = [row.passages[0] for row in read_task_rows(rows) if len(row.passages) == 1 and row.answer]
    return [Passage(title, text) for text, title in {text: title for title, text in told}.items()]


def unasked(folder: Path, count: int) -> list[Passage]:
    """Passages of the large corpus that no question file knows, by title."""
    stems = sorted({path.name.split(".")[0] for path in folder.glob("*.jsonl*")} - {LARGE, CLOSED})
    known = {plain(doc["title"]) for stem in stems for row in read_rows(folder, stem) for doc in row["docs"]}
    known |= {plain(doc["title"]) for doc in read_rows(folder, CLOSED)}
    found = [
        Passage(doc["title"], doc["text"])
        for doc in read_rows(folder, LARGE)
        if plain(doc["title"]) not in known
        and not held_out(doc["title"])
        and WORDS[0] <= len(doc["text"].split()) <= WORDS[1]
    ]
    random.Random(SEED).shuffle(found)
    return found[:count]


def rows_of(passage: Passage, written: Sequence[Written]) -> Iterator[dict[str, object]]:
    """The sound questions, with the answers that the reader gives them."""
    text = words(passage.text)
    for one in written:
        if is_sound(one, text):
            shown = [{"title": passage.title, "text": passage.text}]
            yield {"passage": shown, "question": one.question, "answer": one.told, "style": one.wording}


def write(backbone: Backbone, todo: Sequence[Passage], output: Path) -> int:
    """Ask about the passages and add their rows; returns how many."""
    count = 0
    for lot in tracked([todo[at : at + LOT] for at in range(0, len(todo), LOT)], "lots of passages"):
        _, made = ask(backbone, [(p.title, p.text) for p in lot], AugmentOptions())
        count += add(output, [row for p, written in zip(lot, made, strict=True) for row in rows_of(p, written)])
    return count


def main() -> None:
    """Write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="what task_rows.py wrote")
    parser.add_argument("--data", type=Path, default=None, help="question files (default ../shared/data)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--more", type=int, default=0, help="passages of the large corpus as well")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="which model writes and reads")
    told = parser.parse_args()
    found = trained_on(told.rows) + (unasked(data_folder(told.data), told.more) if told.more else [])
    count = write(load_backbone(told.model), missing(found, told.output), told.output)
    print(json.dumps({"rows": count, "passages": len(found)}))


if __name__ == "__main__":
    main()
