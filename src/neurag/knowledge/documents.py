"""Documents and the chunks they are cut into: the plain texts that become neurons.

A `Document` is one text with what is known about it (title, time, trust, access labels). A `Chunk` is a span
of a document, short enough for one neuron. Offsets count characters of `Document.text`, which is always
normalised (see `clean_text`), so an answer can point at the exact words it rests on.

This module reads no files (that is `readers.py`), stores nothing (`bank.py`) and loads no tokenizer: whoever
cuts a document passes a function that counts tokens.

    document = Document("The Louvre is in Paris. It opened in 1793.", title="Louvre")
    for chunk in chunk_document(document, lambda text: len(text.split()), max_tokens=5):
        assert document.text[chunk.start : chunk.end] == chunk.text
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from types import NoneType

# Where str.splitlines ends a line: mapped to a newline, not removed, so that words stay apart.
_LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# Other control characters, lone surrogates (they cannot be written as UTF-8) and byte order marks.
_UNWANTED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")
_SPACE = re.compile(r"\s")
_REDUCED_DATE = re.compile(r"\d{4}(-\d{2})?")


class DocumentError(ValueError):
    """A document that cannot be used; the message is one clear line."""


def clean_text(text: str) -> str:
    r"""Normalise a text: every line ending is `\n`, Unicode is NFC, and other control characters are gone.

    Tabs stay, lone surrogates and byte order marks go. Cleaning twice changes nothing more.
    """
    return unicodedata.normalize("NFC", _UNWANTED.sub("", _LINE_ENDS.sub("\n", text)))


def _one_line(text: str) -> str:
    return " ".join(clean_text(text).split())


def document_id(title: str, text: str) -> str:
    """Return the id of a document that was given none: 16 hex digits that depend on its content only."""
    return _digest(title, text)[:16]


def _digest(title: str, text: str) -> str:
    return hashlib.sha256(f"{title}\n{text}".encode()).hexdigest()


@dataclass(frozen=True)
class Document:
    """One text and what is known about it.

    `text`, `title` and `id` are normalised on creation (`clean_text`; title and id also onto one line), and
    an empty `id` is filled in from title and text.

    Raises:
        DocumentError: `timestamp` is not ISO 8601 (a year or year-month will do), or `trust` is not in 0..1.
    """

    text: str
    id: str = ""  # "" is replaced by document_id(title, text)
    title: str = ""
    source: str = ""  # a path, or "" for a text from memory
    timestamp: str = ""  # ISO 8601, or "" for unknown
    trust: float | None = None  # 0 (none) to 1 (full), None for unknown
    labels: tuple[str, ...] = ()  # who may see it: see "access" in the docs
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        text, title = clean_text(self.text), _one_line(self.title)
        _check_timestamp(self.timestamp)
        if self.trust is not None and not 0 <= self.trust <= 1:
            raise DocumentError(f"'trust' must lie in 0..1, not {self.trust}")
        # object.__setattr__ is how a frozen dataclass fills in its own fields.
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "title", title)
        object.__setattr__(self, "id", _one_line(self.id) or document_id(title, text))


@dataclass(frozen=True)
class Chunk:
    """A span of a document: characters `start` to `end` (exclusive) of `document.text`."""

    document: Document
    index: int  # 0, 1, ... in the document
    start: int
    end: int

    @property
    def text(self) -> str:
        """The words of the chunk, exactly as in the document, without white space around them."""
        return self.document.text[self.start : self.end]

    @property
    def id(self) -> str:
        """The document's id and the chunk's number: `louvre#0`."""
        return f"{self.document.id}#{self.index}"

    @property
    def content_hash(self) -> str:
        """SHA-256 (64 hex digits) of title and text: equal for equal content, wherever it comes from."""
        return _digest(self.document.title, self.text)


def chunk_document(document: Document, count_tokens: Callable[[str], int], max_tokens: int = 160) -> tuple[Chunk, ...]:
    """Cut a document into chunks of at most `max_tokens` tokens, at paragraphs and sentences where possible.

    Chunks come in order and do not overlap; together they hold every character that is not white space.
    A text without spaces is cut between characters, but a single character is never cut, whatever it counts.

    Args:
        document: what to cut; a text of white space alone gives no chunks.
        count_tokens: how many tokens a text has. It is called often, so it should be cheap.
        max_tokens: the most tokens a chunk may have, at least 1.

    Raises:
        ValueError: `max_tokens` is below 1.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
    text, count = document.text, _bounded(count_tokens, max_tokens)
    spans = _joined(text, _spans(text, 0, count, max_tokens), count, max_tokens)
    return tuple(Chunk(document, index, start, end) for index, (start, end) in enumerate(spans))


