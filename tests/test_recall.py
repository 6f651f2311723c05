"""What neurons were taught is kept, found again by where a question lies, and weighed."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from conftest import units_of
from neurag.app.cli import main
from neurag.app.show import show_answer
from neurag.branching import begin
from neurag.config import AnswerOptions, NeuragError, RouteOptions, UsageError
from neurag.hyper_layer.recall import NEAREST, candidates, chosen, silent_reads
from neurag.knowledge.learned import Learned
from neurag.knowledge.lessons import places
from neurag.loading import WEIGHING_FILE, load_backbone
from neurag.prompts import question_prompt
from neurag.tasks.options import WeighingOptions
from neurag.tasks.weighing import Choice, train_weigher
from neurag.weigher import NUMBERS, Weigher
from neurag.words import words

DOCUMENTS = [
    {"id": "mill", "title": "The mill", "text": "Geese sleep late. The mill in Oskerby is run by Ada Brindle."},
    {"id": "inn", "title": "The inn", "text": "The inn on Saltpan Lane opened in 1987 and belongs to Bo Hask."},
]
QUESTION = "Who runs the mill in Oskerby?"


@pytest.fixture(scope="module")
def model(model_of):
    return model_of(DOCUMENTS, batch=2)


def weigher_of(**numbers):
    """One that likes what the numbers say, nearly linearly."""
    weight = np.array([[numbers.get(name, 0.0) * 1e-3 for name in NUMBERS]])
    return Weigher(weight, np.zeros(1), np.ones(1), np.zeros(len(NUMBERS) + 3), 0.0)


@given(st.lists(st.tuples(st.text(), st.text(), st.booleans()), max_size=5), st.integers(1, 7))
def test_what_was_learned_comes_back_as_it_was(told, width):
    questions, answers, written = zip(*told, strict=True) if told else ((), (), ())
    reads = np.random.default_rng(0).normal(size=(len(told), width)).astype(np.float16)
    lessons, codes = Learned(questions, answers, written, reads).packed()
    back = Learned.unpacked(lessons, codes, width)
    assert (back.questions, back.answers, back.written) == (questions, answers, written)
    assert back.reads.shape == reads.shape
    assert len(back) == len(told)


def test_a_bank_knows_what_its_neurons_were_taught(model):
    for document in DOCUMENTS:
        (row,) = model.bank.get(document["id"])
        told = row.learned
        assert len(told) > 0
        assert all(answer in document["text"] for answer in told.answers)
        assert not any(told.written)  # a random model writes no sound question
        assert np.linalg.norm(told.reads.astype(np.float32), axis=1) == pytest.approx(1, abs=0.01)
        assert model.bank.texts([row.id])[row.id].learned.questions == told.questions
    assert model.bank.verify() == []


def test_a_lesson_lies_where_its_question_is_read(model):
    """The encoder's reading of a lesson, four bits a number, is that of the same question when it is asked."""
    layer = model._layer(RouteOptions())
    (row,) = model.bank.get("mill")
    for question, kept in zip(row.learned.questions, row.learned.reads, strict=True):
        ids = list(question_prompt(model.backbone, question).ids)
        units = units_of(model.backbone, ids)[list(layer.space.layers), -1]
        read = torch.stack([layer.space.read(place, own) for place, own in enumerate(units)])
        alone = places(read[None])[0]
        assert float(alone @ torch.from_numpy(kept).float()) > 0.98
        prompts = [ids, list(question_prompt(model.backbone, "Why so?").ids)]
        torch.testing.assert_close(silent_reads(layer, begin(model.backbone, prompts))[0], alone, atol=1e-3, rtol=0)


def test_nothing_changes_when_a_question_is_read_in_silence(model, monkeypatch):
    options = AnswerOptions(max_new_tokens=6, force=(("mill", 1.0),))
    answer = model.answer(QUESTION, options)
    monkeypatch.setattr("neurag.model.silent_reads", lambda layer, begun: torch.zeros(len(begun.last), 8))
    assert model.answer(QUESTION, options).answer == answer.answer  # without a weigher, reads decide nothing


def considered(model, question=QUESTION, **force):
    options = AnswerOptions(max_new_tokens=6, force=tuple(force.items()), check_conflicts=False)
    return next(model.considered([question], [options]))[0]


