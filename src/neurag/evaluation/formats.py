"""Public question sets, in the files their authors publish, become rows (see docs/data.md for where to get them).

Whoever has downloaded a file turns it into rows with `convert`; nothing is downloaded here. A record that cannot
be turned into a row comes out as `Broken`. Files with a record a line are streamed, files that are one JSON list
are read whole. Answers that a set repeats come once, and documents without text are left out.

Not here: the row format itself (`data.py`).

    for row in convert("hotpot_dev_distractor_v1.json"):
        print(row)
"""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..config import UsageError
from .data import Broken, as_row, doc_id, json_lines, opened

Fields = dict[str, Any]

_NEIGHBOURS = 3
"""Paragraphs of the same article that go with a SQuAD question: near, but without the answer."""


def convert(path: Path | str, name: str | None = None) -> Iterator[Fields | Broken]:
    """Turn a public data file into rows, in order; .gz is unpacked.

    Args:
        path: the file as published.
        name: a key of `FORMATS`; None tells it from the fields of the first record.

    Raises:
        UsageError: the file cannot be read, is of no known format or holds nothing of the format named, or
            there is no format of that name.
    """
    name = guess(Path(path)) if name is None else name
    if name not in FORMATS:
        raise UsageError(f"there is no format {name!r}: choose from {', '.join(FORMATS)}")
    return FORMATS[name](Path(path))


def guess(path: Path) -> str:
    """Tell a file's format from the fields of its first record.

    Raises:
        UsageError: the file cannot be read, or the fields are of no known format.
    """
    record = next((record for _, record in _records(path) if isinstance(record, dict)), None)
    if record is None:
        raise UsageError(f"{path} holds no JSON object and no table: is it one of {', '.join(FORMATS)}?")
    if record.keys() >= {"question", "answers", "docs"}:
        raise UsageError(f"{path} holds rows already: nothing to convert")
    for name, (fields, _) in _KNOWN.items():
        if any(record.keys() >= some for some in fields):
            return name
    # Many sets have a question and its answer; the files of NQ hold nothing else.
    if record.keys() in ({"question", "answer"}, {"question", "answers"}):
        return "nq"
    told = ", ".join(map(str, list(record)[:8]))
    raise UsageError(f"{path} has the fields {told}, which fit no known format: choose from {', '.join(FORMATS)}")


def _read(name: str, path: Path) -> Iterator[Fields | Broken]:
    sound = False
    first: Broken | None = None
    for number, record in _records(path):
        for row in _rows(name, number, record):
            if isinstance(row, Broken):
                first = first or row
            else:
                sound = True
            yield row
    if not sound:
        why = f"record {first.line} {first.reason}" if first else "it is empty"
        raise UsageError(f"{path} holds no question of the format {name} ({why})")


