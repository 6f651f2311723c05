"""Rows to train routing from: questions with their gold documents and hard negatives, none of a document held out.

A quarter of all titles is held out in every file (`held_out`): no row about one of them, and none of their passages as
a negative. Nor is a row taken whose gold document has the title of a gold document of the sets that nothing is trained
on (PopQA, 2Wiki). Negatives are the passages labelled as not relevant: of the same article (SQuAD), found by BM25 or
dense search (NQ, TriviaQA, WebQ), of the same question (HotpotQA). Not here: training
(`neurag train-routing ROWS -o FOLDER`).

    python benchmarks/routing_rows.py --data DIR -o rows.jsonl
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common import data_folder, gold_of, held_out, plain, read_rows, write_rows

NEGATIVES = {"squad_same_article": 1, "nq_open_oracle": 1, "ragbench_nq_tqa_webq": 1, "hotpotqa": 3}
"""Negatives of a question, by file; those of the other questions of a step are added in training."""
NEVER = ("popqa", "2wikimultihopqa", "2wiki_closed")


def rows_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows in the format of docs/data.md."""
    kept_out = {plain(doc["title"]) for stem in NEVER for row in read_rows(folder, stem) for doc in gold_of(row)}

    def free(doc: Mapping[str, Any]) -> bool:
        return not held_out(doc["title"]) and plain(doc["title"]) not in kept_out

    files = {stem: read_rows(folder, stem) for stem in NEGATIVES}
    reserved = {plain(r["question"]) for rows in files.values() for r in rows if not all(map(free, gold_of(r)))}
    asked: set[str] = set()
    for stem, rows in files.items():
        for row in rows:
            key, gold = plain(row["question"]), gold_of(row)
            if not gold or key in reserved or key in asked:
                continue
            asked.add(key)
            others = [doc for doc in row["docs"] if doc["relevant"] is False and free(doc)]
            others = [doc for doc in others if doc.get("noise") != "random"][: NEGATIVES[stem]]
            docs = [{name: doc[name] for name in ("id", "title", "text", "relevant")} for doc in (*gold, *others)]
            yield {"id": row["id"], "question": row["question"], "answers": row["answers"], "docs": docs}


def main() -> None:
    """Write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help="question files (default ../shared/data)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    rows = list(rows_of(data_folder(asked.data)))
    write_rows(asked.output, rows)
    print(f"{len(rows)} rows, {len({d['id'] for row in rows for d in row['docs']})} documents, in {asked.output}")


if __name__ == "__main__":
    main()