def test_answers_of_the_nearest_lessons_are_considered(model):
    (row,) = model.bank.get("mill")
    asked, answer = row.learned.questions[0], row.learned.answers[0]
    found = considered(model, asked, mill=1.0)
    assert found[0].begun
    assert len([one for one in found if not one.begun]) <= NEAREST
    assert len({" ".join(words(one.text)) for one in found}) == len(found)
    by_near = max(found, key=lambda one: one.told[NUMBERS.index("near")])
    assert words(by_near.text) == words(answer)
    told = dict(zip(NUMBERS, by_near.told, strict=True))
    assert (told["learned"], told["heard"], told["near_written"]) == (1, 1, min(told["near_written"], told["near"]))
    assert all(one.told[0] <= found[0].told[0] or one.begun for one in found)
    assert {words(one.text)[0] for one in considered(model, asked, inn=1.0) if not one.begun} <= set(
        words(DOCUMENTS[1]["text"])
    )


def test_a_weigher_decides(model, monkeypatch):
    backbone = model.backbone
    options = AnswerOptions(max_new_tokens=12, force=(("mill", 1.0),), check_conflicts=False)
    (row,) = model.bank.get("mill")
    for question, answer in zip(row.learned.questions, row.learned.answers, strict=True):
        monkeypatch.setattr(model, "backbone", replace(backbone, weigher=weigher_of(near=1.0)))
        told = model.answer(question, replace(options, explain=True))
        assert words(told.answer) == words(answer)
        assert len(told.explanation.answer) == len(told.explanation.neurons[0].weights)
    monkeypatch.setattr(model, "backbone", replace(backbone, weigher=weigher_of(begun=1.0)))
    greedy = model.answer(QUESTION, replace(options, weigh=False)).answer
    assert model.answer(QUESTION, options).answer == greedy


def test_where_no_text_is_heard_the_likeliest_is_said(model):
    layer = model._layer(RouteOptions())
    reply = model._reply(QUESTION, AnswerOptions(max_new_tokens=4, force=(("*random*", 1.0),)))
    model._complete([reply])
    assert reply.considered == []
    assert candidates(layer, reply.firing, QUESTION, torch.zeros(8), []) == []


def made_choices(count=60, seed=0):
    """Right is what lies nearest, but for answers that no neuron began: a line alone cannot tell."""
    drawn = np.random.default_rng(seed)
    made = []
    for number in range(count):
        told = drawn.normal(size=(int(drawn.integers(2, 6)), len(NUMBERS)))
        right = told[:, NUMBERS.index("near")].argmax()
        made.append(Choice(tuple(map(tuple, told)), tuple(n == right for n in range(len(told))), f"d{number // 2}"))
    return made


def test_a_weigher_learns_what_is_right_and_says_how_well(tmp_path):
    weigher, report = train_weigher(made_choices(150), WeighingOptions(steps=120))
    assert report.any == 1
    assert report.chosen > report.first + 0.2
    unseen = made_choices(seed=1)
    assert np.mean([one.right[int(weigher.worth(one.told).argmax())] for one in unseen]) > 0.8
    again, _ = train_weigher(made_choices(150), WeighingOptions(steps=120))
    assert (again.weight == weigher.weight).all()
    assert (weigher.sure, report.noticed) == (0, 0)  # nothing was asked freely
    weigher.save(tmp_path / WEIGHING_FILE)
    kept = Weigher.load(tmp_path / WEIGHING_FILE)
    told = made_choices()[0].told
    np.testing.assert_allclose(kept.worth(told), weigher.worth(told), atol=1e-3)
    found = [type("One", (), {"told": one})() for one in told]
    assert chosen(found, kept, 0.5)[0] is found[int(kept.worth(told).argmax())]


def test_it_learns_when_an_answer_is_wrong():
    """Where the document is missing nothing lies near; a few right answers do not either, and may be lost."""
    drawn = np.random.default_rng(3)
    near, made = NUMBERS.index("near"), []
    for number, choice in enumerate(made_choices(200)):
        there = number % 2 == 0
        told = np.array(choice.told)
        told[:, near] += 3.0 if there and number % 50 else -3.0
        right = tuple(there and one for one in choice.right)
        made.append(Choice(tuple(map(tuple, told)), right, choice.document, there, float(drawn.random())))
    weigher, report = train_weigher(made, WeighingOptions(lost=0.05))
    assert report.lost <= 0.05
    assert report.noticed > 0.9
    assert report.questions == 100
    least = made[2].told, made[3].told
    sure, unsure = (weigher.chosen(told, 0.5)[1] for told in least)
    assert unsure < weigher.sure <= sure
    strict, _ = train_weigher(made, WeighingOptions(lost=0.0))
    assert strict.sure < weigher.sure