def _rows(name: str, number: int, record: object) -> Iterator[Fields | Broken]:
    if isinstance(record, Broken):
        yield record
        return
    if not isinstance(record, dict):
        yield Broken(number, "is not a JSON object")
        return
    try:
        for row in _KNOWN[name][1](record):
            row = {"id": f"{name}-{row.pop('id', record.get('id', number))}", **row, "source": name}
            checked = as_row(row, number)
            yield checked if isinstance(checked, Broken) else row
    except KeyError as error:
        yield Broken(number, f"has no {error}, which {name} has")
    except (TypeError, ValueError, AttributeError) as error:
        yield Broken(number, f"is not as in {name}: {error}")


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the records of a file and their numbers, whichever way it holds them."""
    if path.name.lower().endswith((".tsv", ".tsv.gz")):
        yield from _table(path)
        return
    whole = next((value for _, value in json_lines(path)), None)
    if isinstance(whole, Broken):  # the first line is no JSON: perhaps one value goes over many lines
        try:
            with opened(path) as stream:
                whole = json.loads(stream.read().decode("utf-8-sig"))
        except (ValueError, RecursionError, EOFError, zlib.error, OSError):
            whole = None  # then line by line, which says what is wrong and where
        else:
            whole = whole if isinstance(whole, list) or _listed(whole) else [whole]
    records = whole if isinstance(whole, list) else _listed(whole)
    yield from json_lines(path) if records is None else enumerate(records, 1)


def _listed(whole: object) -> list[Any] | None:
    """Return the records of a file that keeps them in a list called data (SQuAD) or Data (TriviaQA)."""
    records = whole.get("data", whole.get("Data")) if isinstance(whole, dict) else None
    return records if isinstance(records, list) else None


def _table(path: Path) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        with opened(path) as stream:
            # Line by line: decoded in blocks, one bad byte would lose the rows before it.
            reader = csv.DictReader((line.decode("utf-8-sig") for line in stream), delimiter="\t")
            for record in reader:
                number = reader.line_num
                yield number, record
    except (csv.Error, UnicodeDecodeError, EOFError, zlib.error, OSError) as error:
        yield number + 1, Broken(number + 1, f"cannot be read, nor can what follows: {error}")


def _row(question: object, answers: Iterable[object], docs: Iterable[Fields] = (), **more: Any) -> Fields:
    filled = [doc for doc in docs if doc["text"]]
    told = list(dict.fromkeys(answers))
    if isinstance(wrong := more.get("wrong_answers"), list):  # RAMDocs and RGB also list some that are right
        more["wrong_answers"] = [one for one in dict.fromkeys(wrong) if one not in told]
    return {"question": question, "answers": told, "docs": filled, **more}


def _doc(text: str, title: str = "", relevant: bool | None = None, kind: str = "") -> Fields:
    title, text = title.strip(), text.strip()
    doc = {"id": doc_id(title, text), "title": title, "text": text, "relevant": relevant}
    return {**doc, "doc_type": kind} if kind else doc


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _pairs(value: Any, first: str, second: str) -> Iterable[tuple[Any, Any]]:
    """Pairs; copies of a set made with the library `datasets` hold two columns instead."""
    return zip(value[first], value[second], strict=True) if isinstance(value, dict) else value


def _hotpotqa(record: Fields) -> Iterator[Fields]:
    gold = {title for title, _ in _pairs(record["supporting_facts"], "title", "sent_id")}
    docs = [
        _doc(" ".join(sentence.strip() for sentence in _several(sentences)), title, title in gold)
        for title, sentences in _pairs(record["context"], "title", "sentences")
    ]
    own = {"id": record["_id"]} if "_id" in record else {}
    yield _row(record["question"], [record["answer"]], docs, type=record.get("type", ""), **own)


def _musique(record: Fields) -> Iterator[Fields]:
    # MuSiQue-Full has every question twice under one id, once with documents that lack the answer.
    lacks = record.get("answerable") is False
    name, hops = record["id"], record["id"].split("__")[0]
    yield _row(
        record["question"],
        [] if lacks else [record["answer"], *_several(record.get("answer_aliases", []))],
        [_doc(one["paragraph_text"], one["title"], one["is_supporting"]) for one in record["paragraphs"]],
        id=f"{name}-unanswerable" if lacks else name,
        type=f"{hops} unanswerable" if lacks else hops,
    )


def _nq(record: Fields) -> Iterator[Fields]:
    labels = {"positive_ctxs": True, "negative_ctxs": False, "hard_negative_ctxs": False}
    docs = [
        _doc(one["text"], one.get("title", ""), relevant, "" if relevant else key.removesuffix("_ctxs"))
        for key, relevant in labels.items()
        for one in record.get(key, [])
    ]
    # Retrieved passages; that one holds the answer's words (hasanswer) does not make it relevant.
    docs += [_doc(one["text"], one.get("title", ""), one.get("isgold")) for one in record.get("ctxs", [])]
    yield _row(record["question"], _several(record["answers"] if "answers" in record else record["answer"]), docs)


def _triviaqa(record: Fields) -> Iterator[Fields]:
    answer = record["Answer"]
    found = record.get("SearchResults", [])
    docs = [_doc(one.get("Description", ""), one.get("Title", ""), None, "snippet") for one in found]
    aliases = [answer["Value"], *_several(answer["Aliases"])]
    yield _row(record["Question"], aliases, docs, id=record["QuestionId"])


def _popqa(record: Fields) -> Iterator[Fields]:
    docs = [
        # The object's page is about the answer, but says nothing of the subject asked about.
        _doc(one["text"], one["title"], True if one["title"] == record["s_wiki_title"] else None)
        for one in record.get("paragraphs", [])
    ]
    answers = _several(json.loads(record["possible_answers"]))
    yield _row(record["question"], answers, docs, type=record["prop"])


def _squad(article: Fields) -> Iterator[Fields]:
    title = article["title"].replace("_", " ")
    texts = [paragraph["context"] for paragraph in article["paragraphs"]]
    for place, paragraph in enumerate(article["paragraphs"]):
        others = texts[place + 1 :] + texts[:place]
        for asked in paragraph["qas"]:
            answers = [answer["text"] for answer in asked["answers"]]
            lacks = asked.get("is_impossible", False)
            near = (text for text in others if not any(answer.lower() in text.lower() for answer in answers))
            # That no paragraph of the article answers an unanswerable question, nobody has checked.
            neighbours = [] if lacks else islice(near, _NEIGHBOURS)
            docs = [_doc(texts[place], title, not lacks)]
            docs += [_doc(text, title, False, "same_article") for text in neighbours]
            wrong = [answer["text"] for answer in asked.get("plausible_answers", [])]
            told = "unanswerable" if lacks else "answerable"
            yield _row(asked["question"], answers, docs, id=asked["id"], type=told, wrong_answers=wrong)


def _rgb(record: Fields) -> Iterator[Fields]:
    # The authors' scorer wants every entry of `answer`; an entry that is a list holds aliases of one answer.
    sets = [_several(answer) for answer in _several(record["answer"])]
    split = any(isinstance(one, list) for one in record["positive"])
    wrong = record.get("positive_wrong")
    labels = {"positive": True, "positive_wrong": False, "negative": False}
    docs = [
        _doc(text, "", relevant, key)
        for key, relevant in labels.items()
        for group in _several(record.get(key, []))
        for text in _several(group)
    ]
    yield _row(
        record["query"],
        chain.from_iterable(sets),
        docs,
        answer_sets=sets,
        wrong_answers=_several(record.get("fakeanswer", [])),
        type="counterfactual" if wrong else "integration" if split else "noise",
    )


def _ramdocs(record: Fields) -> Iterator[Fields]:
    docs = [_doc(one["text"], "", one["type"] == "correct", one["type"]) for one in record["documents"]]
    answers = _several(record["gold_answers"])
    sets = [[answer] for answer in answers]  # the question is ambiguous, and each reading wants its answer
    yield _row(record["question"], answers, docs, wrong_answers=record["wrong_answers"], answer_sets=sets)


# What a record has that is of this format (any of these sets of fields), the telling ones first; and its rows.
_KNOWN: Mapping[str, tuple[tuple[set[str], ...], Callable[[Fields], Iterator[Fields]]]] = {
    "2wikimultihopqa": (({"context", "supporting_facts", "evidences"},), _hotpotqa),
    "hotpotqa": (({"context", "supporting_facts"},), _hotpotqa),
    "popqa": (({"question", "possible_answers"},), _popqa),
    "musique": (({"question", "paragraphs"},), _musique),
    "squad": (({"title", "paragraphs"},), _squad),
    "triviaqa": (({"Question", "Answer"},), _triviaqa),
    "rgb": (({"query", "answer", "positive"},), _rgb),
    "ramdocs": (({"question", "documents", "gold_answers"},), _ramdocs),
    "nq": (
        (
            {"question", "answer", "ctxs"},
            {"question", "answers", "ctxs"},
            {"question", "answers", "positive_ctxs"},
            {"question", "answer", "def_correct_predictions"},
        ),
        _nq,
    ),
}

FORMATS: Mapping[str, Callable[[Path], Iterator[Fields | Broken]]] = {name: partial(_read, name) for name in _KNOWN}
"""The formats by name; each reads a file and gives its rows."""
