"""The commands of `neurag bank`: info, list, show, remove, verify, compact; and flags that commands share.

Not here: the bank itself (knowledge/bank.py), how things look (`show.py`), errors and exit codes (`cli.py`).

    $ neurag bank show founding --bank demo.bank
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from ..config import NeuragError

if TYPE_CHECKING:
    from rich.console import Console

    from ..knowledge.bank import Bank

Flag = Annotated[bool, Parameter(negative=())]
BankFolder = Annotated[Path, Parameter(name="--bank", help="Folder of the bank.")]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Write JSON to stdout.")]

bank_app = App(name="bank", help="Look after a bank of neurons.")


@bank_app.command
def info(*, bank: BankFolder, json: Json = False) -> None:
    """Sum up a bank: documents, bytes, backbone."""
    from . import show

    told = _open(bank).info()
    if json:
        show.show_json(told)
    else:
        show.show_info(output(), told)


@bank_app.command(name="list")
def list_documents(*, bank: BankFolder, json: Json = False) -> None:
    """List the documents."""
    from . import show

    documents = _open(bank).documents()
    if json:
        show.show_json([asdict(one) for one in documents])
    else:
        show.show_documents(output(), documents)


@bank_app.command(name="show")
def show_document(document: str, /, *, bank: BankFolder, json: Json = False) -> None:
    """Show the chunks of a document: place in the source, training texts, bytes.

    Args:
        document: Its id, as `neurag bank list` shows it.
    """
    from . import show

    chunks = [show.described(row) for row in _open(bank).get(document)]
    if json:
        show.show_json(chunks)
    else:
        show.show_chunks(output(), chunks)


@bank_app.command
def remove(documents: tuple[str, ...], /, *, bank: BankFolder, json: Json = False) -> None:
    """Remove documents; `neurag bank compact` then deletes their text from the disk.

    Args:
        documents: Their ids, as `neurag bank list` shows them.
    """
    from . import show

    rows = _open(bank).remove(documents)
    if json:
        show.show_json({"removed_rows": rows})
    else:
        show.show_line(output(), f"removed {rows} rows of {len(set(documents))} documents from {bank}")


@bank_app.command
def verify(*, bank: BankFolder, json: Json = False) -> None:
    """Check that every row is what was written; exit code 1 if not."""
    from . import show

    opened = _open(bank)
    damaged = opened.verify()
    if json:
        show.show_json({"rows": len(opened), "damaged": damaged})
    if damaged:
        raise NeuragError(
            f"{len(damaged)} rows of {bank} are damaged ({', '.join(damaged)}): "
            "remove their documents and encode them again"
        )
    if not json:
        show.show_line(output(), f"all {len(opened)} rows of {bank} are what was written")


@bank_app.command
def compact(*, bank: BankFolder, json: Json = False) -> None:
    """Merge small files and delete removed and replaced rows for good."""
    from . import show

    opened = _open(bank)
    before = opened.info()["bytes_on_disk"]
    opened.compact()
    told = {"bytes_before": before, "bytes_after": opened.info()["bytes_on_disk"]}
    if json:
        show.show_json(told)
    else:
        show.show_info(output(), told)


def output() -> Console:
    """Where results go."""
    from rich.console import Console

    return Console(highlight=False)


def errors() -> Console:
    """Where progress and complaints go."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _open(path: Path) -> Bank:
    from ..knowledge.bank import Bank

    return Bank.open(path)
