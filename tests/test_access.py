"""Access: a document that a request may not see changes nothing, not the last bit of a number."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from neurag.config import RANDOM, AnswerOptions, EncodeOptions, RouteOptions
from neurag.hyper_layer.coarse import CoarseKeys
from neurag.hyper_layer.held_keys import HeldKeys
from neurag.hyper_layer.layer import _allowed
from neurag.hyper_layer.routing import Router, RoutingIndex
from neurag.knowledge.bank import Bank
from neurag.knowledge.pipeline import encode
from neurag.model import Model
from test_hyper_layer import logits
from test_routing import batch, unit

LABELS = ("board", "staff", "press", "guest")
NOUNS = "mill inn fair bridge tower forge well barn quay chapel market school".split()
PLACES = "Oskerby Saltpan Varnstead Hollin".split()
DOCUMENTS = [
    {
        "id": f"{noun}-{n}",
        "title": f"The {noun}",
        "text": f"The {noun} in {PLACES[n % 4]} is run by {PLACES[(n + place) % 4]} Brindle.",
        "labels": [label for bit, label in enumerate(LABELS) if (7 * place + 5 * n) >> bit & 1],
        "timestamp": f"202{(place + 3 * n) % 7}-01-01",
    }
    for place, noun in enumerate(NOUNS)
    for n in range(2)
]
LOOSE = {"null": 0.0, "temperature": 0.3, "competing": 0.6}
REQUESTS = 1000


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny, tiny_calibration):
    path = tmp_path_factory.mktemp("access") / "bank"
    encode(DOCUMENTS, path, options=EncodeOptions(steps=3, rank=4, batch=12), backbone=tiny)
    return Model.load(bank=path, backbone=tiny)


def requests(count, seed=0):
    """Random questions and label sets: the labels a request holds, and documents it does without."""
    drawn = random.Random(seed)
    for _ in range(count):
        held = tuple(label for label in LABELS if drawn.random() < 0.4)
        without = tuple(d["id"] for d in DOCUMENTS if drawn.random() < 0.1)
        yield f"Who runs the {drawn.choice(NOUNS)} in {drawn.choice(PLACES)}?", held, without


def visible(held, without):
    """What the labels mean, written without the code under test."""
    return [not (d["id"] in without or (d["labels"] and not set(held) & set(d["labels"]))) for d in DOCUMENTS]


def kept(index, rows):
    """The index of a bank that never had the other rows."""
    pick = np.flatnonzero(rows)
    held = index.keys
    lengths = np.diff(held.starts)[pick]
    keys = HeldKeys.of([held.rows(pick).float().numpy()], [lengths], held.width, held.dtype, whole=True)
    openings = type(index.openings)(index.openings.keys[pick], index.openings.lengths[pick])
    columns = (index.ids, index.document_ids, index.labels, index.timestamps, index.trusts)
    told = [[column[row] for row in pick] for column in columns]
    return RoutingIndex(*told, keys, index.coarse, openings)  # so few rows are scored exactly


def test_hidden_documents_change_no_bit_of_what_is_chosen_and_fused(model):
    """1,000 random requests against banks that never had the hidden documents: the same rows, scores, contests and
    fused neurons, bit for bit."""
    layer = model._layer(RouteOptions(**LOOSE))
    index = layer.index
    assert index.document_ids == [d["id"] for d in DOCUMENTS]
    states, fired = {}, 0
    drawn = torch.randn(len(index), 2, 4, 8, generator=torch.Generator().manual_seed(1))
    neuron = dict(zip(index.ids, drawn, strict=True))
    for question, held, without in requests(REQUESTS):
        if question not in states:
            reply = model._reply(question, AnswerOptions(max_new_tokens=1))
            list(model._write([reply]))
            states[question] = reply.firing.states
        seen = visible(held, without)
        own = kept(index, seen)
        filtered = layer.router.route(index, states[question], _allowed(index, held, without))
        alone = layer.router.route(own, states[question])
        named = [index.ids[row] for row in filtered.rows]
        assert named == [own.ids[row] for row in alone.rows]
        assert (filtered.scores, filtered.weights) == (alone.scores, alone.weights)
        assert [index.ids[row] for row in filtered.contest] == [own.ids[row] for row in alone.contest]
        if named:
            neurons = [neuron[name] for name in named]
            assert torch.equal(layer._fuse(neurons, filtered.weights), layer._fuse(neurons, alone.weights))
            fired += 1
    assert fired > REQUESTS // 2


def test_logits_are_those_of_a_bank_without_the_hidden_documents(model, tiny, tmp_path):
    for number, (question, held, without) in enumerate(requests(6, seed=1)):
        path = tmp_path / str(number)
        shutil.copytree(model.bank.path, path)
        seen = visible(held, without)
        Bank.open(path).remove([d["id"] for d, shown in zip(DOCUMENTS, seen, strict=True) if not shown])
        route = RouteOptions(**LOOSE, reroute=number % 2 == 1, hysteresis=-1.0)
        options = AnswerOptions(max_new_tokens=4, route=route)
        whole = logits(model, AnswerOptions(max_new_tokens=4, route=route, labels=held, without=without), question)
        other = Model.load(bank=path, backbone=tiny)
        assert torch.equal(whole, logits(other, options, question))
        told = [
            m.answer(question, replace(options, explain=True, **sees))
            for m, sees in ((model, {"labels": held, "without": without}), (other, {}))
        ]
        assert (told[0].conflict, told[0].explanation) == (told[1].conflict, told[1].explanation)
        assert not torch.equal(whole[:1], logits(model, AnswerOptions(mode="closed", max_new_tokens=1), question))


@pytest.mark.parametrize("forced", ["mill-1", RANDOM])
def test_a_forced_neuron_is_one_that_the_request_may_see(model, tiny, tmp_path, forced):
    first = DOCUMENTS[0]["id"]  # whose neuron a random one would be like, in the whole bank
    seen = visible(("staff",), (first,))
    hidden = [d["id"] for d, shown in zip(DOCUMENTS, seen, strict=True) if not shown]
    assert "mill-1" in hidden
    shutil.copytree(model.bank.path, tmp_path / "bank")
    Bank.open(tmp_path / "bank").remove(hidden)
    options = {"force": ((forced, 1.0),), "max_new_tokens": 3}
    question = "Who runs the mill in Oskerby?"
    whole = logits(model, AnswerOptions(labels=("staff",), without=(first,), **options), question)
    less = logits(Model.load(bank=tmp_path / "bank", backbone=tiny), AnswerOptions(**options), question)
    assert torch.equal(whole, less)
    closed = logits(model, AnswerOptions(mode="closed", max_new_tokens=1), question)
    assert torch.equal(whole[:1], closed) is (forced != RANDOM)  # a hidden document cannot be forced, noise can


def test_no_hidden_row_is_ever_a_candidate_of_the_index(tiny_calibration, monkeypatch):
    width, count = tiny_calibration.whiten.shape[1], 120
    router = Router(tiny_calibration, RouteOptions(exact_below=10, candidates=24, **LOOSE))
    index = router.build([batch([unit(12, width, seed=i) for i in range(count)])])
    drawn, found = np.random.default_rng(0), []
    candidates = CoarseKeys.candidates
    monkeypatch.setattr(CoarseKeys, "candidates", lambda *given: found.append(candidates(*given)) or found[-1])
    for _ in range(REQUESTS // 5):
        allowed = drawn.random(count) < drawn.choice([0.12, 0.5, 0.9])
        hidden = np.flatnonzero(~allowed)
        target = index.keys.row(int(drawn.choice(hidden)))[:5].float()  # asks for the very words of a hidden row
        chosen = router.route(index, target, allowed)
        assert not set(chosen.rows) & set(hidden.tolist())
        if allowed.sum() > 10:
            assert not set(found[-1].tolist()) & set(hidden.tolist())
    assert len(found) > REQUESTS // 10


def test_an_unlabelled_request_sees_everything_and_an_empty_one_only_what_has_no_label(model):
    index = model._layer(RouteOptions()).index
    assert _allowed(index, None, ()) is None
    assert _allowed(index, (), ()).tolist() == [not d["labels"] for d in DOCUMENTS]
