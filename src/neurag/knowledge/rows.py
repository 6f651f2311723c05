"""What one row of the bank holds, and how it lies in Arrow columns.

A `NeuronRow` is one chunk of a document: its text, the keys that routing compares with a question, and the
low-rank neuron that is added to the backbone. This module turns rows into Arrow tables and back, and checks
them against the bank's `Manifest`. It opens no files: the store is `bank.py`.

Arrays come back bit for bit as they went in, but for keys, which lose what key_codes.py says; positions are stored as
little-endian bytes.

    table = to_arrow([row], manifest)  # BankError if a shape or dtype does not fit the manifest
    (same,) = from_arrow(table, manifest)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurag.knowledge.folder import BankError, Manifest
from neurag.knowledge.key_codes import code_bytes, pack, unpack
from neurag.knowledge.learned import NOTHING, Learned

if TYPE_CHECKING:
    import pyarrow as pa

Array = NDArray[Any]


@dataclass(frozen=True)
class NeuronRow:
    """One chunk of a document and its neuron; shapes in terms of the manifest's L, R, D."""

    id: str  # the chunk's id: "louvre#0"
    document_id: str
    chunk_index: int
    title: str
    text: str
    start: int  # characters of the document's text
    end: int  # exclusive
    source: str
    timestamp: str
    trust: float | None
    labels: tuple[str, ...]
    metadata: Mapping[str, str]
    content_hash: str
    recipe: str
    keys: Array  # float16 [n, key_width], L2-normalised
    positions: Array  # uint16 [n], token position of each key (keys.py)
    neuron: Array  # int8 or float16, as the manifest says, [L * R * D]
    scale: Array  # float32 [L * R], one for each row of B
    learned: Learned = NOTHING  # questions it was taught, and where they lie
    pairs: int = 0  # training texts it was made from
    coverage: float = 0.0  # share of what may be asked that its lessons answer (coverage.py)
    created: str = ""  # ISO 8601 time, filled in by the bank


class RowText(NamedTuple):
    """What a row says, where its keys stand in that, and what was learned of it."""

    title: str
    text: str
    positions: Array  # as of NeuronRow
    learned: Learned = NOTHING


@dataclass(frozen=True)
class DocumentSummary:
    """What a listing shows of one document."""

    id: str
    title: str
    source: str
    timestamp: str
    labels: tuple[str, ...]
    chunks: int
    pairs: int
    coverage: float  # mean over chunks
    bytes: int  # of neurons, scales, keys, positions, and what was learned
    created: str  # when the newest chunk was written


@dataclass(frozen=True)
class IndexBatch:
    """What routing needs of many rows, in storage order. Arrays are views that cannot be written to.

    Keys are codes as stored, uint8 [sum of lengths, code_bytes(key_width)], or float16 [sum of lengths, key_width].
    """

    ids: list[str]
    document_ids: list[str]
    labels: list[tuple[str, ...]]
    timestamps: list[str]
    trusts: list[float | None]
    lengths: Array  # int64 [rows], keys in each row
    keys: Array
    positions: Array  # uint16 [sum of lengths]


def neuron_bytes(scales: int, width: int, precision: str) -> int:
    """Bytes of a neuron with `scales` rows of B."""
    return scales * (np.dtype(precision).itemsize * width + np.dtype(np.float32).itemsize)


def key_bytes(key_width: int) -> int:
    """Bytes of one key and its position."""
    return code_bytes(key_width) + np.dtype(np.uint16).itemsize


def schema(manifest: Manifest) -> pa.Schema:
    """Return the columns of a bank."""
    import pyarrow as pa

    scales = len(manifest.layers) * manifest.rank
    texts = ["id", "document_id", "title", "text", "source", "timestamp", "metadata", "lessons"]
    texts += ["content_hash", "recipe", "created", "checksum"]
    return pa.schema(
        [(name, pa.string()) for name in texts]
        + [(name, pa.int64()) for name in ("chunk_index", "start", "end", "pairs", "key_count", "lesson_bytes")]
        + [("trust", pa.float64()), ("coverage", pa.float64()), ("labels", pa.list_(pa.string()))]
        # Bytes, not lists of numbers: routing takes a whole column as one array, without a loop over keys.
        + [("keys", pa.large_binary()), ("positions", pa.large_binary()), ("reads", pa.large_binary())]
        + [
            ("neuron", pa.list_(pa.from_numpy_dtype(np.dtype(manifest.precision)), scales * manifest.width)),
            ("scale", pa.list_(pa.float32(), scales)),
        ]
    )


