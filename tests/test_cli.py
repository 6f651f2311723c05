"""The command line with fakes for everything heavy: exit codes, one-line errors, JSON, help in time."""

import errno
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from neurag.answer import Answer, FiredNeuron, Timing
from neurag.app.cli import main
from neurag.app.progress import EncodeProgress, EvalProgress, clock, speed
from neurag.app.show import NO_NEURON, size
from neurag.config import DEFAULT_MODEL, AnswerOptions, NeuragError, UsageError
from neurag.evaluation.watch import Asking
from neurag.knowledge.readers import Skipped

SRC = Path(__file__).parents[1] / "src"
FIRED = Answer(
    "Ilse Maranth",
    "neurag",
    neurons=(FiredNeuron("oskerby", "The [red]workshop", 0.75, "Ilse leads it."),),
    timing=Timing(0.2, 0.01, 0.3, 41),
)
SILENT = Answer("No idea", "neurag", abstained=True)


@dataclass(frozen=True)
class Plan:
    documents: int
    chunks: int = 4
    tokens: int = 100
    todo: int = 3
    bytes: int = 4_200_000
    seconds: float = 75.0


@dataclass(frozen=True)
class EncodeReport:
    documents: int
    skipped: tuple[Skipped, ...]
    chunks: int = 4
    encoded: int = 3
    reused: int = 1
    seconds: float = 2.0
    coverage: float = 0.5
    split: Mapping[str, float] = field(default_factory=lambda: {"questions": 1.5, "training": 0.5})


class Fake:
    """Stands for the pipeline and the model; remembers what it was asked."""

    def __init__(self):
        self.calls = []
        self.reply = FIRED
        self.error = None

    def _work(self, *call):
        self.calls.append(call)
        if self.error:
            raise self.error

    def encode(self, documents, bank, model, options, augment, progress):
        read = list(documents)
        self._work(bank, model, options, augment)
        skipped = tuple(x for x in read if isinstance(x, Skipped))
        return EncodeReport(len(read) - len(skipped), skipped)

    def plan(self, documents, bank, model, options, augment):
        read = list(documents)
        self._work(bank, model, options, augment)
        return Plan(sum(not isinstance(x, Skipped) for x in read))

    def load(self, bank=None, model=None):
        self._work("load", bank, model)
        return self

    def answer(self, question, options):
        self._work(question, options)
        return self.reply

    def stream(self, question, options):
        self._work(question, options)
        yield from ("Ilse ", "Maranth")
        self.last = self.reply


@pytest.fixture
def fake(monkeypatch):
    fake = Fake()
    pipeline, model = ModuleType("neurag.knowledge.pipeline"), ModuleType("neurag.model")
    pipeline.encode, pipeline.plan, model.Model = fake.encode, fake.plan, fake
    monkeypatch.setitem(sys.modules, "neurag.knowledge.pipeline", pipeline)
    monkeypatch.setitem(sys.modules, "neurag.model", model)
    monkeypatch.delenv("NEURAG_DEBUG", raising=False)
    return fake


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "good.txt").write_text("Ilse leads the workshop.")
    (tmp_path / "empty.txt").write_text("")
    return tmp_path


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


def one_line(err):
    return err.startswith("neurag: ") and err.count("\n") == 1


# --- start


def test_help_is_fast_and_light():
    code = "import sys; from neurag.app.cli import main; main(['--help']); "
    code += "assert not {'torch', 'transformers', 'lancedb', 'numpy'} & set(sys.modules), 'heavy import'"
    env = os.environ | {"PYTHONPATH": str(SRC)}
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
        times.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
        assert all(name in done.stdout for name in ("encode", "ask", "bank", "demo", "--debug", "--config"))
    assert statistics.median(times) < 0.5


def test_version(capsys):
    code, out, _ = run(capsys, "--version")
    assert (code, out) == (0, "0.1.0\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["ask"],
        ["ask", "Who?"],
        ["ask", "  ", "--bank", "b"],
        ["ask", "Who?", "--bank", "b", "--mode", "psychic"],
        ["ask", "Who?", "--bank", "b", "--top-k", "many"],
        ["ask", "Who?", "--bank", "b", "--stream", "--json"],
        ["encode", "--bank", "b"],
        ["encode", "x.txt"],
        ["encode", "x.txt", "--bank", "b", "--rank"],
        ["bank", "show", "--bank", "b"],
        ["--config", "missing.toml", "bank", "info", "--bank", "b"],
    ],
)
def test_wrong_usage(capsys, fake, arguments):
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert one_line(err)
    assert fake.calls == []


