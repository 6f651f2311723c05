"""Rows and documents to train a weigher on: questions about passages that no benchmark asks for answers from.

Of SQuAD and of Natural Questions, in turn: so many passages each of the held-out ones that are set aside for this
(`--aside`; `set_aside`), which no adapter saw, as none saw a user's; and so many that the adapters were trained on
(`--passages`), which are a little easier. With every question people asked about them, but for those that are asked of
another held-out document as well. Not here: making neurons of them (`neurag encode`), and training
(`neurag train-weighing`).

    python benchmarks/weighing_rows.py --data DIR -o rows.jsonl --documents documents.jsonl
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from common import data_folder, gold_of, held_out, passages_of, plain, read_rows, set_aside, unseen, write_rows
from neurag.evaluation.metrics import match

FILES = ("squad_same_article", "nq_open_oracle")
ALSO_ASKED = "ragbench_nq_tqa_webq"
"""Another file whose questions about held-out documents are left out."""


def rows_of(
    files: Mapping[str, Sequence[Mapping[str, Any]]], aside: int, passages: int, seed: int
) -> list[dict[str, Any]]:
    """Rows about so many passages of both kinds from each of `FILES`, with the gold passage only; the files in turn."""
    every = chain.from_iterable(files.values())
    reserved = {plain(row["question"]) for row in every if any(map(unseen, gold_of(row)))}
    answered = {
        stem: [
            {**row, "docs": gold}
            for row in files[stem]
            if len(gold := gold_of(row)) == 1 and plain(row["question"]) not in reserved
            if match(gold[0]["text"], row["answers"])
        ]
        for stem in FILES
    }
    kinds = ((aside, set_aside), (passages, lambda doc: not held_out(doc["title"])))
    return [row for count, kind in kinds for row in _in_turn(answered.values(), count, kind, seed)]


def _in_turn(
    files: Iterable[Sequence[dict[str, Any]]], count: int, kind: Callable[[Mapping[str, Any]], bool], seed: int
) -> list[dict[str, Any]]:
    """The rows of `count` passages of one kind from each file, a passage of each file after the other's."""
    taken = []
    for rows in files:
        about: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if kind(row["docs"][0]):
                about.setdefault(row["docs"][0]["id"], []).append(row)
        names = sorted(about)
        random.Random(seed).shuffle(names)
        taken.append([about[name] for name in names[:count]])
    return [row for both in zip_longest(*taken, fillvalue=[]) for group in both for row in group]


def main() -> None:
    """Write the rows, and their documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help="question files (default ../shared/data)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--documents", type=Path, required=True, help="JSONL of the documents, for neurag encode")
    parser.add_argument("--aside", type=int, default=68, help="passages of each file that are set aside")
    parser.add_argument("--passages", type=int, default=74, help="passages of each file that adapters saw")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder = data_folder(asked.data)
    files = {stem: read_rows(folder, stem) for stem in (*FILES, ALSO_ASKED)}
    rows = rows_of(files, asked.aside, asked.passages, asked.seed)
    write_rows(asked.output, rows)
    documents = [{name: doc[name] for name in ("id", "title", "text")} for doc in passages_of(rows).values()]
    write_rows(asked.documents, documents)
    print(f"{len(rows)} rows in {asked.output} about {len(documents)} documents in {asked.documents}")


if __name__ == "__main__":
    main()
