"""Questions answered side by side get the answers they get alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neurag.config import AnswerOptions, EncodeOptions, RouteOptions, UsageError
from neurag.decoding import decode
from neurag.hyper_layer.layer import HyperLayer
from neurag.knowledge.pipeline import encode
from neurag.model import Model

DOCUMENTS = [
    {"id": "mill", "title": "The mill", "text": "The mill in Oskerby is run by Ada Brindle."},
    {"id": "inn", "title": "The inn", "text": "The inn on Saltpan Lane belongs to Bo Hask."},
    {"id": "fair", "title": "The fair", "text": "The fair opens on 9 April with 60 geese."},
]
QUESTIONS = [
    "Who runs the mill?",
    "Whose is the inn on Saltpan Lane, the one near the harbour?",
    "When?",
    "How many geese are at the fair on 9 April?",
    "Is there a cat?",
]


@pytest.fixture(scope="module")
def model(model_of):
    return model_of(DOCUMENTS, batch=3)


def told(answer):
    return answer.answer, answer.abstained, [(n.doc_id, n.weight) for n in answer.neurons], answer.timing.prompt_tokens


@pytest.mark.parametrize("mode", ["closed", "rag", "neurag", "hybrid"])
def test_together_is_as_alone(model, mode):
    options = AnswerOptions(mode=mode, passages=1, max_new_tokens=12)
    alone = [told(model.answer(q, options)) for q in QUESTIONS]
    together = [told(a) for a in model.answers(QUESTIONS, options, batch=3)]
    assert together == alone
    assert len({a[3] for a in alone}) > 2  # so rows were padded


def test_every_question_has_its_own_neurons(model):
    options = [AnswerOptions(force=((d["id"], 1.0),), max_new_tokens=8) for d in DOCUMENTS]
    options.append(AnswerOptions(without=("mill", "inn", "fair"), max_new_tokens=8))
    asked = [QUESTIONS[0]] * 4
    alone = [told(model.answer(q, o)) for q, o in zip(asked, options, strict=True)]
    assert [told(a) for a in model.answers(asked, options)] == alone
    assert [[n for n, _ in a[2]] for a in alone] == [["mill"], ["inn"], ["fair"], []]


def test_rerouting_side_by_side(model, monkeypatch):
    moved = []
    move_on = HyperLayer._move_on

    def watched(self, firing, hidden):
        before = firing.routed
        move_on(self, firing, hidden)
        moved.append(firing.routed is not before)

    monkeypatch.setattr(HyperLayer, "_move_on", watched)
    options = AnswerOptions(route=RouteOptions(reroute=True, hysteresis=-1.0, null=-1.0, decay=0.3), max_new_tokens=10)
    alone = [told(model.answer(q, options)) for q in QUESTIONS]
    assert any(moved)
    assert [told(a) for a in model.answers(QUESTIONS, options)] == alone


def test_an_answer_that_ends_takes_its_neuron_with_it(model, monkeypatch):
    """The others' neurons stay with their rows when a row in front of them leaves."""
    options = [AnswerOptions(force=((d["id"], 1.0),), max_new_tokens=12, weigh=False) for d in DOCUMENTS]
    seen = []

    def watched(*args, **kwargs):
        for step in decode(*args, **kwargs):
            seen.append(step)
            yield step

    monkeypatch.setattr("neurag.model.decode", watched)
    list(model.answers(QUESTIONS[:3], options))
    first = next(s.tokens[s.rows.index(0)] for s in seen[3:] if 0 in s.rows)  # what row 0 says in its fourth step
    monkeypatch.setitem(vars(model.backbone), "stop_ids", frozenset({first}))
    alone = [told(model.answer(q, o)) for q, o in zip(QUESTIONS, options, strict=False)]
    seen.clear()
    assert [told(a) for a in model.answers(QUESTIONS[:3], options)] == alone
    assert any(0 < len(s.going) < len(s.rows) for s in seen)


def test_questions_of_different_modes_do_not_go_together(model):
    with pytest.raises(UsageError, match="same mode"):
        list(model.answers(QUESTIONS[:2], [AnswerOptions(mode="closed"), AnswerOptions(mode="rag")]))
    assert list(model.answers([])) == []
    for wrong in ({"batch": 0}, {"options": [AnswerOptions()]}):
        with pytest.raises(UsageError):
            list(model.answers(QUESTIONS, **wrong))
    with pytest.raises(UsageError, match="list"):
        list(model.answers("Who?"))


