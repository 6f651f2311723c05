"""The rows every evaluation reads: a question, its accepted answers and the documents that go with it.

A row is one line of a .jsonl or .jsonl.gz file; docs/data.md has its fields. Files are streamed, and what is no
sound row comes out as `Broken`, with its line and the reason, so that one bad line does not lose the rest.

Not here: public data sets in their own formats (`formats.py`), and documents on their own (`readers.py`).

    for item in read_rows("questions.jsonl.gz", limit=100):
        if isinstance(item, Row):
            print(item.question, item.gold)
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

from ..config import UsageError

_LONGEST = 64_000_000  # bytes of a line: beyond that, the file is hardly one with a row a line


@dataclass(frozen=True, slots=True)
class Doc:
    """A document of a row."""

    id: str
    title: str
    text: str
    relevant: bool | None
    """Whether it answers the question of its row; None where nobody has said."""
    kind: str = ""
    """The field `doc_type`: what the data set calls this sort of document, such as "noise"."""


@dataclass(frozen=True, slots=True)
class Row:
    """One question."""

    id: str
    question: str
    answers: tuple[str, ...]
    """Any of these is right; none where the question has no answer or nobody has said it."""
    docs: tuple[Doc, ...]
    wrong_answers: tuple[str, ...] = ()
    """Answers that some document gives and that are wrong."""
    type: str = ""
    source: str = ""
    line: int = 0
    """Where it stands in its file, from 1; 0 for a row from memory."""
    answer_sets: tuple[tuple[str, ...], ...] = ()
    """Where several answers are required: for each of them, the aliases it goes by. Else empty."""

    @property
    def gold(self) -> tuple[str, ...]:
        """Ids of the documents that are relevant, in order."""
        return tuple(doc.id for doc in self.docs if doc.relevant)


@dataclass(frozen=True)
class Broken:
    """Something that gave no row."""

    line: int
    """Line of the file, from 1; in a file that is one JSON list, the number of the record."""
    reason: str
    """One clear line, such as "has no 'question'"."""


class _Unsound(ValueError):
    """Why a row cannot be used."""


def doc_id(title: str, text: str) -> str:
    """Return the id of a document that was given none: 12 hex digits of SHA-1, the same in every file."""
    return _hash(f"{title}\n{text}")


def _hash(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:12]


def read_rows(path: Path | str, limit: int | None = None) -> Iterator[Row | Broken]:
    """Read the rows of a .jsonl or .jsonl.gz file one by one, in order.

    A row without an id gets "line-N", a document without one its `doc_id`. A row whose id was seen is broken. A
    document whose id was seen with another text gets an id of its own: id, "-" and the first digits of a hash
    of its text. Within a row, a document that comes twice counts once.

    Args:
        path: the file; it is never held in memory as a whole.
        limit: stop after this many sound rows, at least 1; None reads all.

    Raises:
        UsageError: the file cannot be read or has no sound row, or `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit must be at least 1, not {limit}")
    rows: dict[str, int] = {}
    texts: dict[str, str] = {}
    first: Broken | None = None
    for number, value in json_lines(Path(path)):
        item = as_row(value, number)
        if isinstance(item, Row) and item.id in rows:
            item = Broken(number, f"id {item.id!r} was on line {rows[item.id]} already")
        if isinstance(item, Row):
            rows[item.id] = number
            item = replace(item, docs=_told_apart(item.docs, texts))
        else:
            first = first or item
        yield item
        if len(rows) == limit:
            return
    if not rows:
        why = f"line {first.line} {first.reason}" if first else "it is empty"
        raise UsageError(f"{path} has no sound row ({why}); docs/data.md describes the format")


def sharing(items: Iterable[Row | Broken]) -> Iterator[Row | Broken]:
    """Yield what comes, with one text in memory for a document of many rows: for whoever keeps the rows."""
    texts: dict[str, str] = {}
    for item in items:
        if isinstance(item, Row):
            docs = tuple(replace(doc, text=texts.setdefault(doc.id, doc.text)) for doc in item.docs)
            item = replace(item, docs=docs)
        yield item


def documents_of(rows: Iterable[Row]) -> list[Doc]:
    """Return every document once, in order of first sight: the closed corpus of the rows.

    `relevant` is that of the row where a document was first seen, and says nothing about other questions.
    """
    found: dict[str, Doc] = {}
    for row in rows:
        for doc in row.docs:
            found.setdefault(doc.id, doc)
    return list(found.values())


def _told_apart(docs: Iterable[Doc], texts: dict[str, str]) -> tuple[Doc, ...]:
    kept: dict[str, Doc] = {}
    for doc in docs:
        digest = _hash(doc.text)  # hashes, not texts: a corpus may be large
        if texts.setdefault(doc.id, digest) != digest:
            doc = replace(doc, id=f"{doc.id}-{digest[:6]}")
        kept.setdefault(doc.id, doc)
    return tuple(kept.values())


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for its bytes, unpacked if its name ends in .gz.

    Raises:
        UsageError: it cannot be read. Broken gzip raises what the module gzip raises.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as stream:
            yield cast(BinaryIO, stream)
    except gzip.BadGzipFile:
        raise
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def json_lines(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the number (from 1) and value of every line that is not blank; `Broken` where it is not JSON.

    Raises:
        UsageError: the file cannot be read.
    """
    number = 0
    try:
        with opened(path) as stream:
            while line := stream.readline(_LONGEST):
                number += 1
                if len(line) == _LONGEST and not line.endswith(b"\n"):
                    while (rest := stream.readline(_LONGEST)) and not rest.endswith(b"\n"):
                        pass
                    yield number, Broken(number, f"is longer than {_LONGEST // 10**6} MB")
                elif line.strip():
                    yield number, _parsed(line, number)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield number + 1, Broken(number + 1, f"cannot be unpacked, the gzip file is broken: {error}")


def _parsed(line: bytes, number: int) -> object:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Broken(number, f"is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {error.start})")
    except (ValueError, RecursionError) as error:
        return Broken(number, f"is not JSON: {getattr(error, 'msg', error)}")


def as_row(value: object, line: int) -> Row | Broken:
    """Build a row from a JSON object; fields that are null count as absent, and unknown ones are ignored."""
    if isinstance(value, Broken):
        return value
    if not isinstance(value, dict):
        return Broken(line, "is not a JSON object")
    try:
        question = _string(value, "question")
        if not question.strip():
            raise _Unsound("has no 'question'")
        if value.get("answers") is None:
            raise _Unsound("has no 'answers' (an empty list says that there are none)")
        return Row(
            id=_id(value) or f"line-{line}",
            question=question,
            answers=_strings(value, "answers"),
            docs=tuple(_doc(doc, place) for place, doc in enumerate(_list(value, "docs"), 1)),
            wrong_answers=_strings(value, "wrong_answers"),
            type=_string(value, "type"),
            source=_string(value, "source"),
            line=line,
            answer_sets=tuple(_texts(one, "answer_sets") for one in _list(value, "answer_sets")),
        )
    except _Unsound as error:
        return Broken(line, str(error))


def _doc(value: object, place: int) -> Doc:
    try:
        if not isinstance(value, dict):
            raise _Unsound("is not an object")
        title, text, relevant = _string(value, "title"), _string(value, "text"), value.get("relevant")
        if not text.strip():
            raise _Unsound("has no 'text'")
        if relevant is not None and not isinstance(relevant, bool):
            raise _Unsound("'relevant' must be true, false or null")
        return Doc(_id(value) or doc_id(title, text), title, text, relevant, _string(value, "doc_type"))
    except _Unsound as error:
        raise _Unsound(f"document {place}: {error}") from None


def _id(row: Mapping[str, object]) -> str:
    value = row.get("id")
    # Whole numbers will do as ids, and True is one to Python.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _string(row, "id").strip()


def _string(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    return "" if value is None else _text(value, key)


def _strings(row: Mapping[str, object], key: str) -> tuple[str, ...]:
    return _texts(_list(row, key), key)


def _list(row: Mapping[str, object], key: str) -> list[object]:
    value = row.get(key)
    if value is not None and not isinstance(value, list):
        raise _Unsound(f"'{key}' must be a list, not {type(value).__name__}")
    return value or []


def _texts(values: object, key: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise _Unsound(f"'{key}' must be a list of lists, not of {type(values).__name__}")
    return tuple(_text(value, key) for value in values)


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise _Unsound(f"'{key}' must hold text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell half of a pair; no file and no tokenizer can hold it
        raise _Unsound(f"'{key}' holds half a character (a lone surrogate)") from None
    return value