def test_no_bank(capsys, tmp_path):
    code, out, err = run(capsys, "bank", "info", "--bank", tmp_path / "none")
    assert (code, out) == (1, "")
    assert one_line(err)
    assert "there is no bank at" in err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (NeuragError("two\nlines"), 1, "two lines"),
        (UsageError("too long"), 2, "too long"),
        (KeyboardInterrupt(), 1, "what was committed stays"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "Permission denied: /x"),
        (ValueError("odd"), 1, "ValueError: odd (--debug"),
        (MemoryError(), 1, "MemoryError"),
    ],
)
def test_failures_are_one_line(capsys, fake, folder, error, code, said):
    fake.error = error
    got, out, err = run(capsys, "encode", folder / "good.txt", "--bank", "b")
    assert (got, out) == (code, "")
    assert one_line(err)
    assert said in err


@pytest.mark.parametrize("way", ["flag", "variable"])
def test_debug_shows_where(fake, folder, monkeypatch, way):
    fake.error = ValueError("odd")
    arguments = ["encode", str(folder), "--bank", "b"]
    if way == "flag":
        arguments.insert(0, "--debug")
    else:
        monkeypatch.setenv("NEURAG_DEBUG", "1")
    with pytest.raises(ValueError, match="odd"):
        main(arguments)


def test_closed_pipe(tmp_path):
    code = "import sys; from neurag.app.cli import main; sys.exit(main(['--help']))"
    env = os.environ | {"PYTHONPATH": str(SRC)}
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=-1, text=True, env=env, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


# --- encode


def test_encode(capsys, fake, folder):
    code, out, err = run(
        capsys, "encode", folder, "--bank", "b", "--resume", "--rank", "4", "--no-recite",
        "--batch", "3", "--questions", "5", "--band", "0.5", "0.9",
    )  # fmt: skip
    assert code == 0
    assert "1 documents, 4 chunks in b: 3 encoded, 1 already there" in out
    assert "the lessons answer about 50% of what may be asked" in " ".join(out.split())
    assert err.splitlines() == [f"skipped {folder / 'empty.txt'}: is empty", "1 could not be read"]
    (bank, model, options, augment) = fake.calls[0]
    assert (bank, model) == (Path("b"), DEFAULT_MODEL)
    assert (options.rank, options.batch, options.band) == (4, 3, (0.5, 0.9))
    assert (augment.recite, augment.questions) == (False, 5)


