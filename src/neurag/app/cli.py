"""The command line: `neurag encode`, `ask`, `bank ...`, `eval`, `rows`, `train-...`, `mine`, `harden` and `demo`.

Each option is written once, in config.py: its dataclasses become the flags here, and their field docstrings
the help. Heavy modules are imported inside the commands, so `neurag --help` answers at once. Not here: the
commands of `neurag bank` (`bank_commands.py`), `eval` and `rows` (`eval_commands.py`), training (`task_commands.py`)
and `mine` (`robust_commands.py`), how things look (`show.py`, `progress.py`), the work itself.

Exit codes: 0 done, 1 a failure (one line on stderr), 2 wrong usage.

    $ neurag encode handbook/ --bank handbook.bank
    $ neurag ask --bank handbook.bank "Who signs travel requests?"
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, CycloptsError, Parameter, default_name_transform

from .. import __version__
from ..config import DEFAULT_MODEL, AnswerOptions, AugmentOptions, EncodeOptions, NeuragError, UsageError
from . import eval_commands, robust_commands, task_commands
from .bank_commands import BankFolder, Flag, Json, bank_app, errors, output

if TYPE_CHECKING:
    from ..answer import Explanation
    from ..knowledge.documents import Document
    from ..knowledge.pipeline import EncodeReport, Plan
    from ..knowledge.readers import Skipped

HEAT_MAP = Path("neurag-explain.png")
STOPPED = "stopped; what was committed stays: run the same command again to go on"


def _flat(name: str) -> str:
    return "*" if name == "route" else default_name_transform(name)


EncodeFlags = Annotated[EncodeOptions, Parameter(name="*")]
AugmentFlags = Annotated[AugmentOptions, Parameter(name="*")]
AnswerFlags = Annotated[AnswerOptions, Parameter(name="*", name_transform=_flat)]
ENCODE, AUGMENT, ANSWER = EncodeOptions(), AugmentOptions(), AnswerOptions()

app = App(
    name="neurag",
    help="Documents become neurons inside a language model.",
    version=__version__,
    default_parameter=Parameter(negative_iterable=()),
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
app.command(bank_app)
app.command(eval_commands.evaluate, name="eval")
app.command(eval_commands.rows)
app.command(task_commands.train_task, name="train-task")
app.command(task_commands.train_routing, name="train-routing")
app.command(task_commands.train_weighing, name="train-weighing")
app.command(robust_commands.mine)
app.command(robust_commands.harden)


@app.command
def encode(
    paths: tuple[Path, ...],
    /,
    *,
    bank: BankFolder,
    model: str = DEFAULT_MODEL,
    resume: Flag = False,
    dry_run: Flag = False,
    json: Json = False,
    options: EncodeFlags = ENCODE,
    augment: AugmentFlags = AUGMENT,
) -> None:
    """Make neurons from documents and add them to a bank.

    Args:
        paths: Files and folders: txt, md, html, pdf, docx, jsonl.
        model: A hub name or a folder.
        resume: Go on where a stopped run was. It always does; the flag is there to say so.
        dry_run: Say what would be done, and write nothing.
    """
    from ..knowledge.pipeline import encode as run
    from ..knowledge.pipeline import plan as plan_of
    from ..knowledge.readers import read_paths
    from . import show
    from .progress import EncodeProgress

    skipped: list[Skipped] = []
    documents = _noting(read_paths(paths), skipped)
    done: Plan | EncodeReport
    try:
        if dry_run:
            done = plan_of(documents, bank, model, options, augment)
        else:
            with EncodeProgress(errors()) as progress:
                done = run(documents, bank, model, options, augment, progress)
            skipped = list(done.skipped)
    finally:
        show.show_skipped(errors(), skipped)
    if not done.documents:
        raise NeuragError("nothing could be read: name files or folders that hold text")
    if json:
        show.show_json(asdict(done))
    else:
        show.show_done(output(), done, bank)


@app.command
def ask(
    question: str,
    /,
    *,
    bank: BankFolder | None = None,
    model: str | None = None,
    options: AnswerFlags = ANSWER,
    stream: Flag = False,
    explain_png: Path | None = None,
    json: Json = False,
) -> None:
    """Answer a question, and say which neurons fired.

    --explain draws what each neuron was chosen for and what it did, and writes the same as a heat map.

    Args:
        question: The question, in quotation marks.
        model: A hub name or a folder; by default the bank's own backbone.
        stream: Write the answer as it comes.
        explain_png: Where --explain writes its heat map; neurag-explain.png unless named. Asks for --explain, too.
    """
    if not question.strip():
        raise UsageError("the question is empty: write one, in quotation marks")
    if stream and json:
        raise UsageError("--stream and --json exclude each other: choose one")
    if bank is None and options.mode != "closed":
        raise UsageError(f"mode '{options.mode}' needs a bank: name one with --bank DIR, or use --mode closed")
    from ..model import Model
    from . import heatmap, show

    if explain_png is not None:
        heatmap.need_matplotlib()
    options = replace(options, labels=_split(options.labels), explain=options.explain or explain_png is not None)
    loaded = Model.load(bank=bank, model=model)
    if stream:
        show.show_pieces(output(), loaded.stream(question, options))
        answer = loaded.last
    else:
        answer = loaded.answer(question, options)
    if answer is None:
        raise NeuragError("the model gave no answer: ask again, or without --stream")
    if json:
        show.show_json(answer.to_json())
    else:
        show.show_answer(output(), answer, options.explain, said=stream)
    if answer.explanation and answer.explanation.neurons:
        explained = answer.steps[-1].question if answer.steps else question
        _write_heat_map(answer.explanation, explained, explain_png)


def _write_heat_map(explanation: Explanation, question: str, path: Path | None) -> None:
    """Write the heat map where it was asked for; where nobody named a file, not being able to draw is no failure."""
    from . import heatmap, show

    try:
        heatmap.write(path or HEAT_MAP, explanation, question)
    except NeuragError as error:
        if path is not None:
            raise
        show.show_line(errors(), str(error))
    else:
        show.show_line(errors(), f"heat map: {path or HEAT_MAP}")


@app.command
def demo(*, keep: Path | None = None, model: str = DEFAULT_MODEL, json: Json = False) -> None:
    """Encode an invented world live, ask about it, and compare with RAG; offline, a few minutes.

    Args:
        keep: Folder for the bank; by default it is thrown away.
        model: A hub name or a folder.
    """
    from ..demo.run import run_demo
    from . import show

    screen = show.DemoScreen(errors() if json else output(), errors())
    result = run_demo(keep, screen, model)
    if json:
        show.show_json(asdict(result))


app.meta.suppress_keyboard_interrupt = False


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Path | None = None,
    debug: Flag = False,
) -> object:
    """Read options from a file, then run the command.

    Args:
        config: TOML file of options, with a table for each command: [encode] rank = 8.
        debug: Show where an error came from (also NEURAG_DEBUG=1).
    """
    app.config = ()
    if config is not None:
        app.config = (_toml(config),)
    return app(tokens)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code. `sys.argv` is used where no arguments are given."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in tokens or os.environ.get("NEURAG_DEBUG", "") not in ("", "0")
    for stream in (sys.stdout, sys.stderr):
        # Terminals that know only a few characters get the others escaped, not an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app.meta(tokens)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has left: no message, and no second try when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        sys.stderr.write(f"neurag: {' '.join(_told(error, tokens).split())}\n")
        return 2 if isinstance(error, (UsageError, CycloptsError)) else 1
    return 0


def _told(error: BaseException, tokens: Sequence[str]) -> str:
    """What went wrong, for a person."""
    if isinstance(error, KeyboardInterrupt):
        return STOPPED if {"encode", "mine", "harden", "train-task", "train-routing"} & set(tokens) else "stopped"
    if isinstance(error, (NeuragError, CycloptsError)):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: make room, then run the same command again to go on"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error or 'no message'} (--debug shows where it came from)"


def _toml(path: Path) -> object:
    import tomllib

    from cyclopts.config import Dict

    try:
        return Dict(tomllib.loads(path.read_text(encoding="utf-8")), source=str(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"the options in {path} cannot be read: {error}") from None


def _noting(items: Iterable[Document | Skipped], skipped: list[Skipped]) -> Iterator[Document | Skipped]:
    from ..knowledge.readers import Skipped

    for item in items:
        if isinstance(item, Skipped):
            skipped.append(item)
        yield item


def _split(labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Labels may come as `--labels a,b` and as `--labels a --labels b`; "" holds none."""
    if labels is None:
        return None
    return tuple(name.strip() for told in labels for name in told.split(",") if name.strip())


if __name__ == "__main__":
    sys.exit(main())
