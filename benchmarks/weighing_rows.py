"""Rows and documents to train a weigher on: questions about passages of titles that no benchmark asks about.

Of SQuAD and of Natural Questions, so many passages each (`--passages`) that are not held out (`held_out`), in turn, and
every question people asked about them; no question that is asked of a held-out document as well. They are passages that
the adapters were trained on, which makes them a little easier than a user's. Not here: making neurons of them
(`neurag encode`), and training (`neurag train-weighing`).

    python benchmarks/weighing_rows.py --data DIR -o rows.jsonl --documents documents.jsonl
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from common import data_folder, gold_of, held_out, passages_of, plain, read_rows, write_rows
from neurag.evaluation.metrics import match

FILES = ("squad_same_article", "nq_open_oracle")
ALSO_ASKED = "ragbench_nq_tqa_webq"
"""Another file whose questions about held-out documents are left out."""


def rows_of(files: Mapping[str, Sequence[Mapping[str, Any]]], passages: int, seed: int) -> list[dict[str, Any]]:
    """Rows about so many passages of each of `FILES`, with the gold passage only; the passages of the files in turn."""
    rows = chain.from_iterable(files.values())
    reserved = {plain(row["question"]) for row in rows if any(held_out(doc["title"]) for doc in gold_of(row))}
    taken = []
    for stem in FILES:
        about: dict[str, list[dict[str, Any]]] = {}
        for row in files[stem]:
            gold = gold_of(row)
            free = len(gold) == 1 and not held_out(gold[0]["title"]) and plain(row["question"]) not in reserved
            if free and match(gold[0]["text"], row["answers"]):
                about.setdefault(gold[0]["id"], []).append({**row, "docs": gold})
        names = sorted(about)
        random.Random(seed).shuffle(names)
        taken.append([about[name] for name in names[:passages]])
    return [row for both in zip(*taken, strict=False) for group in both for row in group]


def main() -> None:
    """Write the rows, and their documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help="question files (default ../shared/data)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--documents", type=Path, required=True, help="JSONL of the documents, for neurag encode")
    parser.add_argument("--passages", type=int, default=74, help="passages of each file")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder = data_folder(asked.data)
    files = {stem: read_rows(folder, stem) for stem in (*FILES, ALSO_ASKED)}
    rows = rows_of(files, asked.passages, asked.seed)
    write_rows(asked.output, rows)
    documents = [{name: doc[name] for name in ("id", "title", "text")} for doc in passages_of(rows).values()]
    write_rows(asked.documents, documents)
    print(f"{len(rows)} rows in {asked.output} about {len(documents)} documents in {asked.documents}")


if __name__ == "__main__":
    main()