def test_rows_that_end_leave_and_the_others_go_on_as_before(tiny):
    prompts = [tiny.tokenizer(q).input_ids for q in QUESTIONS[:3]]

    def write(rows, backbone=tiny):
        out = {row: [] for row in range(len(rows))}
        for step in decode(backbone, rows, 20):
            for row, token in zip(step.rows, step.tokens, strict=True):
                out[row].append(token)
        return out

    whole = write(prompts)
    first = whole[1][4]  # ends wherever this token comes
    stopping = replace(tiny)
    vars(stopping)["stop_ids"] = tiny.stop_ids | {first}  # a cached property
    cut = write(prompts, stopping)
    for row, tokens in whole.items():
        end = tokens.index(first) + 1 if first in tokens else len(tokens)
        assert cut[row] == tokens[:end]


def test_room_for_one_hot_neuron_changes_no_answer(model, monkeypatch):
    """Neurons are read while the layers below the band run, and may have left memory when another question's arrive."""
    from neurag.hyper_layer import layer

    options = AnswerOptions(route=RouteOptions(null=0.0, temperature=0.5), max_new_tokens=6)
    usual = [told(a) for a in model.answers(QUESTIONS, options)]
    assert any(len(a[2]) > 1 for a in usual)
    monkeypatch.setattr(layer, "HOT_NEURONS", 1)
    asked = Model(model.backbone, model.bank)
    for _ in range(2):
        assert [told(a) for a in asked.answers(QUESTIONS, options)] == usual
    assert len(asked._layers[options.route]._hot) == 1


@pytest.mark.parametrize("reroute", [False, True])
def test_an_answer_names_the_order_of_documents_where_asked(model, reroute):
    route = RouteOptions(reroute=reroute, hysteresis=-1.0, null=-1.0)
    plain = AnswerOptions(route=route, max_new_tokens=10)
    for question in QUESTIONS:
        answer = model.answer(question, AnswerOptions(route=route, max_new_tokens=10, ranked=2))
        assert answer.ranked[:1] == tuple(n.doc_id for n in answer.neurons[:1])
        assert len(set(answer.ranked)) == 2
        assert told(answer) == told(model.answer(question, plain))
    assert "ranked" not in answer.to_json()
    assert model.answer(QUESTIONS[0], plain).ranked == ()


@pytest.mark.parametrize(("said", "abstained"), [("Not stated.", True), (" not stated", True), ("It is stated", False)])
def test_saying_that_it_is_not_stated_is_abstaining(tiny, said, abstained):
    plain = Model(tiny)
    reply = plain._reply("Who runs the mill?", AnswerOptions(mode="closed"))
    reply.shown = said
    assert plain._answer(reply).abstained is abstained


def test_where_the_passages_do_not_say_it_the_neurons_answer(model, monkeypatch):
    question, force = QUESTIONS[0], (("mill", 1.0),)
    hybrid = AnswerOptions(mode="hybrid", passages=1, max_new_tokens=8, force=force)
    read = model.answer(question, hybrid).answer
    known = model.answer(question, replace(hybrid, mode="neurag")).answer
    assert read != known
    monkeypatch.setattr("neurag.reply.declines", lambda text: text.strip() == read)
    first, other = model.answers([question, QUESTIONS[1]], hybrid)
    assert (first.answer, first.abstained, first.mode) == (known, False, "hybrid")
    assert other.answer not in (read, known)
    pieces = list(model.stream(question, hybrid))
    assert "".join(pieces).strip() == model.last.answer == known
    for place in ("neurag.reply.declines", "neurag.model.declines"):
        monkeypatch.setattr(place, lambda text: True)
    assert model.answer(question, hybrid).abstained  # neither has anything to say


def test_a_forced_document_speaks_with_all_its_chunks(tmp_path, tiny, tiny_calibration):
    text = "The mill in Oskerby is run by Ada Brindle. " * 4 + "The inn on Saltpan Lane belongs to Bo Hask. " * 4
    encode([{"id": "long", "text": text}], tmp_path / "bank", options=EncodeOptions(steps=2, rank=4, chunk_tokens=200),
           backbone=tiny)  # fmt: skip
    model = Model.load(bank=tmp_path / "bank", backbone=tiny)
    answer = model.answer("Who runs the mill in Oskerby?", AnswerOptions(force=(("long", 0.5),), max_new_tokens=2))
    weights = [neuron.weight for neuron in answer.neurons]
    assert len(weights) > 1
    assert max(weights) == 0.5
    assert "mill" in answer.neurons[weights.index(0.5)].text
