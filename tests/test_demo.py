"""The demo with a fake model: its figures, its controls, and what it prints."""

import io
import sys
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console

from neurag.answer import Answer, FiredNeuron, Timing
from neurag.app.show import DemoScreen
from neurag.config import NeuragError
from neurag.demo.corpus import Question, load_documents, load_questions
from neurag.demo.run import RANDOM, STREAMED, run_demo, systems, wrong_documents
from neurag.evaluation.metrics import match

DOCUMENTS, QUESTIONS = load_documents(), load_questions()
ANSWERABLE = [q for q in QUESTIONS if q.answers]
BY_TEXT = {q.question: q for q in QUESTIONS}


class FakeModel:
    """Right in mode neurag unless two documents are needed, in mode rag for one document, in mode hybrid always."""

    last = None

    @classmethod
    def load(cls, bank, backbone):
        assert bank.exists()
        return cls()

    def answer(self, question, options=None):
        told = BY_TEXT[question]
        mode = options.mode if options else "neurag"
        plain = mode == "neurag" and not (options and (options.force or options.without))
        if mode == "hybrid":
            return Answer(told.answers[0], mode, timing=Timing(prompt_tokens=300))
        if not plain and mode != "rag":
            return Answer("no idea", mode, timing=Timing(prompt_tokens=30))
        if mode == "rag":
            text = told.answers[0] if told.type == "single" else "no idea"
            return Answer(text, mode, timing=Timing(prompt_tokens=300))
        if not told.answers:
            return Answer("made up", mode, abstained=told.id == "kit-designer")
        gold = FiredNeuron(told.docs[0], "Gold", 0.7, "text")
        other = FiredNeuron("canteen", "Other", 0.9 if told.type == "conflict" else 0.2, "text")
        right = told.type != "two_documents"
        return Answer(told.answers[0] if right else "?", mode, neurons=(gold, other), timing=Timing(prompt_tokens=30))

    def answers(self, questions, options, batch):
        assert len(questions) == len(options) <= batch
        yield from map(self.answer, questions, options)

    def stream(self, question, options=None):
        self.last = self.answer(question, options)
        yield from (self.last.answer[:3], self.last.answer[3:])


def fake_encode(documents, bank, model, progress, backbone):
    bank.mkdir(parents=True, exist_ok=True)
    count = len(list(documents))
    progress(SimpleNamespace(stage="training", done=1, total=2, documents_per_second=1.0, seconds_left=1.0))
    return SimpleNamespace(documents=count, chunks=count, seconds=12.0)


def fake_backbone(model):
    weights = SimpleNamespace(numel=lambda: 135_000_000)
    return SimpleNamespace(name=model, device="cpu", model=SimpleNamespace(parameters=lambda: [weights]))


@pytest.fixture
def fakes(monkeypatch):
    for name, attributes in {
        "neurag.model": {"Model": FakeModel},
        "neurag.knowledge.pipeline": {"encode": fake_encode},
        "neurag.loading": {"load_backbone": fake_backbone},
    }.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def shown(fakes, tmp_path):
    out, err = io.StringIO(), io.StringIO()
    screen = DemoScreen(Console(file=out, width=120), Console(file=err, width=120))
    result = run_demo(tmp_path / "kept", screen)
    return result, " ".join(out.getvalue().split()), err.getvalue()


def test_corpus():
    assert len(DOCUMENTS) == 36
    assert len(QUESTIONS) == 40
    assert set(STREAMED) <= {q.id for q in QUESTIONS}


def test_figures(shown):
    result, _, _ = shown
    assert [s.name for s in result.scores] == [
        "closed book",
        "RAG (BM25 top-3)",
        "NeuRAG",
        "hybrid (both)",
        "wrong-document neuron",
        "random neuron",
        "empty bank",
    ]
    assert {s.questions for s in result.scores} == {35}
    assert [round(s.match * 35) for s in result.scores] == [0, 26, 29, 35, 0, 0, 0]
    assert [s.prompt_tokens for s in result.scores] == [30, 300, 30, 300, 30, 30, 30]
    assert (result.unanswerable, result.abstained) == (5, 0.2)
    assert result.routing.among_fired == 1
    # the strongest neuron is the other one at the 3 questions about documents that disagree, and at one
    # question the "other" one is gold itself
    assert round(result.routing.first * 35) == 32
    assert (result.routing.wrong_unfired, result.routing.wrong_fired) == (0, 6)
    kinds = {k.kind: (k.questions, k.neurag, k.rag, k.hybrid) for k in result.kinds}
    assert kinds == {
        "one document": (26, 1, 1, 1),
        "two documents": (6, 0, 0, 1),
        "documents that disagree": (3, 1, 0, 1),
    }


def test_what_is_printed(shown, tmp_path):
    _, text, errors = shown
    assert "smollm2-135m-instruct+task, 135 million parameters, on cpu" in text
    assert "36 neurons from 36 documents in 12 s." in text
    assert "gold answer: Ottoline Prewse (from founding)" in text
    assert "system match seconds per question prompt tokens" in text
    assert "NeuRAG was right in 83% of 35 questions, more often than RAG (74%)" in text
    assert "(hybrid) it was 100%" in text
    assert "weakest on questions about two documents: 0% of 6" in text
    assert "declined to answer 20% of them" in text
    assert (tmp_path / "kept").is_dir()
    assert errors == ""  # no terminal: nothing in the first ten seconds


def test_temporary_bank_is_thrown_away(fakes, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run_demo(None, DemoScreen(Console(file=io.StringIO()), Console(file=io.StringIO())))
    assert list(tmp_path.iterdir()) == []


def test_controls():
    told = {s.name: s.options(ANSWERABLE[0]) for s in systems(DOCUMENTS, ANSWERABLE)}
    assert told["random neuron"].force == ((RANDOM, 1.0),)
    assert set(told["empty bank"].without) == {d.id for d in DOCUMENTS}
    assert told["wrong-document neuron"].force == (("ysolde-farranby", 1.0),)  # five places further
    assert told["RAG (BM25 top-3)"].passages == 3


def test_wrong_documents_are_wrong():
    texts = {d.id: d.text for d in DOCUMENTS}
    wrong = wrong_documents(DOCUMENTS, ANSWERABLE)
    assert set(wrong) == {q.id for q in ANSWERABLE}
    for question in ANSWERABLE:
        assert wrong[question.id] not in question.docs
        assert not match(texts[wrong[question.id]], question.answers)


def test_no_wrong_document():
    only = Question("one", "Who?", ("Ottoline Prewse",), ("founding",), "single")
    with pytest.raises(NeuragError, match="'one'"):
        wrong_documents(DOCUMENTS, [only])