def test_documents_an_adapter_saw_teach_to_choose_and_not_to_trust():
    drawn = np.random.default_rng(5)
    own = [replace(choice, score=float(drawn.random())) for choice in made_choices(120)]
    seen = [replace(choice, seen=True, document=f"seen {choice.document}") for choice in own]
    alone, report = train_weigher(own, WeighingOptions())
    both, told = train_weigher([*own, *seen], WeighingOptions())
    assert (told.questions, report.questions) == (120, 120)
    assert (alone.weight != both.weight).any()
    with pytest.raises(UsageError, match="0 documents have a right answer"):
        train_weigher(seen, WeighingOptions())


def test_an_unsure_answer_counts_as_none(model, monkeypatch):
    options = AnswerOptions(max_new_tokens=6, check_conflicts=False)
    doubtful = replace(weigher_of(near=1.0), sure=0.6)  # trust is zero: every answer is half likely
    monkeypatch.setattr(model, "backbone", replace(model.backbone, weigher=doubtful))
    told = model.answer(QUESTION, options)
    assert (told.confidence, told.abstained) == (0.5, True)
    assert told.answer
    assert told.to_json()["confidence"] == 0.5
    assert not model.answer(QUESTION, replace(options, sure=0.4)).abstained
    assert not model.answer(QUESTION, replace(options, force=(("mill", 1.0),))).abstained
    console = Console(file=io.StringIO())
    show_answer(console, told)
    assert "take this as a guess (50% likely right)" in console.file.getvalue()


def test_too_few_questions_are_refused():
    with pytest.raises(UsageError, match="2 documents have a right answer, too few for 5 folds"):
        train_weigher(made_choices(4), WeighingOptions())
    with pytest.raises(UsageError, match="--folds must be at least 2"):
        WeighingOptions(folds=1)


@pytest.mark.parametrize("spoilt", ["", "{}", '{"numbers": ["likelihood"], "weight": [[1]], "bias": [0], "out": [1]}'])
def test_a_spoilt_weigher_is_refused(tmp_path, spoilt):
    (tmp_path / WEIGHING_FILE).write_text(spoilt)
    with pytest.raises(NeuragError, match="train weighing again"):
        Weigher.load(tmp_path / WEIGHING_FILE)


def test_the_command_trains_a_weigher_that_is_used(tiny_folder, tmp_path, capsys):
    names = "Ada Bo Rut Per Eva Ole Kim Liv Jan Mia".split()
    documents = [{"id": name, "text": f"The house {name.lower()}gard belongs to {name}."} for name in names]
    rows = [
        {"id": str(n), "question": f"Who owns {doc['id'].lower()}gard?", "answers": [doc["id"]], "type": "t",
         "source": "s", "docs": [{**doc, "title": "", "relevant": True}]}
        for n, doc in enumerate(documents)
    ]  # fmt: skip
    for path, told in (("docs.jsonl", documents), ("rows.jsonl", rows)):
        (tmp_path / path).write_text("".join(json.dumps(one) + "\n" for one in told))
    bank = ["--bank", str(tmp_path / "bank")]
    flags = ["--model", str(tiny_folder), "--steps", "2", "--rank", "4"]
    assert main(["encode", str(tmp_path / "docs.jsonl"), *bank, *flags]) == 0
    out = tmp_path / "adapter"
    assert main(["train-weighing", str(tmp_path / "rows.jsonl"), *bank, "-o", str(out), "--folds", "2"]) == 0
    assert "20 questions right" in capsys.readouterr().err
    assert load_backbone(f"{tiny_folder}+{out}").weigher is not None
    (tmp_path / "rows.jsonl").write_text(json.dumps({**rows[0], "docs": []}) + "\n")
    assert main(["train-weighing", str(tmp_path / "rows.jsonl"), *bank, "-o", str(out)]) == 2
