"""Training rows for the shipped task adapter, from question-answering data, without any document held out.

A quarter of all titles is held out, by the hash of the title, in every file: their passages, gold or not, and the
questions asked of them are never trained on, so benchmarks that ask `held_out` about their documents are clean.
Each question gives a row with its gold passage; some give another with distractors around it, or with distractors
alone, to which the answer is that it is not stated. Not here: training (`neurag train-task ROWS -o FOLDER`).

    python benchmarks/task_rows.py --data DIR -o rows.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import data_folder, gold_of, held_out, plain, read_rows, write_whole

STYLES = {"squad": "question", "nq": "search", "webq": "search", "triviaqa": "quiz"}
FILES = ("squad_same_article", "nq_open_oracle", "ragbench_nq_tqa_webq")
MANY, NOTHING, WRONG = 0.12, 0.2, 0.15
"""Share of the questions that are also asked with distractors; of these, without the gold passage; and of all
questions, those also asked of one wrong passage."""


def rows_of(files: Mapping[str, Sequence[Mapping[str, Any]]], seed: int) -> Iterator[dict[str, Any]]:
    """Rows as `neurag train-task` takes them."""
    drawn = random.Random(seed)
    reserved = {
        plain(row["question"])
        for rows in files.values()
        for row in rows
        if any(held_out(doc["title"]) for doc in gold_of(row))
    }
    asked: set[str] = set()
    for rows in files.values():
        for row in rows:
            key = plain(row["question"])
            if key not in reserved and key not in asked:
                asked.add(key)
                yield from _of(row, drawn)


def _of(row: Mapping[str, Any], drawn: random.Random) -> Iterator[dict[str, Any]]:
    gold = next(iter(gold_of(row)), None)
    answer = gold and surface(row["answers"], gold["text"])
    if gold is None or answer is None:
        return
    others = [doc for doc in row["docs"] if doc["relevant"] is False and not held_out(doc["title"])]
    others = [doc for doc in others if surface(row["answers"], doc["text"]) is None]
    asked = {"question": row["question"].strip(), "style": STYLES[row["type"]]}
    yield {"passage": [_shown(gold)], "answer": answer, **asked}
    if others and drawn.random() < WRONG:
        yield {"passage": [_shown(drawn.choice(others))], "answer": None, **asked}
    if others and drawn.random() < MANY:
        without = drawn.random() < NOTHING
        pasted = drawn.sample(others, drawn.randint(1, min(3, len(others)))) + ([] if without else [gold])
        drawn.shuffle(pasted)
        yield {"passage": [_shown(doc) for doc in pasted], "answer": None if without else answer, **asked}


def surface(answers: list[str], text: str) -> str | None:
    """The shortest accepted answer that stands in the text, as it is written there."""
    for answer in sorted(answers, key=len):
        if answer.strip() and (found := re.search(rf"(?<!\w){re.escape(answer.strip())}(?!\w)", text, re.IGNORECASE)):
            return found.group()
    return None


def _shown(doc: Mapping[str, Any]) -> dict[str, str]:
    return {"title": doc["title"], "text": doc["text"]}


def main() -> None:
    """Write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help="question files (default ../shared/data)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder = data_folder(asked.data)
    rows = list(rows_of({stem: read_rows(folder, stem) for stem in FILES}, asked.seed))
    write_whole(asked.output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"{len(rows)} rows, {sum(row['answer'] is None for row in rows)} of them not stated, in {asked.output}")


if __name__ == "__main__":
    main()
