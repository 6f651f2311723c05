"""Documents that compete: who speaks, what each says alone, and what the answer tells of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from neurag.answer import Source
from neurag.config import AnswerOptions, EncodeOptions, RouteOptions, UsageError
from neurag.hyper_layer.conflicts import SIDES, agree, conflict, settle
from neurag.hyper_layer.layer import HyperLayer
from neurag.hyper_layer.routing import Router
from neurag.knowledge.pipeline import encode
from neurag.model import Model
from test_routing import batch, unit

OLD, NEW, COPY = (
    Source(name, "Fair", year, None) for name, year in [("old", "2023"), ("new", "2025"), ("copy", "2022")]
)


@pytest.mark.parametrize(
    ("given", "policy", "followed"),
    [
        ("It is at 14:00.", "newest", "at 14:00"),
        ("13:40", "newest", "13:40"),  # what was said counts, not what was meant to be
        ("at noon", "newest", "at 14:00"),  # sources begin with the one that leads
        ("at noon", "all", None),
    ],
)
def test_the_side_followed_is_the_one_that_was_said(given, policy, followed):
    told = conflict(["at 14:00", "13:40", "13:40 sharp"], [NEW, OLD, COPY], given, policy)
    assert [(side.answer, side.documents) for side in told.sides] == [("at 14:00", (NEW,)), ("13:40", (OLD, COPY))]
    assert next((side.answer for side in told.sides if side.followed), None) == followed
    assert sum(side.followed for side in told.sides) <= 1


@pytest.mark.parametrize(
    "answers",
    [("The 5 May 2012", "May 5, 2012."), ("Ada", "Ada Brindle"), ("13:40", "Not stated."), ("13:40", " ")],
)
def test_who_agrees_or_says_nothing_is_no_other_side(answers):
    assert conflict(answers, [OLD, NEW], answers[0], "newest") is None


def test_the_winner_stands_where_the_first_it_beats_stood():
    versions = np.array([[4.0, 0.0, 3.9, 4.1], [0.1, 5.0, 0.1, 0.1]])  # 0, 2 and 3 match the same, 1 something else
    assert settle([0, 1, 2, 3], versions, {0: "2020", 2: "2026", 3: "2022"}, 0.9) == [2, 1]
    assert settle([0, 1, 2, 3], versions, {0: "2020", 2: "2020"}, 0.9) == [0, 1, 2, 3]
    nothing = np.zeros((2, 3))  # who matches nothing is no version of anything
    assert settle([0, 1, 2], nothing, {0: "2020", 1: "2026"}, 0.9) == [0, 1, 2]


def routed(calibration, told, question, rows=2, **options):
    router = Router(calibration, RouteOptions(top_k=rows, link=0, **options))
    index = router.build([told])
    return router.route(index, torch.tensor(question, dtype=torch.float32))


def versions(width, count, others=0):
    """`count` versions of one thing, then rows about other words of the question."""
    q, noise = unit(4 + others, width), unit(count + others, 6, width, seed=1)
    rows = [np.concatenate([q[:4], noise[i]]) for i in range(count)]
    return q, [*rows, *(np.concatenate([q[4 + i : 5 + i], noise[count + i]]) for i in range(others))]


@pytest.mark.parametrize(("policy", "leads"), [("newest", 2), ("trusted", 1)], ids=["newest", "trusted"])
def test_policies_follow_the_documents_metadata(tiny_calibration, policy, leads):
    q, rows = versions(tiny_calibration.whiten.shape[1], 3)
    told = batch(rows, timestamps=["2023-01-01", "2024-01-01", "2026-01-01"])
    told = replace(told, trusts=[0.5, 0.9, 0.1])
    found = routed(tiny_calibration, told, q, rows=3, conflict=policy)
    assert found.rows == (leads,)
    assert found.contest[0] == leads
    assert set(found.contest) == {0, 1, 2}
    assert set(routed(tiny_calibration, told, q, rows=3, conflict="all").rows) == {0, 1, 2}


def test_an_unknown_policy_is_refused(tiny_calibration):
    with pytest.raises(UsageError, match="no policy 'oldest' on conflicts: choose among newest, trusted, all"):
        Router(tiny_calibration, RouteOptions(conflict="oldest"))


def test_the_newest_speaks_even_where_other_words_took_its_place_in_the_choice(tiny_calibration):
    q, rows = versions(tiny_calibration.whiten.shape[1], 2, others=3)
    times = ["2023-01-01", "2026-01-01", "", "", ""]
    found = routed(tiny_calibration, batch(rows, timestamps=times), q, rows=4, coverage=1.0)
    both = routed(tiny_calibration, batch(rows, timestamps=times), q, rows=4, coverage=1.0, conflict="all")
    lost = 1 - both.rows[0]
    assert lost not in both.rows  # so the choice alone would not have found the other version
    assert found.rows[0] == 1
    assert 0 not in found.rows
    assert set(both.contest) == set(found.contest) == {0, 1}


def test_chunks_of_one_document_do_not_compete_and_a_contest_has_few_sides(tiny_calibration):
    q, rows = versions(tiny_calibration.whiten.shape[1], 8)
    assert len(routed(tiny_calibration, batch(rows), q).contest) == SIDES
    assert routed(tiny_calibration, replace(batch(rows), document_ids=["d"] * 8), q).contest == ()
    two = replace(batch(rows), document_ids=[f"d{i % 2}" for i in range(8)])
    assert len(routed(tiny_calibration, two, q).contest) == 2


PLANTED = [
    {"id": "a-2023", "title": "Curfew", "text": "The curfew in Oskerby is at nine.", "timestamp": "2023-05-01"},
    {"id": "a-2026", "title": "Curfew", "text": "The curfew in Oskerby is at four.", "timestamp": "2026-05-01"},
    {"id": "a-2024", "title": "Curfew", "text": "The curfew in Oskerby is at five.", "timestamp": "2024-05-01"},
    {"id": "fair", "title": "The fair", "text": "Sixty geese walk to the spring fair.", "timestamp": "2027-01-01"},
]
QUESTION = "When is the curfew in Oskerby?"


@pytest.fixture(scope="module")
def model(model_of):
    return model_of(PLANTED, batch=4)


@pytest.fixture
def all_stated(monkeypatch):
    """A tiny model's answers are noise, which stands in no text."""
    monkeypatch.setattr("neurag.model.stated", lambda *_: True)


