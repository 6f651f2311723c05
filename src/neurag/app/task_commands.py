"""The commands that train what all documents share: `neurag train-task`, `train-routing` and `train-weighing`.

Not here: training (tasks/), errors and exit codes (`cli.py`).

    $ neurag train-task rows.jsonl --output my-adapter
    $ neurag encode handbook/ --bank handbook.bank --model smollm2-135m-instruct+my-adapter
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..config import BASE_MODEL, DEFAULT_MODEL, UsageError
from ..tasks.options import RoutingOptions, TaskOptions, WeighingOptions
from .bank_commands import BankFolder, errors

TaskFlags = Annotated[TaskOptions, Parameter(name="*")]
BeginFlag = Annotated[
    str | None, Parameter(name="--from", help="An adapter, or a stopped run, to train further: its folder, or task.")
]
LessonsFlag = Annotated[
    Path | None, Parameter(help="JSONL of questions written about passages, matched beside the sentences asked back.")
]
AdapterFolder = Annotated[Path, Parameter(name=["--output", "-o"], help="The folder for the adapter.")]
RoutingFlags = Annotated[RoutingOptions, Parameter(name="*")]
SeenFlag = Annotated[
    Path | None, Parameter(help="Rows about documents an adapter was trained on: they teach to choose, not to trust.")
]
WeighingFlags = Annotated[WeighingOptions, Parameter(name="*")]
TASK, ROUTING, WEIGHING = TaskOptions(), RoutingOptions(), WeighingOptions()


def train_task(
    data: Path,
    /,
    *,
    output: AdapterFolder,
    model: str = BASE_MODEL,
    begin: BeginFlag = None,
    lessons: LessonsFlag = None,
    options: TaskFlags = TASK,
) -> None:
    """Teach a backbone to read passages and to write questions about them; afterwards MODEL+FOLDER names it.

    With --matching 1 it also learns to know questions by what they ask, without the passage.

    A stopped run goes on where it was when the same command is given again.

    Args:
        data: JSONL with passage, question and answer (null where the passage does not say), and title if you like.
        model: A hub name or a folder.
    """
    from ..loading import adapter_file, load_backbone
    from ..lora import Lora
    from ..tasks.examples import pack, read_rows
    from ..tasks.matching import matches
    from ..tasks.training import CHECKPOINT, stopped, train_task
    from .progress import TaskMeter
    from .show import show_line

    rows = read_rows(data)
    lora = None
    if begin:
        halfway = (Path(begin) / CHECKPOINT).is_file()
        lora = stopped(Path(begin), options.scale) if halfway else Lora.load(adapter_file(model, begin))
    backbone = load_backbone(model)
    examples, passages = pack(backbone, rows), []
    if options.matching:
        passages = matches(backbone, rows, options.seed, read_rows(lessons) if lessons else (), options.echoes)
    with TaskMeter(errors()) as progress:
        report = train_task(backbone, examples, passages, options, output, progress, lora)
    done = f"{report.examples} passages read, {report.matches} matched with questions"
    show_line(errors(), f"{done}, in {report.steps} steps: use it as --model {model}+{output}")


def train_routing(
    data: Path,
    /,
    *,
    output: AdapterFolder,
    model: str = DEFAULT_MODEL,
    limit: int | None = None,
    options: RoutingFlags = ROUTING,
) -> None:
    """Teach a bank to find documents: where in the model's states questions are like what answers them.

    Afterwards MODEL+FOLDER uses it, with the task adapter in that folder, if one is there. Documents of new banks need
    no training; banks that are there already keep what they were made with.

    A stopped run goes on where it was when the same command is given again.

    Args:
        data: Questions with documents labelled relevant or not: the rows of docs/data.md.
        model: A hub name, a folder, or MODEL+ADAPTER: the model in which neurons are to act.
        limit: Take the first so many sound rows.
    """
    from ..loading import load_backbone
    from ..tasks.routing import RoutingRow, train_routing
    from .eval_commands import sound_rows
    from .progress import RoutingMeter
    from .show import show_line

    rows = []
    for row in sound_rows(data, limit):
        gold, others = (
            tuple((doc.title, doc.text) for doc in row.docs if doc.relevant is kind) for kind in (True, False)
        )
        rows += [RoutingRow(row.question, gold, others)] if gold else []
    if not rows:
        raise UsageError(f"no row of {data} has a document that is labelled relevant (docs/data.md)")
    with RoutingMeter(errors()) as progress:
        report = train_routing(load_backbone(model), rows, options, output, progress)
    told = f"{report.questions} questions, {report.documents} documents, {report.steps} steps"
    fell = f"loss on {report.held_out} questions held out {report.held_loss_before:.2f} -> {report.held_loss:.2f}"
    base = model.rpartition("+")[0] or model
    show_line(errors(), f"{told}; {fell}: use it as --model {base}+{output}")


def train_weighing(
    data: Path,
    /,
    *,
    bank: BankFolder,
    output: AdapterFolder,
    seen: SeenFlag = None,
    limit: int | None = None,
    options: WeighingFlags = WEIGHING,
) -> None:
    """Teach which of the answers that neurons consider is the right one, by questions about documents of a bank.

    Afterwards MODEL+FOLDER uses it, with the adapters in that folder, for any bank.

    Args:
        data: Questions with answers and with documents labelled relevant, which are in the bank: the rows of
            docs/data.md. Take documents that no adapter of the model was trained on, and none to be judged by.
        limit: Take the first so many sound rows of a file.
    """
    from ..evaluation.weighing import choices
    from ..loading import WEIGHING_FILE
    from ..model import Model
    from ..tasks.weighing import train_weigher
    from .eval_commands import sound_rows
    from .progress import Meter
    from .show import show_line

    files = [(path, list(sound_rows(path, limit))) for path in (data, seen) if path]
    model = Model.load(bank=bank)
    asked = []
    with Meter(errors()) as meter:
        shown = partial(meter.show, "asking", unit="questions", pace="")
        for path, rows in files:
            try:
                asked += choices(model, rows, shown, seen=path is seen)
            except UsageError as error:
                raise UsageError(f"{path}: {error}") from None
    weigher, report = train_weigher(asked, options)
    weigher.save(output / WEIGHING_FILE)
    shares = f"{report.first:.3f} by the likeliest, {report.chosen:.3f} weighed (by folds), {report.any:.3f} any"
    silence = f"unsure of {report.lost:.3f} that are right, and of {report.noticed:.3f} whose document is missing"
    base = model.backbone.name.rpartition("+")[0] or model.backbone.name
    show_line(errors(), f"{report.questions} questions right: {shares}; {silence}; use it as --model {base}+{output}")