def _spans(text: str, offset: int, count_tokens: Callable[[str], int], max_tokens: int) -> Iterator[tuple[int, int]]:
    import semchunk

    if not text.strip():
        return
    try:
        # Not memoized by semchunk: it would keep every text it ever counted while the process lives.
        _, spans = semchunk.chunk(text, max_tokens, count_tokens, memoize=False, offsets=True)
    except RecursionError:
        # It descends once for each distinct run of white space: a text with hundreds of them is halved.
        space = _SPACE.search(text, len(text) // 2)
        middle = space.start() if space else len(text) // 2
        yield from _spans(text[:middle], offset, count_tokens, max_tokens)
        yield from _spans(text[middle:], offset + middle, count_tokens, max_tokens)
    else:
        yield from ((offset + start, offset + end) for start, end in spans)


def _bounded(count_tokens: Callable[[str], int], max_tokens: int) -> Callable[[str], int]:
    """Make counting cheap for the questions semchunk asks: whole texts, and the same short words again."""
    window = 32 * max_tokens
    cached = lru_cache(maxsize=4096)(count_tokens)

    def count(text: str) -> int:
        if len(text) == 1:
            return min(cached(text), max_tokens)  # a character is never cut, whatever it costs
        if len(text) <= 32:
            return cached(text)
        if len(text) > window and (head := count_tokens(text[:window])) > max_tokens:
            return head * len(text) // window  # far too long: how long exactly makes no difference
        return count_tokens(text)

    return count


def _joined(
    text: str, spans: Iterable[tuple[int, int]], count_tokens: Callable[[str], int], max_tokens: int
) -> list[tuple[int, int]]:
    """Strip white space off spans and join neighbours that fit one chunk: semchunk leaves headings alone."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        start += len(text[start:end]) - len(text[start:end].lstrip())
        end = start + len(text[start:end].rstrip())
        if joined and count_tokens(text[joined[-1][0] : end]) <= max_tokens:
            joined[-1] = (joined[-1][0], end)
        elif start < end:
            joined.append((start, end))
    return joined


def as_documents(items: Iterable[str | Mapping[str, object] | Document]) -> Iterator[Document]:
    """Turn strings, mappings (see `document_from_mapping`) and Documents into Documents, one by one.

    Raises:
        DocumentError: an item cannot be used or has no text; the message names its place (0 is the first).
    """
    if isinstance(items, (str, Mapping)):
        raise DocumentError(f"documents come as a list, not as one {type(items).__name__}")
    for place, item in enumerate(items):
        try:
            yield _as_document(item)
        except DocumentError as error:
            raise DocumentError(f"document {place}: {error}") from None


def _as_document(item: object) -> Document:
    if isinstance(item, Mapping):
        return document_from_mapping(item)
    if not isinstance(item, (str, Document)):
        raise DocumentError(f"must be a string, a mapping or a Document, not {type(item).__name__}")
    document = Document(item) if isinstance(item, str) else item
    if not document.text.strip():
        raise DocumentError("is empty")
    return document


def document_from_mapping(row: Mapping[str, object], source: str = "") -> Document:
    """Build a Document from the fields of a JSON object: `text`, and where known `id`, `title`, and so on.

    A field that is null counts as absent; a whole number will do as an `id`; other fields are ignored.

    Raises:
        DocumentError: `text` is missing or empty, or a field has the wrong type.
    """
    if row.get("text") is None:
        question = " but 'docs': a question row, not a document" if "docs" in row else ""
        raise DocumentError(f"has no 'text'{question}")
    text = _string(row, "text")
    if not clean_text(text).strip():
        raise DocumentError("is empty")
    identifier = row.get("id")
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        row = {**row, "id": str(identifier)}
    return Document(
        text=text,
        id=_string(row, "id"),
        title=_string(row, "title"),
        source=source,
        timestamp=_string(row, "timestamp"),
        trust=_trust(row.get("trust")),
        labels=_labels(row.get("labels")),
        metadata=_metadata(row.get("metadata")),
    )


def _string(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise DocumentError(f"'{key}' must be a string, not {type(value).__name__}")
    return value or ""


def _trust(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DocumentError(f"'trust' must be a number, not {type(value).__name__}")
    return float(value) if 0 <= value <= 1 else value  # a whole number may be too large for a float


def _labels(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or not all(isinstance(label, str) for label in value):
        raise DocumentError("'labels' must be a list of strings")
    return tuple(clean_text(label) for label in value)


def _metadata(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(
        isinstance(entry, (str, int, float, NoneType)) for entry in value.values()
    ):
        raise DocumentError("'metadata' must be an object of strings or numbers")
    texts = {key: e if isinstance(e, str) else json.dumps(e) for key, e in value.items() if e is not None}
    return {clean_text(str(key)): clean_text(text) for key, text in texts.items()}


def _check_timestamp(value: str) -> None:
    if value and not _REDUCED_DATE.fullmatch(value):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise DocumentError(f"'timestamp' {value[:40]!r} is not an ISO 8601 date or time") from None
