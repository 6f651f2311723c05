"""Fit the weights of candidate answers, and say what share of real answers the candidates hold.

Without --fit it only measures. A question counts if its gold document holds an accepted answer; it is covered
exactly if a candidate equals one after SQuAD's normalisation, nearly if their token F1 is 0.6 or more. Weights
come from the first DOCS gold documents of each question file whose title is not held out
(benchmarks/common.py): every span that is an accepted answer against one in four of the others (seed 0),
logistic regression, the KEPT clues that tell most fitted once more.

    python scripts/candidate_weights.py --data DIR         # figures: exact and near, tuning and held-out titles
    python scripts/candidate_weights.py --data DIR --fit   # writes src/neurag/knowledge/clues.py first
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from common import data_folder, held_out, read_rows  # noqa: E402
from neurag.evaluation.metrics import f1  # noqa: E402
from neurag.files import write_whole  # noqa: E402
from neurag.knowledge import candidates  # noqa: E402
from neurag.words import normalise  # noqa: E402

STEMS = ("squad_same_article", "nq_open_oracle", "ragbench_nq_tqa_webq")
DOCS, KEPT, SPARED, RIDGE = 600, 300, 4, 10.0
RAREST = 40
"""A clue seen on fewer spans is left out."""
LIMITS = (24, 32, 48)
HEAD = '''"""What a candidate answer's look says about its being asked for: log odds, one row a kind of clue.

Written by scripts/candidate_weights.py from real questions; candidates.py says what each clue means (Passage.clues).
Not to be edited by hand.

    >>> WEIGHTS["before a"] > WEIGHTS["before adv"]
    True
"""

TABLE = """
'''
TAIL = '''"""
WEIGHTS = {
    f"{family} {value}": float(weight)
    for family, *row in map(str.split, TABLE.strip().splitlines())
    for value, weight in zip(row[::2], row[1::2], strict=True)
}
'''


class Asked(NamedTuple):
    """A document and the accepted answers, normalised and in its text, of each question about it."""

    text: str
    answers: list[list[str]]


def asked(folder: Path, stem: str, held: bool) -> list[Asked]:
    """The gold documents of a question file, of held-out titles or of the others."""
    found: dict[str, Asked] = {}
    for row in read_rows(folder, stem):
        for doc in row["docs"]:
            if doc["relevant"] is True and held_out(doc["title"]) == held:
                text = f" {normalise(doc['text'])} "
                answers = sorted({n for a in row["answers"] if (n := normalise(a)) and f" {n} " in text})
                if answers:
                    found.setdefault(doc["id"], Asked(doc["text"], [])).answers.append(answers)
    return list(found.values())


def coverage(documents: Iterable[Asked], limits: Sequence[int]) -> list[tuple[int, float, float]]:
    """(limit, share of questions covered exactly, share covered nearly)."""
    exact, near = [], []
    for document in documents:
        found = candidates.find_candidates(document.text, max(limits))
        told = [normalise(c.answer) for c in found]
        for answers in document.answers:
            exact.append(next((n for n, t in enumerate(told) if t in answers), max(limits)))
            near.append(next((n for n, t in enumerate(told) if t in answers or f1(t, answers) >= 0.6), max(limits)))
    return [(limit, *(float(np.mean(np.array(places) < limit)) for places in (exact, near))) for limit in limits]


def examples(documents: Iterable[Asked]) -> tuple[list[list[str]], np.ndarray]:
    """The clues of each span kept, and whether it is an accepted answer."""
    dice = random.Random(0)
    rows, right = [], []
    for document in documents:
        wanted = {a for answers in document.answers for a in answers}
        passage = candidates.Passage(document.text)
        for span in passage.spans:
            hit = normalise(passage.answer(span)) in wanted
            if hit or dice.randrange(SPARED) == 0:
                rows.append(["always yes", *passage.clues(span)])
                right.append(hit)
    return rows, np.array(right, dtype=np.float32)


def fit(rows: list[list[str]], right: np.ndarray) -> dict[str, float]:
    """The weights of the KEPT clues that tell most."""
    seen = Counter(clue for row in rows for clue in row)
    clues = sorted(clue for clue, times in seen.items() if times >= RAREST)
    column = {clue: n for n, clue in enumerate(clues)}
    table = np.zeros((len(rows), len(clues)), dtype=np.float32)
    for n, row in enumerate(rows):
        table[n, [column[clue] for clue in row if clue in column]] = 1
    weights = logistic(table, right)
    share = table.mean(axis=0)
    telling = np.abs(weights) * np.sqrt(share * (1 - share))
    telling[column["always yes"]] = np.inf
    best = np.sort(np.argsort(-telling)[:KEPT])
    return dict(zip([clues[n] for n in best], logistic(table[:, best], right).tolist(), strict=True))


def logistic(table: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Ridge logistic regression by Newton's method; a span that is no answer stands for SPARED."""
    times = np.where(right > 0, 1.0, float(SPARED)).astype(np.float32)
    weights = np.zeros(table.shape[1], dtype=np.float32)
    for _ in range(8):
        odds = 1 / (1 + np.exp(-np.clip(table @ weights, -30, 30)))
        slope = table.T @ (times * (odds - right)) + RIDGE * weights
        scaled = table * np.sqrt(times * (odds * (1 - odds) + 1e-6))[:, None]
        weights = weights - np.linalg.solve(scaled.T @ scaled + RIDGE * np.eye(len(weights), dtype=np.float32), slope)
    return weights


def written(weights: dict[str, float]) -> str:
    """The module clues.py."""
    lines: list[str] = []
    for clue, weight in sorted(weights.items()):
        family, value = clue.split(" ")
        item = f"  {value} {weight:.2f}"
        if not lines or lines[-1].split()[0] != family or len(lines[-1] + item) > 116:
            lines.append(family)
        lines[-1] += item
    return HEAD + "\n".join(lines) + "\n" + TAIL


def main() -> None:
    """Fit if asked to, then print the coverage of each question file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help="question files (default ../shared/data)")
    parser.add_argument("--fit", action="store_true", help="fit the weights and write them first")
    parser.add_argument("--held-out", action="store_true", help="measure on held-out titles too")
    flags = parser.parse_args()
    folder = data_folder(flags.data)
    if flags.fit:
        weights = fit(*examples(d for stem in STEMS for d in asked(folder, stem, held=False)[:DOCS]))
        write_whole(Path(candidates.__file__).with_name("clues.py"), written(weights))
        candidates.WEIGHTS = {clue: round(weight, 2) for clue, weight in weights.items()}
    for held in (False, True) if flags.held_out else (False,):
        for stem in STEMS:
            found = coverage(asked(folder, stem, held), LIMITS)
            told = "  ".join(f"{limit}: {exact:.3f} exact {near:.3f} near" for limit, exact, near in found)
            sys.stdout.write(f"{stem:22} {'held-out' if held else 'tuning':9} {told}\n")


if __name__ == "__main__":
    main()