def check(row: NeuronRow, manifest: Manifest) -> None:
    """Raise BankError where an array of the row has another shape or dtype than the manifest asks for."""
    scales = len(manifest.layers) * manifest.rank
    wanted: dict[str, tuple[Array, str, tuple[int, ...]]] = {
        "keys": (row.keys, "float16", (row.keys.shape[0] if row.keys.ndim else 0, manifest.key_width)),
        "positions": (row.positions, "uint16", (row.keys.shape[0] if row.keys.ndim else 0,)),
        "neuron": (row.neuron, manifest.precision, (scales * manifest.width,)),
        "scale": (row.scale, "float32", (scales,)),
    }
    if len(row.learned.reads) not in (0, len(row.learned)) or row.learned.reads.shape[1:] not in ((0,), (scales,)):
        raise BankError(
            f"row {row.id!r} was taught {len(row.learned)} questions but has places {list(row.learned.reads.shape)}, "
            f"not [{len(row.learned)}, {scales}]: it was made for another bank; nothing was added"
        )
    if not row.id:
        raise BankError(f"a row of document {row.document_id!r} has no id: nothing was added")
    for name, (array, dtype, shape) in wanted.items():
        if array.dtype != np.dtype(dtype) or array.shape != shape:
            raise BankError(
                f"{name} of row {row.id!r} must be {dtype} {list(shape)}, not {array.dtype} "
                f"{list(array.shape)}: it was made for another bank; nothing was added"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BankError(f"{name} of row {row.id!r} holds NaN or infinity: nothing was added")


def checksum(neuron: Array, scale: Array, keys: bytes, text: str, lessons: str, reads: bytes) -> str:
    """Return the SHA-256 (64 hex digits) of what a row says and does; columns as they are stored."""
    parts = (neuron.tobytes(), scale.astype("<f4").tobytes(), keys, text.encode(), lessons.encode(), reads)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def to_arrow(rows: Sequence[NeuronRow], manifest: Manifest, created: str = "") -> pa.Table:
    """Turn rows into an Arrow table; `created` is for rows that name no time.

    Raises:
        BankError: a row does not fit the manifest (see `check`).
    """
    import pyarrow as pa

    columns = schema(manifest)
    if not rows:
        return columns.empty_table()
    for row in rows:
        check(row, manifest)
    made = {"keys", "positions", "neuron", "scale", "labels", "metadata", "created", "key_count", "checksum"}
    made |= {"lessons", "reads", "lesson_bytes"}
    keys = [pack(row.keys).tobytes() for row in rows]
    learned = [row.learned.packed() for row in rows]
    values: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in columns.names if name not in made}
    values |= {
        "lessons": [lessons for lessons, _ in learned],
        "reads": [reads for _, reads in learned],
        "lesson_bytes": [len(lessons.encode()) + len(reads) for lessons, reads in learned],
        "labels": [list(row.labels) for row in rows],
        "metadata": [json.dumps(dict(row.metadata), sort_keys=True) for row in rows],
        "created": [row.created or created for row in rows],
        "checksum": [
            checksum(row.neuron, row.scale, kept, row.text, *told)
            for row, kept, told in zip(rows, keys, learned, strict=True)
        ],
        "key_count": [len(row.keys) for row in rows],
        "keys": keys,
        "positions": [row.positions.astype("<u2").tobytes() for row in rows],
    }
    arrays = {name: pa.array(column, columns.field(name).type) for name, column in values.items()}
    for name in ("neuron", "scale"):
        flat = np.concatenate([getattr(row, name) for row in rows])
        arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat), type=columns.field(name).type)
    return pa.table([arrays[name] for name in columns.names], schema=columns)