def asked(model, question=QUESTION, **options):
    route = RouteOptions(null=0.0, competing=0.5, conflict=options.pop("conflict", "newest"))
    return model.answer(question, AnswerOptions(max_new_tokens=6, route=route, **options))


def test_an_answer_names_what_each_document_says_alone(model, all_stated):
    answer = asked(model)
    told = answer.to_json()["conflict"]
    assert answer.neurons[0].doc_id == "a-2026"
    assert told["policy"] == "newest"
    named = {d["doc_id"]: (side["answer"], d["timestamp"]) for side in told["sides"] for d in side["documents"]}
    # a tiny model may have nothing to say of a document, and then that is no side
    speaking = {d["id"] for d in PLANTED[:3] if asked(model, force=((d["id"], 1.0),)).answer}
    assert len(speaking) >= 2 and speaking <= named.keys()
    for name, (said, timestamp) in named.items():
        alone = asked(model, force=((name, 1.0),))
        assert agree(said, alone.answer)
        assert timestamp == next(d["timestamp"] for d in PLANTED if d["id"] == name)
    assert set(told["sides"][0]) == {"answer", "documents", "followed"}
    assert set(told["sides"][0]["documents"][0]) == {"doc_id", "title", "timestamp", "trust"}


def test_what_stands_in_no_text_is_no_side(model):
    assert asked(model).conflict is None


def test_asking_again_changes_neither_the_answer_nor_what_is_remembered(model, all_stated):
    checked, plain = asked(model), asked(model, check_conflicts=False)
    assert plain.conflict is None
    assert checked.answer == plain.answer
    assert checked.neurons == plain.neurons
    assert "".join(model.stream(QUESTION, AnswerOptions(max_new_tokens=6))).strip() == model.last.answer
    answers = list(model.answers([QUESTION, "Who walks?"], AnswerOptions(max_new_tokens=6)))
    assert model.last is answers[-1]


@pytest.mark.parametrize(
    "options", [{"without": ("a-2023", "a-2024")}, {"force": (("a-2023", 1.0),)}, {"check_conflicts": False}]
)
def test_nothing_is_decoded_twice_where_nobody_competes(model, monkeypatch, options):
    asked_for = []
    active = HyperLayer.active
    monkeypatch.setattr(HyperLayer, "active", lambda self, f: asked_for.append(len(f)) or active(self, f))
    route = RouteOptions(null=0.0, competing=0.9)
    assert model.answer(QUESTION, AnswerOptions(max_new_tokens=3, route=route, **options)).conflict is None
    assert asked_for == [1]


def test_labels_keep_a_document_out_of_the_conflict_too(tmp_path, tiny, tiny_calibration, all_stated):
    secret = [PLANTED[0], PLANTED[1] | {"labels": ["board"]}, PLANTED[2]]
    encode(secret, tmp_path / "bank", options=EncodeOptions(steps=6, rank=4, batch=3), backbone=tiny)
    model = Model.load(bank=tmp_path / "bank", backbone=tiny)
    answer = asked(model, labels=())
    named = {d.doc_id for side in (answer.conflict.sides if answer.conflict else ()) for d in side.documents}
    assert "a-2026" not in named | {n.doc_id for n in answer.neurons}
    assert answer.neurons[0].doc_id == "a-2024"
