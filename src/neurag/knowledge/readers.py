"""Files and folders become Documents: text, Markdown, HTML, PDF, Word and JSON Lines.

Reading never stops at a bad file: whatever cannot be used comes out as `Skipped`, which names the place and
says why in one line. Encodings are not guessed: a text is UTF-8, or UTF-16 with a byte order mark, or none.

This module does not cut documents (`documents.py`), reads no question rows (`evaluation/data.py`), opens
local files only, and sees no text in a PDF of scanned pages.

    for item in read_paths(["handbook/", "facts.jsonl.gz"]):
        if isinstance(item, Skipped):
            print(f"{item.where}: {item.reason}")
"""

import codecs
import gzip
import hashlib
import json
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from pathlib import Path

from neurag.knowledge.documents import Document, DocumentError, clean_text, document_from_mapping, document_id

Fields = Mapping[str, object]  # what document_from_mapping takes
Found = tuple[str, Document | str]  # where (path or path:line), and the document there or why there is none

_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.MULTILINE | re.DOTALL)
_PAIR = re.compile(r"([A-Za-z][\w-]*)[ \t]*:(?:[ \t]+(.*))?")
_NUMBER = re.compile(r"-?\d*\.?\d+")
_LIST_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)")
_FENCED = re.compile(r"^ {0,3}(```|~~~).*?(?:^ {0,3}\1|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^# +(.+?)(?: +#+)? *$", re.MULTILINE)
_UNSEEN = re.compile("head|title|script|style|template|noscript|iframe|svg")
_BLOCK = re.compile("p|div|section|article|header|footer|main|nav|aside|blockquote|pre|h[1-6]|[uod]l|table")
_LINE = re.compile("br|hr|li|tr|dt|dd|option|figure|figcaption")
# White space means something in <pre> only; there it travels as characters that no clean text has.
_KEEP = str.maketrans({" ": "\1", "\t": "\1\1\1\1", "\n": "\2"})
_RESTORE = str.maketrans({"\1": " ", "\2": "\n"})


@dataclass(frozen=True)
class Skipped:
    """Something that gave no document."""

    where: str  # path or path:line
    reason: str  # one clear line, such as "is empty"


@dataclass(frozen=True)
class ReadOptions:
    """How much to take in at once."""

    max_megabytes: float = 64.0  # 10**6 bytes, for a file; for a line of JSON Lines, which is streamed


_DEFAULTS = ReadOptions()


def read_paths(paths: Sequence[Path | str], options: ReadOptions = _DEFAULTS) -> Iterator[Document | Skipped]:
    """Read files in the order given and folders recursively, sorted; no bad file raises an error.

    In a folder, hidden names are passed over, each linked folder is read once and unknown file types are
    skipped; a file that is named itself is read as plain text if its type is unknown. A document whose id and
    text were read before is skipped, and so is a known id with another text. Ids depend on content, never on
    the path: where only the file name gives a title, the id is that of the text without one.
    """
    seen: dict[str, tuple[bytes, str]] = {}
    for path in [paths] if isinstance(paths, (str, Path)) else paths:
        for where, found in _read_path(Path(path), options):
            if isinstance(found, Document):
                found = _repeated(found, where, seen) or found
            yield Skipped(where, found) if isinstance(found, str) else found


def _repeated(document: Document, where: str, seen: dict[str, tuple[bytes, str]]) -> str | None:
    digest = hashlib.sha256(document.text.encode()).digest()
    if document.id not in seen:
        seen[document.id] = (digest, where)  # hashes, not texts: a corpus may be large
        return None
    known, first = seen[document.id]
    return f"same text as {first}" if known == digest else f"id {document.id!r} already used by {first}"