def from_arrow(table: pa.Table, manifest: Manifest) -> list[NeuronRow]:
    """Turn all columns of an Arrow table back into rows, in the table's order."""
    neurons = fixed_lists(table["neuron"])
    scales = fixed_lists(table["scale"])
    arrays = ("keys", "positions", "neuron", "scale", "checksum", "key_count", "lesson_bytes")
    rows = []
    for place, values in enumerate(table.drop_columns(list(arrays)).to_pylist()):
        keys = _keys(np.frombuffer(table["keys"][place].as_py(), np.uint8), manifest.key_width)
        positions = np.frombuffer(table["positions"][place].as_py(), "<u2")
        values["learned"] = Learned.unpacked(values.pop("lessons"), values.pop("reads"), scales.shape[1])
        values["labels"] = tuple(values["labels"])
        values["metadata"] = json.loads(values["metadata"])
        row = NeuronRow(**values, keys=keys, positions=positions.copy(), neuron=neurons[place], scale=scales[place])
        rows.append(row)
    return rows


def row_texts(table: pa.Table, manifest: Manifest) -> dict[str, RowText]:
    """What the rows of a table say and were taught, by id."""
    width = len(manifest.layers) * manifest.rank
    return {
        row["id"]: RowText(
            row["title"],
            row["text"],
            np.frombuffer(row["positions"], "<u2"),
            Learned.unpacked(row["lessons"], row["reads"], width),
        )
        for row in table.to_pylist()
    }


def gathered(batches: Iterable[pa.RecordBatch], most: int) -> Iterator[pa.RecordBatch]:
    """The same rows in fewer batches, none empty: a bank that was written bit by bit is read bit by bit."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    for batch in batches:
        if held and sum(map(len, held)) + len(batch) > most:
            yield pa.concat_batches(held)
            held = []
        if len(batch):
            held.append(batch)
    if held:
        yield pa.concat_batches(held)


def index_batch(batch: pa.RecordBatch, key_width: int) -> IndexBatch:
    """Turn the columns that routing needs into an IndexBatch."""
    return IndexBatch(
        ids=batch["id"].to_pylist(),
        document_ids=batch["document_id"].to_pylist(),
        labels=[tuple(labels) for labels in batch["labels"].to_pylist()],
        timestamps=batch["timestamp"].to_pylist(),
        trusts=batch["trust"].to_pylist(),
        lengths=batch["key_count"].to_numpy(),
        keys=_joined_bytes(batch["keys"]).reshape(-1, code_bytes(key_width)),
        positions=_joined_bytes(batch["positions"]).view("<u2"),
    )


def fixed_lists(column: pa.ChunkedArray) -> Array:
    """Return a column of fixed-size lists as an array [rows, size] of its own, which may be written to."""
    parts = [part.flatten().to_numpy(zero_copy_only=False) for part in column.chunks]
    flat = np.concatenate(parts) if parts else np.zeros(0, column.type.value_type.to_pandas_dtype())
    return flat.reshape(-1, column.type.list_size)


def summaries(parts: Iterable[Mapping[str, Any]], row_bytes: int, key_bytes: int) -> list[DocumentSummary]:
    """Sum up chunks (columns as dicts) by document, sorted by title, then id.

    `row_bytes` is what neuron and scale of one chunk take, `key_bytes` what one key and its code take.
    """
    chunks: dict[str, list[Mapping[str, Any]]] = {}
    for part in parts:
        chunks.setdefault(part["document_id"], []).append(part)
    listed = []
    for identifier, group in chunks.items():
        first = min(group, key=lambda part: part["chunk_index"])
        summary = DocumentSummary(
            id=identifier,
            title=first["title"],
            source=first["source"],
            timestamp=first["timestamp"],
            labels=tuple(first["labels"]),
            chunks=len(group),
            pairs=sum(part["pairs"] for part in group),
            coverage=sum(part["coverage"] for part in group) / len(group),
            bytes=sum(row_bytes + key_bytes * part["key_count"] + part["lesson_bytes"] for part in group),
            created=max(part["created"] for part in group),
        )
        listed.append(summary)
    return sorted(listed, key=lambda summary: (summary.title, summary.id))


def _keys(stored: Array, key_width: int) -> Array:
    """Return float16 [n, key_width] from the bytes of n keys."""
    return unpack(stored.reshape(-1, code_bytes(key_width)), key_width)


def _joined_bytes(column: pa.LargeBinaryArray) -> Array:
    """Return the bytes of a binary column end to end: uint8, a view of Arrow's buffer."""
    _, offsets, data = column.buffers()
    if len(column) == 0 or data is None:
        return np.zeros(0, np.uint8)
    edges = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data, np.uint8)[edges[0] : edges[-1]]
