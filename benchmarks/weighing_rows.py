"""Rows and documents to train a weigher on: passages whose neurons no benchmark asks for answers.

Of SQuAD and of Natural Questions, a passage of each in turn: so many of the held-out ones that are set aside for this
(`set_aside`), which no adapter saw, as none saw a user's; and, in a file of their own, so many that the adapters were
trained on, which are a little easier. With every question people asked about them, but for those asked of another
held-out document as well. Not here: making neurons of them (`neurag encode`), and training (`neurag train-weighing`).

    python benchmarks/weighing_rows.py --data DIR -o rows.jsonl --seen seen.jsonl --documents documents.jsonl
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from common import by_hash, data_folder, gold_of, held_out, passages_of, plain, read_rows, set_aside, unseen, write_rows
from neurag.evaluation.metrics import match

FILES = ("squad_same_article", "nq_open_oracle")
ALSO_ASKED = "ragbench_nq_tqa_webq"
"""Another file whose questions about held-out documents are left out."""


def rows_of(
    files: Mapping[str, Sequence[Mapping[str, Any]]], count: int, aside: bool, seed: int
) -> list[dict[str, Any]]:
    """Rows about `count` passages of each of `FILES`, those set aside or those trained on, with these passages only."""
    kept_out = unseen if aside else _held_out
    every = chain.from_iterable(files.values())
    reserved = {plain(row["question"]) for row in every if any(map(kept_out, gold_of(row)))}
    taken = []
    for stem in FILES:
        about: dict[str, list[dict[str, Any]]] = {}
        for row in files[stem]:
            gold = gold_of(row)
            fits = len(gold) == 1 and (set_aside(gold[0]) if aside else not _held_out(gold[0]))
            if fits and plain(row["question"]) not in reserved and match(gold[0]["text"], row["answers"]):
                about.setdefault(gold[0]["id"], []).append({**row, "docs": gold})
        names = by_hash(about) if aside else sorted(about)
        if not aside:
            random.Random(seed).shuffle(names)
        taken.append([about[name] for name in names[:count]])
    return [row for both in zip_longest(*taken, fillvalue=[]) for group in both for row in group]


def _held_out(doc: Mapping[str, Any]) -> bool:
    return held_out(doc["title"])


def main() -> None:
    """Write both files of rows, and their documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help="question files (default ../shared/data)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="rows about passages that are set aside")
    parser.add_argument("--seen", type=Path, required=True, help="rows about passages that adapters were trained on")
    parser.add_argument("--documents", type=Path, required=True, help="JSONL of all documents, for neurag encode")
    parser.add_argument("--aside", type=int, default=68, help="passages of each file that are set aside")
    parser.add_argument("--trained", type=int, default=74, help="passages of each file that adapters were trained on")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder = data_folder(asked.data)
    files = {stem: read_rows(folder, stem) for stem in (*FILES, ALSO_ASKED)}
    aside, seen = rows_of(files, asked.aside, True, asked.seed), rows_of(files, asked.trained, False, asked.seed)
    write_rows(asked.output, aside)
    write_rows(asked.seen, seen)
    documents = [{name: doc[name] for name in ("id", "title", "text")} for doc in passages_of([*aside, *seen]).values()]
    write_rows(asked.documents, documents)
    print(f"{len(aside)} and {len(seen)} rows about {len(documents)} documents in {asked.documents}")


if __name__ == "__main__":
    main()