def _read_path(top: Path, options: ReadOptions) -> Iterator[Found]:
    folders: set[Path] = set()
    waiting = [top]
    while waiting:
        path = waiting.pop()
        try:
            if not path.is_dir():
                yield from _read_file(path, path is top, options)
            elif (real := path.resolve()) not in folders:  # a link may lead back to where we are
                folders.add(real)
                waiting += sorted((p for p in path.iterdir() if not p.name.startswith(".")), reverse=True)
        except OSError as error:
            yield _name(path), f"cannot be read: {error.strerror or error}"
        except DocumentError as error:
            yield _name(path), str(error)


def _read_file(path: Path, named: bool, options: ReadOptions) -> Iterator[Found]:
    limit = int(options.max_megabytes * 1_000_000)
    parse = _PARSERS.get(path.suffix.lower(), _plain if named else None)
    if not path.is_file():
        raise DocumentError("is not a regular file" if path.exists() else "does not exist")
    if path.name.lower().endswith((".jsonl", ".jsonl.gz")):
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as lines:
            yield from _json_lines(lines, _name(path), limit)
    elif parse is None:
        raise DocumentError(f"unknown file type {path.suffix or '(no suffix)'}")
    else:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise DocumentError(f"is larger than {options.max_megabytes:g} MB")
        if not data.strip():
            raise DocumentError("is empty")
        yield _name(path), _document(parse(data), path)


