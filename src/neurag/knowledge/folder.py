"""The folder of a bank: `bank.json`, the lock that writers take, and whether the folder may be used at all.

`bank.json` holds the `Manifest` and is written last, in one step: a folder without it is half-made, however
its making ended. Not here: the table beside it (`bank.py`) and its columns (`rows.py`).

    make_folder(Path("notes.bank"), manifest, columns)  # an empty bank
    manifest = read_manifest(Path("notes.bank"))
    with turn(Path("notes.bank")):
        ...  # no other process writes
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurag.config import NeuragError

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "rows"
CALIBRATION = "calibration.safetensors"
"""The backbone's constants the bank was made with; written and read by calibration.py."""
_MANIFEST, _LOCK = "bank.json", "bank.lock"
SETTLED = 2_000_000_000
"""Nanoseconds: no file system's clock has longer ticks."""


class BankError(NeuragError):
    """A bank that cannot be used, or a row that does not fit it. One line: what, where, what to do."""


@dataclass(frozen=True)
class Manifest:
    """What all rows of a bank share, and what a backbone must match to use them."""

    backbone: str  # fingerprint of the weights
    tokenizer: str  # fingerprint of the tokenizer
    model: str  # the backbone's name, as the user gave it
    rank: int  # R
    layers: tuple[int, ...]  # numbers of the band's layers, L of them
    width: int  # D, output width of a neuron
    key_width: int  # numbers in one key
    keys_version: str  # keys.keys_version
    input_version: str  # version of the shared A: seed, scale, calibration
    input_scale: float = 0.8  # what the shared A is drawn with, so that it can be drawn again
    seed: int = 0
    precision: str = "int8"  # of the neurons: int8 or float16
    format: int = 4
    created: str = ""  # ISO 8601 time, filled in by the bank


def write_stamp(path: Path) -> int:
    """Return a time stamp in nanoseconds that every write to the bank changes, or 0 where that is not sure.

    It is that of the folder of LanceDB's versions. A stamp of the last moments is not sure: another write may come
    within the same tick of the file system's clock.
    """
    try:
        stamp = (path / f"{TABLE}.lance" / "_versions").stat().st_mtime_ns
    except OSError:  # gone, or laid out differently
        return 0
    return stamp if abs(time.time_ns() - stamp) > SETTLED else 0


def connect(path: Path) -> Any:
    """Return the LanceDB database (`LanceDBConnection`) in a folder."""
    import lancedb

    # Every read looks for a newer version (0.2 ms): other processes may have written, or compacted.
    return lancedb.connect(path, read_consistency_interval=timedelta(0))


def now() -> str:
    """Return the time: ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def make_folder(path: Path, manifest: Manifest, columns: pa.Schema) -> None:
    """Make an empty bank, unless there is one already; what a killed run left half-made is made anew.

    Raises:
        BankError: the path is a file, or a folder that holds something else.
        OSError: it cannot be written.
    """
    if (path / _MANIFEST).exists():
        return
    _check_free(path)
    path.mkdir(parents=True, exist_ok=True)
    with turn(path):
        if not (path / _MANIFEST).exists():  # another process may have been faster
            _fill(path, manifest, columns)


def _check_free(path: Path) -> None:
    """Refuse a folder in use; what a killed `create` left behind (an empty table) does not count."""
    if path.exists() and not path.is_dir():
        raise BankError(f"{path} is a file: a bank needs a folder of its own")
    ours = {f"{TABLE}.lance", f"{_MANIFEST}.new", _LOCK, CALIBRATION}
    held = {entry.name for entry in path.iterdir()} if path.exists() else set()
    if other := sorted(name for name in held - ours if not name.startswith(f".{CALIBRATION}.")):
        raise BankError(f"{path} is no bank and not empty (it holds {other[0]!r}): choose another folder")
    if any((path / f"{TABLE}.lance" / "data").glob("*")):
        raise BankError(f"{path} holds rows but no {_MANIFEST}: restore that file, or delete the folder")


def _fill(path: Path, manifest: Manifest, columns: pa.Schema) -> None:
    if (path / f"{TABLE}.lance").exists():
        shutil.rmtree(path / f"{TABLE}.lance")
    connect(path).create_table(TABLE, schema=columns)
    written = replace(manifest, created=manifest.created or now())
    draft = path / f"{_MANIFEST}.new"
    with draft.open("w", encoding="utf-8") as file:
        json.dump(asdict(written), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path / _MANIFEST)


def read_manifest(path: Path) -> Manifest:
    """Read bank.json.

    Raises:
        BankError: it is missing, damaged, or of a newer format.
    """
    if not path.is_dir():
        raise BankError(f"there is no bank at {path}: `neurag encode DOCUMENTS --bank {path}` makes one")
    try:
        told = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        if (form := told["format"]) > Manifest.format:
            raise BankError(f"the bank at {path} has the newer format {form}: update NeuRAG to open it")
        if form < Manifest.format:
            raise BankError(
                f"the bank at {path} has the old format {form}: encode its documents again, into a new bank"
            )
        told["layers"] = tuple(told["layers"])
        return Manifest(**{field.name: told[field.name] for field in fields(Manifest)})
    except FileNotFoundError:
        half = (path / f"{TABLE}.lance").exists()
        what = "was only half made" if half else "is no bank"
        todo = "encode into it again to start over" if half else "choose the folder of a bank"
        raise BankError(f"{path} {what} (it has no {_MANIFEST}): {todo}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BankError(f"{path / _MANIFEST} cannot be read ({error!r}): restore it from a copy") from None


@contextmanager
def turn(path: Path) -> Iterator[bool]:
    """Wait for the bank's other writers; a killed writer's turn is over at once.

    Yields whether nobody else can write now: False on a system without such locks.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with (path / _LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield True


@contextmanager
def translated(problem: str, advice: str) -> Iterator[None]:
    """Turn what LanceDB and the system raise into one line of BankError."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        # LanceDB ends its messages with a place in its own source.
        reason = " ".join(str(error).split(", /")[0].split())[:300] or type(error).__name__
        if full:
            raise BankError(f"no space left on the disk: {problem}; {advice}; free some space") from None
        raise BankError(f"{problem} ({reason}): {advice}") from None
