"""Files that are there whole or not at all: written aside, then swapped in.

Not here: what is written; the bank, whose transactions are LanceDB's.

    >>> with swapped(Path("figures.json")) as aside:       # doctest: +SKIP
    ...     aside.write_text("{}")
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def swapped(path: Path) -> Iterator[Path]:
    """A place beside `path`, in a folder that is made when missing; what was written there becomes `path` at the end.

    An error or an interruption inside leaves the old file as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole."""
    with swapped(path) as aside:
        aside.write_text(text, encoding="utf-8")