def _name(path: Path) -> str:
    """Spell a path so that it can be written as UTF-8, whatever bytes the file system has for it."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _document(fields: Fields, path: Path) -> Document:
    if not str(fields["title"]).strip():
        text_id = document_id("", clean_text(str(fields["text"])))
        fields = {**fields, "title": _name(Path(path.stem)), "id": fields.get("id") or text_id}
    return document_from_mapping(fields, source=_name(path))


def _json_lines(stream: BufferedIOBase, where: str, limit: int) -> Iterator[Found]:
    number, rows = 0, 0
    try:
        while line := stream.readline(limit + 1):
            number += 1
            cut = len(line) > limit and not line.endswith(b"\n")
            while cut and (rest := stream.readline(limit)) and not rest.endswith(b"\n"):
                pass
            if line.strip():
                rows += 1
                yield f"{where}:{number}", f"is longer than {limit / 1e6:g} MB" if cut else _row(line, where)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield f"{where}:{number + 1}", f"is broken gzip: {error}"
    else:
        if not rows:
            yield where, "is empty"


def _row(line: bytes, source: str) -> Document | str:
    try:
        row = json.loads(_decode(line))
        return document_from_mapping(row, source) if isinstance(row, dict) else "is not a JSON object"
    except DocumentError as error:
        return str(error)
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {getattr(error, 'msg', error)}"


def _decode(data: bytes) -> str:
    encoding = "UTF-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "UTF-8"
    if b"\0" in data and encoding == "UTF-8":
        raise DocumentError("looks binary")
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        at = error.start
        raise DocumentError(f"is not {encoding} (byte 0x{data[at]:02x} at offset {at})") from None


@contextmanager
def _parsing(kind: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except DocumentError:
        raise
    except Exception as error:  # parsers of broken files raise anything at all
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DocumentError(f"is not a readable {kind} file ({reason})") from error


def _plain(data: bytes) -> Fields:
    return {"text": _decode(data), "title": ""}


def _markdown(data: bytes) -> Fields:
    text = clean_text(_decode(data))
    pairs: dict[str, str] = {}
    if (front := _FRONT_MATTER.match(text)) and (found := _pairs(front[1])) is not None:
        text, pairs = text[front.end() :], found
    heading = _HEADING.search(_FENCED.sub("", text))
    labels = pairs.pop("labels", "").removeprefix("[").removesuffix("]").split(",")
    trust = pairs.pop("trust", "")
    return {
        "text": text,
        **{key: pairs.pop(key, "") for key in ("id", "timestamp")},
        "title": pairs.pop("title", "") or (heading[1] if heading else ""),
        "trust": float(trust) if _NUMBER.fullmatch(trust) else trust or None,
        "labels": [label for label in map(_unquoted, labels) if label],
        "metadata": pairs,
    }


def _pairs(block: str) -> dict[str, str] | None:
    """Read `key: value` lines (keys in any case) and `- item` lines; None if anything else is among them."""
    key, pairs = "", dict[str, str]()
    for line in block.splitlines():
        if pair := _PAIR.fullmatch(line):
            key = pair[1].lower()
            pairs[key] = _unquoted(pair[2] or "")
        elif key and (item := _LIST_ITEM.fullmatch(line)):
            pairs[key] = f"{pairs[key]}, {_unquoted(item[1])}" if pairs[key] else _unquoted(item[1])
        elif line.strip() and not line.lstrip().startswith("#"):
            return None
    return pairs


def _unquoted(value: str) -> str:
    value = value.strip()
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value


def _html(data: bytes) -> Fields:
    with _parsing("HTML"):
        from bs4 import BeautifulSoup

        soup = BeautifulSoup(clean_text(_decode(data)), "html.parser")
        lines = "\n".join(line.strip() for line in "".join(_visible(soup)).split("\n"))
        text = re.sub(r"\n{3,}", "\n\n", lines).strip().translate(_RESTORE)
        return {"text": text, "title": soup.title.get_text() if soup.title else ""}


def _visible(soup: object) -> Iterator[str]:
    from bs4.element import NavigableString, Tag

    waiting = [(soup, False)]  # what is to come, the next one last, and whether it lies in <pre>
    while waiting:
        node, pre = waiting.pop()
        if type(node) is NavigableString:  # comments and the like are of its subclasses
            yield node.translate(_KEEP) if pre else re.sub(r"\s+", " ", node)
        elif type(node) is str:
            yield node
        elif isinstance(node, Tag) and not _UNSEEN.fullmatch(node.name) and not node.has_attr("hidden"):
            if "display:none" in "".join(str(node.get("style", "")).split()):
                continue
            after = "\n" if _BLOCK.fullmatch(node.name) else ""
            before = "\t" if node.name in ("td", "th") else "\n" if _LINE.fullmatch(node.name) else after
            pre = pre or node.name == "pre"
            waiting += [(after, pre), *((child, pre) for child in reversed(node.contents)), (before, pre)]


def _pdf(data: bytes) -> Fields:
    with _parsing("PDF"):
        from pypdf import PdfReader
        from pypdf.errors import DependencyError

        reader = PdfReader(BytesIO(data))
        locked = reader.is_encrypted
        with suppress(DependencyError):  # a cipher that pypdf has no code for
            locked = locked and not reader.decrypt("")
        if locked:
            raise DocumentError("is encrypted")
        pages = [page.extract_text().strip() for page in reader.pages]
        if not any(pages):
            raise DocumentError("has no text (scanned pages need OCR first)")
        title = (reader.metadata and reader.metadata.title) or ""
        return {"text": "\n\n".join(filter(None, pages)), "title": str(title)}


def _docx(data: bytes) -> Fields:
    with _parsing("Word"):
        try:
            import docx
        except ImportError:
            raise DocumentError("needs python-docx: pip install 'neurag[docx]'") from None
        file = docx.Document(BytesIO(data))
        texts = [  # a table lists a merged cell once for each column
            "\n".join("\t".join(c.text for c in dict.fromkeys(row.cells)) for row in part.rows)
            if hasattr(part, "rows")
            else part.text
            for part in file.iter_inner_content()
        ]
        return {"text": "\n\n".join(filter(str.strip, texts)), "title": file.core_properties.title}


_PARSERS: Mapping[str, Callable[[bytes], Fields]] = {
    ".txt": _plain,
    **dict.fromkeys((".md", ".markdown"), _markdown),
    **dict.fromkeys((".html", ".htm"), _html),
    ".pdf": _pdf,
    ".docx": _docx,
}
