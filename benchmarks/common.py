"""What the benchmarks share: arguments, data, timing, recall, and the JSON they write.

Not here: any measuring of its own. Figures are saved after every stage, atomically, so an interrupted run
leaves a valid file that says `"complete": false`.

    >>> recall_at(["a", "b", "c"], {"a", "c"}, k=2)
    0.5
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import neurag
from neurag.evaluation.rates import recall_at as recall_at  # one definition for benchmarks and `neurag eval`
from neurag.files import write_whole

T = TypeVar("T")

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGES = ("neurag", "torch", "transformers", "peft", "bm25s", "numpy", "lancedb")


def arguments(
    doc: str, argv: Sequence[str] | None = None, only: Iterable[str] = (), model: str | None = None, count: str = ""
) -> argparse.Namespace:
    """Parse the flags every benchmark takes; the module's docstring is its help.

    `only`: parts one can choose among; `model`: the backbone, where another one can be named; `count`: what can be
    asked for another number of.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="a smaller run, minutes on 2 cores")
    parser.add_argument("--data", type=Path, default=None, help="question files (default ../shared/data)")
    parser.add_argument("--json", type=Path, default=None, help="where to write figures and meta")
    parser.add_argument("--seed", type=int, default=0)
    if parts := tuple(only):
        parser.add_argument("--only", action="append", choices=parts, help="this part only; may be repeated")
    if model:
        parser.add_argument("--model", default=model, help="another backbone, or MODEL+ADAPTER")
    if count:
        parser.add_argument(f"--{count}", type=int, help="this many, in place of the size's own number")
    return parser.parse_args(argv)


def data_folder(told: Path | None) -> Path:
    """The folder of question files; ends the program with one line where there is none."""
    folder = told or CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        raise SystemExit(f"no question files at {folder}: name a folder with --data (how to get them: docs/data.md)")
    return folder


def read_rows(folder: Path, stem: str, limit: int | None = None) -> list[dict[str, Any]]:
    """The first `limit` rows of STEM.jsonl.gz or STEM.jsonl."""
    path = find_rows(folder, stem)
    if path is None:
        raise SystemExit(f"no {stem}.jsonl.gz in {folder} (docs/data.md says how to get it)")
    whole = path.read_bytes()
    lines = (gzip.decompress(whole) if path.suffix == ".gz" else whole).splitlines()
    return [json.loads(line) for line in lines[:limit]]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSONL aside, then swap it in."""
    write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))


def find_rows(folder: Path, stem: str) -> Path | None:
    """STEM.jsonl.gz or STEM.jsonl, whichever is there."""
    return next((p for p in (folder / f"{stem}.jsonl.gz", folder / f"{stem}.jsonl") if p.exists()), None)


def gold_of(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The documents that are labelled as answering the row's question."""
    return [doc for doc in row["docs"] if doc["relevant"] is True]


def plain(text: str) -> str:
    """Its words in small letters, with single spaces."""
    return " ".join(re.findall(r"\w+", text.lower()))


def forget_peak() -> None:
    """Let `peak_memory` count from now on, where the system can: loading a model takes more than using it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Bytes of resident memory of this process at their most, since it was started or `forget_peak`.

    Not `ru_maxrss` on Linux: that begins with what the process that started this one held.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(next(x for x in status.read_text().splitlines() if x.startswith("VmHWM")).split()[1])
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def held_out(title: str) -> bool:
    """Whether documents of this title are kept out of training adapters and routing: a quarter, by their hash.

    SQuAD has 36 titles only; the salt is the first with more than 300 of its passages in that quarter.
    """
    return hashlib.sha256(f"3{plain(title)}".encode()).digest()[0] < 64


def set_aside(doc: Mapping[str, Any]) -> bool:
    """Whether a held-out passage is one that the weigher learns from: a quarter of them, by their ids' hash."""
    return held_out(doc["title"]) and hashlib.sha256(doc["id"].encode()).digest()[0] >= 192


def unseen(doc: Mapping[str, Any]) -> bool:
    """Whether a passage may be asked about: nothing that ships learned from it, and from others of its title only the
    weigher, which sees no words."""
    return held_out(doc["title"]) and not set_aside(doc)


def by_hash(names: Iterable[str]) -> list[str]:
    """The names in an order that says nothing of them."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def passages_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every passage of the rows once, by id: a closed corpus."""
    return {doc["id"]: doc for row in rows for doc in row["docs"]}


def interleaved(systems: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each system, run A B, B A, A B ... after one round that does not count."""
    for system in systems.values():
        system()
    taken: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(repeats):
        for name in list(systems)[:: 1 if turn % 2 == 0 else -1]:
            start = time.perf_counter()
            systems[name]()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def tracked(items: Sequence[T], what: str) -> Iterable[T]:
    """Iterate with a progress bar and the time left, on stderr."""
    from rich.console import Console
    from rich.progress import track

    return track(items, description=what, console=Console(stderr=True), transient=True)


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row))
    Console().print(table)


class Report:
    """The figures of one run and how they came about, saved after every change."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self._start = time.perf_counter()
        self.out: Path | None = asked.json
        self.figures: dict[str, float] = {}
        self.meta: dict[str, Any] = {
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "commit": commit(),
            "machine": machine(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "quick": asked.quick,
            "seed": asked.seed,
            "versions": versions(),
            "notes": [],
            "complete": False,
        }

    def add(self, **figures: float) -> None:
        """Record figures and save."""
        self.figures |= {name: float(f"{value:.5g}") for name, value in figures.items()}
        self.save()

    def note(self, text: str) -> None:
        """Record and print what a reader must know about the figures."""
        self.meta["notes"].append(text)
        print(f"Note: {text}", flush=True)

    def finish(self) -> None:
        """Print all figures and mark the run complete."""
        self.meta |= {"complete": True, "minutes": round((time.perf_counter() - self._start) / 60, 1)}
        self.save()
        show("Figures", ("figure", "value"), [(n, f"{v:.5g}") for n, v in self.figures.items()])

    def save(self) -> None:
        """Write the JSON aside, then swap it in."""
        if self.out is not None:
            write_whole(self.out, json.dumps({"figures": self.figures, "meta": self.meta}, indent=2) + "\n")


def commit() -> str:
    """Short hash of the checkout, with "-dirty" where files differ from it; "unknown" outside git.

    docs/results.md may differ: it is what a refresh writes.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)docs/results.md")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def code_version() -> str:
    """Hash of the package's own files: whatever was made by other code has another one."""
    told = hashlib.sha256()
    for path in sorted(Path(neurag.__file__).parent.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            told.update(path.name.encode() + path.read_bytes())
    return told.hexdigest()[:12]


def machine() -> str:
    """Processor, cores this process may use, threads torch uses."""
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [x for x in cpuinfo.read_text(encoding="utf-8").splitlines() if x.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {cores} cores, {torch.get_num_threads()} threads{gpu}"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter."""
    told = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            told[name] = version(name)
        except PackageNotFoundError:
            told[name] = "not installed"
    return told
