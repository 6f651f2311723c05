"""The bank: a folder that holds the neurons of documents, and all that is known about them.

A bank is `bank.json` (the `Manifest`: which backbone, which shapes) beside a LanceDB table with one row per
chunk and the calibration it was made with. Writes are transactions: a reader, or whoever comes after a kill -9,
sees all of a write or none of it. (What the operating system has not written yet when the power fails is beyond
this promise.) Writers on one machine take turns; readers never wait.

Not here: how neurons are made (`encoder.py`), how a question chooses among them (`hyper_layer/`), and texts
as passages (`retrieval.py`). A row's columns are in `rows.py`.

    bank = Bank.create("notes.bank", manifest)
    bank.add(rows)
    bank = Bank.open("notes.bank", backbone=fingerprint)  # BankError where another backbone made it
    weights, scale = bank.neurons(["louvre#0"])["louvre#0"]  # int8 [L, R, D], float32 [L, R]
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurag.knowledge import rows as columns
from neurag.knowledge.folder import (
    TABLE,
    BankError,
    Manifest,
    connect,
    make_folder,
    now,
    read_manifest,
    translated,
    turn,
    write_stamp,
)
from neurag.knowledge.rows import Array, DocumentSummary, IndexBatch, NeuronRow, RowText

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Bank", "BankError", "DocumentSummary", "IndexBatch", "Manifest", "NeuronRow"]


class Bank:
    """A store of neurons. Every read sees the newest version, whichever process wrote it."""

    def __init__(self, path: Path, manifest: Manifest, table: Any) -> None:
        """Use `Bank.create` or `Bank.open`."""
        self.path = path
        self.manifest = manifest
        self._table = table
        self._places = self._find_places()
        self._known = (0, 0)  # write_stamp, and the newest version then

    @classmethod
    def create(cls, path: str | Path, manifest: Manifest) -> Bank:
        """Make an empty bank, or open the one that is there if it was made for the same manifest.

        Raises:
            BankError: the folder holds something else, or a bank whose manifest differs (`model` and
                `created` may differ), or it cannot be written.
        """
        path = Path(path)
        with translated(f"a bank cannot be made at {path}", "nothing was made"):
            make_folder(path, manifest, columns.schema(manifest))
        bank = cls.open(path)
        same = replace(manifest, model=bank.manifest.model, created=bank.manifest.created)
        if same != bank.manifest:
            names = [f.name for f in fields(same) if getattr(same, f.name) != getattr(bank.manifest, f.name)]
            raise BankError(
                f"the bank at {path} was made with another {', '.join(names)}: "
                "choose another folder, or the model and options it was made with"
            )
        return bank

    @classmethod
    def open(cls, path: str | Path, backbone: str | None = None, tokenizer: str | None = None) -> Bank:
        """Open a bank; fingerprints that are given must be the bank's own.

        Raises:
            BankError: there is no bank, it is half-written or broken, its format is newer than this
                program, or it belongs to another backbone or tokenizer.
        """
        path = Path(path)
        manifest = read_manifest(path)
        for name, wanted in (("backbone", backbone), ("tokenizer", tokenizer)):
            if wanted is not None and wanted != (own := getattr(manifest, name)):
                raise BankError(
                    f"the bank at {path} was made for another {name} ({own[:12]}, not {wanted[:12]}): "
                    f"load {manifest.model!r}, or encode the documents again into a new bank"
                )
        with translated(f"the table of the bank at {path} is missing or broken", "restore it from a copy"):
            table = connect(path).open_table(TABLE)
            if not table.schema.equals(columns.schema(manifest)):
                raise ValueError("its columns do not fit bank.json")
            return cls(path, manifest, table)

    def __len__(self) -> int:
        with self._reading():
            return int(self._table.count_rows())

    @property
    def version(self) -> int:
        """Number of the newest version: every write makes it larger.

        LanceDB is asked only after a write: beside a busy model that takes a fiftieth of a question's time.
        """
        stamp = write_stamp(self.path)
        if not stamp or stamp != self._known[0]:
            with self._reading():
                self._known = stamp, int(self._table.version)
        return self._known[1]

    def add(self, rows: Sequence[NeuronRow]) -> None:
        """Write rows in one transaction. A row replaces the one with its id, also within `rows`.

        Raises:
            BankError: a row does not fit the manifest, or writing failed; nothing was added.
        """
        latest = list({row.id: row for row in rows}.values())
        with translated(f"rows cannot be added to the bank at {self.path}", "nothing was added"):
            table = columns.to_arrow(latest, self.manifest, now())
            if latest:
                with turn(self.path):
                    merge = self._table.merge_insert("id").when_matched_update_all()
                    merge.when_not_matched_insert_all().execute(table)

    def known(self) -> dict[str, tuple[str, str]]:
        """Map each row's id to its (content_hash, recipe): what a resumed run need not make again."""
        told = self._scan("id", "content_hash", "recipe")
        pairs = zip(told["content_hash"].to_pylist(), told["recipe"].to_pylist(), strict=True)
        return dict(zip(told["id"].to_pylist(), pairs, strict=True))

    def documents(self) -> list[DocumentSummary]:
        """List the documents, sorted by title, then id."""
        names = "document_id chunk_index title source timestamp labels pairs coverage key_count lesson_bytes".split()
        return columns.summaries(self._scan(*names, "created").to_pylist(), *self._sizes())

    def get(self, document_id: str) -> list[NeuronRow]:
        """Return the chunks of a document in order.

        Raises:
            BankError: no such document; the message names similar ids.
        """
        from lancedb.expr import col

        self._check_documents([document_id])
        with self._reading():
            found = self._table.search().where(col("document_id") == document_id).limit(None).to_arrow()
        return sorted(columns.from_arrow(found, self.manifest), key=lambda row: row.chunk_index)

    def remove(self, document_ids: Sequence[str]) -> int:
        """Remove documents in one transaction and return the number of rows that went.

        Their text stays in the files of older versions until `compact`.

        Raises:
            BankError: an id is unknown (the message names similar ones), or writing failed; nothing is gone.
        """
        from lancedb.expr import col

        if not document_ids:
            return 0
        problem = f"rows of the bank at {self.path} cannot be removed"
        with translated(problem, "nothing was removed"), turn(self.path):
            self._check_documents(document_ids)
            gone = self._table.delete(col("document_id").isin(list(dict.fromkeys(document_ids))))
            return int(gone.num_deleted_rows)

    def prune(self, document_id: str, chunks: int) -> None:
        """Drop rows of a document beyond its first `chunks`: left over when it was replaced by a shorter one."""
        from lancedb.expr import col, lit

        with (
            translated(f"rows of the bank at {self.path} cannot be removed", "nothing was removed"),
            turn(self.path),
        ):
            self._table.delete((col("document_id") == lit(document_id)) & (col("chunk_index") >= lit(chunks)))

    def index(self, batch_rows: int = 1024) -> Iterator[IndexBatch]:
        """Stream what routing needs of all rows of one version, at most `batch_rows` at a time."""
        names = ["id", "document_id", "labels", "timestamp", "trust", "key_count", "keys", "positions"]
        for batch in columns.gathered(self._stream(names, batch_rows), batch_rows):
            yield columns.index_batch(batch, self.manifest.key_width)

    def neurons(self, ids: Sequence[str]) -> dict[str, tuple[Array, Array]]:
        """Map each row id to its neuron, int8 or float16 [L, R, D], and its scale, float32 [L, R]: copies of their own.

        Raises:
            BankError: an id is unknown.
        """
        found = self._take(ids, "neuron", "scale")
        shape = (len(self.manifest.layers), self.manifest.rank)
        neurons = columns.fixed_lists(found["neuron"]).reshape(-1, *shape, self.manifest.width)
        scales = columns.fixed_lists(found["scale"]).reshape(-1, *shape)
        told = dict(zip(found["id"].to_pylist(), zip(neurons, scales, strict=True), strict=True))
        if missing := set(ids) - told.keys():
            raise BankError(f"the bank at {self.path} has no row {min(missing)!r}: it may have been removed")
        return {id: told[id] for id in ids}

    def texts(self, ids: Sequence[str]) -> dict[str, RowText]:
        """Map each row id to its text and what was learned of it; rows that are gone are left out."""
        told = columns.row_texts(self._take(ids, "title", "text", "positions", "lessons", "reads"), self.manifest)
        return {id: told[id] for id in ids if id in told}

    def passages(self) -> list[tuple[str, str, str, str]]:
        """List (id, document_id, title, text) of all rows, in storage order."""
        told = self._scan("id", "document_id", "title", "text")
        return list(zip(*(told[name].to_pylist() for name in told.column_names), strict=True))

    def info(self) -> dict[str, object]:
        """Sum up the bank. Bytes per row are averages; those on disk include old versions."""
        told = self._scan("document_id", "key_count", "lesson_bytes")
        counts, lessons = (told[name].to_pylist() for name in ("key_count", "lesson_bytes"))
        row_bytes, key_bytes = self._sizes()
        files = (entry for entry in self.path.rglob("*") if entry.is_file())
        return {
            "documents": len(set(told["document_id"].to_pylist())),
            "rows": len(counts),
            "bytes_on_disk": sum(file.stat().st_size for file in files),
            "neuron_bytes_per_row": row_bytes,
            "key_bytes_per_row": key_bytes * sum(counts) / len(counts) if counts else 0.0,
            "lesson_bytes_per_row": sum(lessons) / len(lessons) if lessons else 0.0,
            "model": self.manifest.model,
            "backbone": self.manifest.backbone,
            "version": self.version,
            "created": self.manifest.created,
        }

    def verify(self) -> list[str]:
        """Return the ids of rows whose neuron, keys or text are not what was written: [] if all is well.

        Raises:
            BankError: the files are so damaged that they cannot be read at all.
        """
        import pyarrow as pa

        wrong = []
        told = ("keys", "text", "lessons", "reads")
        for batch in self._stream(["id", *told, "neuron", "scale", "checksum"], 256):
            table = pa.Table.from_batches([batch])
            neurons, scales = columns.fixed_lists(table["neuron"]), columns.fixed_lists(table["scale"])
            rest = table.select(["id", *told, "checksum"]).to_pylist()
            for row, neuron, scale in zip(rest, neurons, scales, strict=True):
                if columns.checksum(neuron, scale, *(row[name] for name in told)) != row["checksum"]:
                    wrong.append(row["id"])
        return wrong

    def compact(self) -> None:
        """Merge small files and delete all that no row of the newest version needs.

        Afterwards no file holds removed or replaced text or weights; older versions are gone.
        """
        problem = f"the bank at {self.path} cannot be compacted"
        with translated(problem, "its rows are safe"), turn(self.path) as alone:
            self._optimize(alone)
            deletions = self.path / f"{TABLE}.lance" / "_deletions"
            if any(file.is_file() for file in deletions.glob("*")):
                # While less than a tenth of a file is dead, LanceDB keeps it as it is, with a list of dead
                # rows beside it. Their text would stay, so the living rows are written anew.
                rows = self._table.search().limit(None).to_batches(batch_size=256)
                self._table.add(rows, mode="overwrite", write_parallelism=1)
                self._optimize(alone)

    def _optimize(self, alone: bool) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it warns of writers: they wait for us
            # "Unverified" are files of writes that were killed: 7 days old ones, unless we are alone.
            self._table.optimize(cleanup_older_than=timedelta(0), delete_unverified=alone)

    def _sizes(self) -> tuple[int, int]:
        told = self.manifest
        scales = len(told.layers) * told.rank
        return columns.neuron_bytes(scales, told.width, told.precision), columns.key_bytes(told.key_width)

    def _scan(self, *names: str) -> pa.Table:
        with self._reading():
            return self._table.search().select(list(names)).limit(None).to_arrow()

    def _stream(self, names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        with self._reading():
            yield from self._table.search().select(names).limit(None).to_batches(batch_size=batch_rows)

    def _find_places(self) -> dict[str, int]:
        """Map ids to LanceDB's row addresses.

        Four of 1,000 neurons take 2 ms by address and 3 ms by id, with a filter (slower as the bank grows) or
        with a BTREE index (to be brought up to date after every write).
        """
        with self._reading():
            told = self._table.search().select(["id"]).with_row_id(True).limit(None).to_arrow()
        return dict(zip(told["id"].to_pylist(), told["_rowid"].to_pylist(), strict=True))

    def _take(self, ids: Sequence[str], *names: str) -> pa.Table:
        """Columns of the rows with these ids, in any order; an id that is gone has no row.

        Addresses are LanceDB's to reuse, so the id that comes with a row decides whether it is meant. Rows
        move when they are replaced or compacted, maybe by another process: then their places are read again.
        """
        wanted = set(ids)
        found = self._at_places(wanted, *names)
        if len(wanted.intersection(found["id"].to_pylist())) < len(wanted):
            self._places = self._find_places()
            found = self._at_places(wanted, *names)
        return found

    def _at_places(self, wanted: set[str], *names: str) -> pa.Table:
        places = [self._places[id] for id in wanted if id in self._places]
        with self._reading():
            if not places:
                return self._table.search().select(["id", *names]).limit(0).to_arrow()
            return self._table.take_row_ids(places).select(["id", *names]).to_arrow()

    def _check_documents(self, document_ids: Iterable[str]) -> None:
        known = set(self._scan("document_id")["document_id"].to_pylist())
        for unknown in (id for id in document_ids if id not in known):
            near = ", ".join(map(repr, difflib.get_close_matches(unknown, known)))
            hint = f"did you mean {near}?" if near else "`neurag bank list` shows all"
            raise BankError(f"the bank at {self.path} has no document {unknown!r}: {hint}")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with translated(f"the bank at {self.path} cannot be read", "if it stays so, restore it from a copy"):
            yield
