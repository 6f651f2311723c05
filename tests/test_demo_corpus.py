"""The demo corpus is a small invented world; these tests keep the world consistent."""

import json
import re
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[1] / "src" / "neurag" / "demo"


def load(name):
    text = (DEMO / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


DOCUMENTS = load("documents.jsonl")
QUESTIONS = load("questions.jsonl")
BY_ID = {d["id"]: d for d in DOCUMENTS}
ANSWERABLE = [q for q in QUESTIONS if q["type"] != "unanswerable"]


def of_type(*types):
    return [q for q in QUESTIONS if q["type"] in types]


def named(rows):
    return pytest.mark.parametrize("row", rows, ids=[r["id"] for r in rows])


def says(text, phrase):
    """Whether text holds phrase as whole words ("16" is not in "1.16" or "160")."""
    return re.search(rf"(?<![\w.,:]){re.escape(phrase)}(?!\w|[.,:]\d)", text, re.IGNORECASE) is not None


def holders(phrase):
    return {d["id"] for d in DOCUMENTS if says(d["text"], phrase)}


def same_title_pair():
    titles = Counter(d["title"] for d in DOCUMENTS)
    pairs = [t for t, n in titles.items() if n > 1]
    assert len(pairs) == 1, "exactly one page exists in two versions"
    pair = [d for d in DOCUMENTS if d["title"] == pairs[0]]
    assert len(pair) == 2
    return sorted(pair, key=lambda d: d["timestamp"])


def test_counts_and_unique_ids():
    assert len(DOCUMENTS) == len(BY_ID) == 36
    assert len(QUESTIONS) == len({q["id"] for q in QUESTIONS}) == 40
    assert Counter(q["type"] for q in QUESTIONS) == {
        "single": 26,
        "two_documents": 6,
        "unanswerable": 5,
        "conflict": 3,
    }
    assert len({q["question"] for q in QUESTIONS}) == 40
    assert len({d["text"] for d in DOCUMENTS}) == 36


@named(DOCUMENTS)
def test_document(row):
    assert set(row) - {"trust"} == {"id", "title", "text", "timestamp", "labels"}
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row["id"])
    assert 45 <= len(row["text"].split()) <= 90
    assert row["text"] == " ".join(row["text"].split())
    assert row["text"].endswith(".")
    assert row["title"].strip()
    assert date.fromisoformat(row["timestamp"]).isoformat() == row["timestamp"]
    assert 0 <= row.get("trust", 1) <= 1
    assert row["labels"]
    assert all(isinstance(x, str) and x for x in row["labels"])


@named(DOCUMENTS)
def test_document_names_its_subjects(row):
    assert not re.search(r"\b(he|she|it|they|him|them)\b", row["text"], re.IGNORECASE)


@named(QUESTIONS)
def test_question(row):
    assert set(row) == {"id", "question", "answers", "docs", "type"}
    assert row["question"].endswith("?")
    assert set(row["docs"]) <= set(BY_ID)
    assert len(row["docs"]) == len(set(row["docs"]))
    assert len({a.lower() for a in row["answers"]}) == len(row["answers"])
    for answer in row["answers"]:
        assert 1 <= len(answer.split()) <= 5
        assert answer.lower() not in row["question"].lower()


@named(of_type("single", "conflict"))
def test_answer_is_literally_in_the_gold_document_only(row):
    assert len(row["docs"]) == 1
    assert row["answers"][0] in BY_ID[row["docs"][0]]["text"]
    assert holders(row["answers"][0]) == set(row["docs"])


@named(of_type("single", "conflict"))
def test_question_is_not_a_copied_sentence(row):
    start = row["question"].rstrip("?").lower()
    assert start not in BY_ID[row["docs"][0]]["text"].lower()


@named(of_type("two_documents"))
def test_two_documents_are_needed(row):
    first, second = (BY_ID[i]["text"] for i in row["docs"])
    assert not any(says(first, a) for a in row["answers"]), "the first document only names the link"
    assert says(second, row["answers"][0])


@named(of_type("unanswerable"))
def test_unanswerable(row):
    assert row["docs"] == []
    assert row["answers"] == []


def test_answers_are_distinct():
    for q in ANSWERABLE:
        assert q["answers"], q["id"]
        for other in ANSWERABLE:
            if other is not q:
                clash = [(a, b) for a in q["answers"] for b in other["answers"] if says(b, a)]
                assert not clash, (q["id"], other["id"], clash)


def test_the_pair_that_disagrees():
    older, newer = same_title_pair()
    assert date.fromisoformat(older["timestamp"]) < date.fromisoformat(newer["timestamp"])
    assert older["text"] != newer["text"]
    assert older.get("trust", 1) == newer.get("trust", 1), "only the date decides"
    for q in of_type("conflict"):
        assert q["docs"] == [newer["id"]]
        assert not any(says(older["text"], a) for a in q["answers"])
    assert not any(older["id"] in q["docs"] for q in QUESTIONS)


def test_every_other_document_answers_a_question():
    older, _ = same_title_pair()
    assert {i for q in QUESTIONS for i in q["docs"]} == set(BY_ID) - {older["id"]}