def test_encode_json(capsys, fake, folder):
    code, out, _ = run(capsys, "encode", folder, "--bank", "b", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["encoded"] == 3
    assert told["skipped"] == [{"where": str(folder / "empty.txt"), "reason": "is empty"}]


@pytest.mark.parametrize("extra", [[], ["--dry-run"], ["--json"]])
def test_nothing_readable(capsys, fake, folder, extra):
    code, out, err = run(capsys, "encode", folder / "empty.txt", folder / "none", "--bank", "b", *extra)
    assert (code, out) == (1, "")
    assert "2 could not be read" in err
    assert err.splitlines()[-1].startswith("neurag: nothing could be read")


def test_skipped_are_named_when_encoding_fails(capsys, fake, folder):
    fake.error = NeuragError("no")
    code, _, err = run(capsys, "encode", folder, "--bank", "b")
    assert code == 1
    assert "empty.txt: is empty" in err


def test_dry_run(capsys, fake, folder):
    code, out, err = run(capsys, "encode", folder, "--bank", "b", "--dry-run")
    assert code == 0
    assert "to encode: 3 chunks, 4.2 MB, about 1:15. Nothing was written." in out
    assert "1 could not be read" in err
    code, out, _ = run(capsys, "encode", folder, "--bank", "b", "--dry-run", "--json")
    assert json.loads(out)["todo"] == 3


def test_options_from_a_file(capsys, fake, folder):
    (folder / "n.toml").write_text("[encode]\nrank = 3\nquestions = 2\n[ask]\ntop-k = 2\n")
    config = ("--config", folder / "n.toml")
    assert run(capsys, *config, "encode", folder, "--bank", "b", "--questions", "7")[0] == 0
    _, _, options, augment = fake.calls[0]
    assert (options.rank, augment.questions) == (3, 7)  # the command line wins
    assert run(capsys, *config, "ask", "Who?", "--bank", "b")[0] == 0
    assert fake.calls[-1][1].route.top_k == 2
    (folder / "n.toml").write_text("[encode")
    code, _, err = run(capsys, *config, "encode", folder, "--bank", "b")
    assert code == 2
    assert one_line(err)


# --- ask


def test_ask(capsys, fake):
    code, out, err = run(
        capsys, "ask", "Who?", "--bank", "b", "--top-k", "2", "--labels", "a,b", "--labels", "c",
        "--without", "x", "--without", "y", "--mode", "hybrid", "--reroute",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "Ilse Maranth"
    assert "0.75 █████████░░░ The [red]workshop oskerby" in " ".join(out.split())
    assert "Ilse leads it." not in out
    assert fake.calls[0] == ("load", Path("b"), None)
    options = fake.calls[1][1]
    assert options.labels == ("a", "b", "c")
    assert options.without == ("x", "y")
    assert (options.mode, options.route.top_k, options.route.reroute) == ("hybrid", 2, True)


def test_the_question_may_come_last(capsys, fake):
    assert run(capsys, "ask", "--bank", "b", "--without", "x", "--labels", "a,b", "Who?")[0] == 0
    question, options = fake.calls[1]
    assert (question, options.without, options.labels) == ("Who?", ("x",), ("a", "b"))


def test_ask_defaults_are_those_of_python(capsys, fake):
    run(capsys, "ask", "Who?", "--bank", "b")
    assert fake.calls[1] == ("Who?", AnswerOptions())


def test_ask_json_is_the_answer_and_nothing_else(capsys, fake):
    code, out, err = run(capsys, "ask", "Who?", "--bank", "b", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == FIRED.to_json() | {"neurons": [dict(n) for n in FIRED.to_json()["neurons"]]}


def test_ask_says_when_no_neuron_fired(capsys, fake):
    fake.reply = SILENT
    assert NO_NEURON in run(capsys, "ask", "Who?", "--bank", "b")[1]
    fake.reply = Answer("Not stated.", "neurag", abstained=True)  # a neuron fired, and the answer says enough
    assert NO_NEURON not in run(capsys, "ask", "Who?", "--bank", "b")[1]


def test_ask_explain(capsys, fake):
    out = run(capsys, "ask", "Who?", "--bank", "b", "--explain")[1]
    assert "oskerby (0.75) was made from:\n  Ilse leads it." in out
    told = "0.51 s: prompt 0.20 (41 tokens), routing 0.010, writing 0.30; first token after 0.21"
    assert told in out


def test_ask_stream(capsys, fake):
    code, out, _ = run(capsys, "ask", "Who?", "--bank", "b", "--stream")
    assert code == 0
    assert out.splitlines()[0] == "Ilse Maranth"
    assert out.count("Ilse Maranth") == 1
    assert "oskerby" in out


def test_closed_book_needs_no_bank(capsys, fake):
    assert run(capsys, "ask", "Who?", "--mode", "closed")[0] == 0
    assert fake.calls[0] == ("load", None, None)


# --- bank (a fake store: the real one is tested in test_bank.py)


@pytest.fixture
def store(monkeypatch):
    array = SimpleNamespace(nbytes=1000)
    keys = type("Keys", (), {"nbytes": 500, "__len__": lambda self: 9})()
    row = SimpleNamespace(
        id="a#0", document_id="a", chunk_index=0, title="T [b]", text="Words.", start=3, end=9,
        source="a.txt", timestamp="", trust=None, labels=(), metadata={}, pairs=5, coverage=0.8, created="2026",
        recipe="r", content_hash="h", keys=keys, neuron=array, scale=array,
    )  # fmt: skip
    sizes = iter([2000, 1000])

    class Store:
        damaged = ()

        def __len__(self):
            return 7

        def info(self):
            return {"documents": 1, "bytes_on_disk": next(sizes), "model": "m"}

        def documents(self):
            return [Summary("a", "T [b]", "a.txt", "2026-01-01", ("x",), 1, 5, 0.8, 1500, "2026")]

        def get(self, document):
            return [row]

        def remove(self, documents):
            return len(documents) + 1

        def verify(self):
            return list(self.damaged)

        def compact(self):
            pass

    from neurag.knowledge.rows import DocumentSummary as Summary

    opened = Store()
    monkeypatch.setattr("neurag.knowledge.bank.Bank.open", lambda path: opened)
    return opened


def test_bank_info_and_list(capsys, store):
    assert "bytes on disk 2 kB" in " ".join(run(capsys, "bank", "info", "--bank", "b")[1].split())
    out = run(capsys, "bank", "list", "--bank", "b")[1]
    assert "T [b]" in out
    assert "1.5 kB" in out
    assert json.loads(run(capsys, "bank", "list", "--bank", "b", "--json")[1])[0]["pairs"] == 5


def test_bank_show(capsys, store):
    out = run(capsys, "bank", "show", "a", "--bank", "b")[1]
    assert "a#0  T [b]\na.txt, characters 3-9; 5 pairs cover 80%, 9 keys, 2.5 kB\n  Words." in out
    (told,) = json.loads(run(capsys, "bank", "show", "a", "--bank", "b", "--json")[1])
    assert (told["start"], told["end"], told["keys"], told["bytes"]) == (3, 9, 9, 2500)


def test_bank_remove(capsys, store):
    assert run(capsys, "bank", "remove", "a", "c", "--bank", "b")[1] == "removed 3 rows of 2 documents from b\n"
    assert json.loads(run(capsys, "bank", "remove", "a", "--bank", "b", "--json")[1]) == {"removed_rows": 2}


def test_bank_verify(capsys, store):
    assert run(capsys, "bank", "verify", "--bank", "b")[:2] == (0, "all 7 rows of b are what was written\n")
    store.damaged = ["a#0"]
    code, out, err = run(capsys, "bank", "verify", "--bank", "b", "--json")
    assert code == 1
    assert json.loads(out) == {"rows": 7, "damaged": ["a#0"]}
    assert one_line(err)


def test_bank_compact(capsys, store):
    told = json.loads(run(capsys, "bank", "compact", "--bank", "b", "--json")[1])
    assert told == {"bytes_before": 2000, "bytes_after": 1000}


# --- demo and progress


def test_demo(capsys, monkeypatch):
    seen = []

    @dataclass(frozen=True)
    class Result:
        model: str = "m"

    monkeypatch.setattr("neurag.demo.run.run_demo", lambda *call: seen.append(call) or Result())
    assert run(capsys, "demo", "--keep", "d")[0] == 0
    assert json.loads(run(capsys, "demo", "--json")[1]) == {"model": "m"}
    assert [(keep, model) for keep, _, model in seen] == [
        (Path("d"), DEFAULT_MODEL),
        (None, DEFAULT_MODEL),
    ]


def report(done):
    return SimpleNamespace(stage="training", done=done, total=9, documents_per_second=2.5, seconds_left=3.0)


@pytest.mark.parametrize(("every", "lines"), [(0.0, 2), (10.0, 0)])
def test_progress_without_a_terminal(capsys, every, lines):
    with EncodeProgress(every=every) as progress:
        progress(report(1))
        progress(report(2))
    err = capsys.readouterr().err.splitlines()
    assert len(err) == lines
    assert err[-1:] in ([], ["training: 2 of 9 chunks, 2.5 documents/s, 0:03 left"])


def test_progress_on_a_terminal():
    import io

    from rich.console import Console

    out = io.StringIO()
    with EncodeProgress(Console(file=out, force_terminal=True, width=100)) as progress:
        progress(report(4))
    assert "4/9" in out.getvalue()
    assert "0:03 left" in out.getvalue()


def asking(asked, speed=2.0):
    return Asking("neurag", asked % 10, 10, asked, 30, speed)


@pytest.mark.parametrize(("every", "lines"), [(0.0, 3), (10.0, 0)])
def test_progress_of_asking_without_a_terminal(capsys, every, lines):
    with EvalProgress(every=every) as progress:
        progress.asking(asking(8, speed=float("nan")))
        progress.asking(asking(12))
        progress(report(2))  # an evaluation also encodes, and both keep to one pace
    err = capsys.readouterr().err.splitlines()
    assert (
        err
        == [
            "asking: 8 of 30 questions, neurag 8/10, unknown time left",
            "asking: 12 of 30 questions, neurag 2/10, 2 questions/s, 0:09 left",
            "training: 2 of 9 chunks, 2.5 documents/s, 0:03 left",
        ][:lines]
    )


def test_progress_of_asking_on_a_terminal():
    import io

    from rich.console import Console

    out = io.StringIO()
    with EvalProgress(Console(file=out, force_terminal=True, width=100)) as progress:
        progress.asking(asking(12))
    assert "12/30" in out.getvalue()
    assert "neurag 2/10, 2 questions/s, 0:09 left" in out.getvalue()


def test_words():
    assert [clock(s) for s in (0, 61, 3661)] == ["0:00", "1:01", "1:01:01"]
    assert speed(SimpleNamespace(documents_per_second=0.0, seconds_left=float("inf"))).endswith("unknown time left")
    assert [size(n) for n in (0, 999, 1500, 4.2e6, 5e9, 5e12)] == [
        "0 B", "999 B", "1.5 kB", "4.2 MB", "5 GB", "5,000 GB",
    ]  # fmt: skip
