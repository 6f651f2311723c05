"""What the Hyper-Layer may and may not change in a forward pass, and what an answer says about it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from neurag.config import AnswerOptions, EncodeOptions, RouteOptions, UsageError
from neurag.hooks import read_input
from neurag.hyper_layer.layer import random_like
from neurag.knowledge.pipeline import encode
from neurag.model import Model

DOCUMENTS = [
    {
        "id": "mill",
        "title": "The mill",
        "text": "The mill in Oskerby is run by Ada Brindle.",
        "labels": ["a"],
    },
    {"id": "inn", "title": "The inn", "text": "The inn on Saltpan Lane belongs to Bo Hask.", "labels": ["b"]},
    {"id": "fair", "title": "The fair", "text": "The fair opens on 9 April with 60 geese."},
]
TINY = EncodeOptions(steps=6, rank=4, batch=2)


@pytest.fixture(scope="module")
def bank(tmp_path_factory, tiny, tiny_calibration):
    path = tmp_path_factory.mktemp("hl") / "bank"
    encode(DOCUMENTS, path, options=TINY, backbone=tiny)
    return path


@pytest.fixture(scope="module")
def model(bank, tiny):
    return Model.load(bank=bank, backbone=tiny)


def logits(model, options, question="Who runs the mill in Oskerby?", weigh=False):
    options, seen = replace(options, weigh=weigh), []
    head = model.backbone.part(model.backbone.family.head)
    hook = head.register_forward_hook(lambda _, __, out: seen.append(out.detach().clone()))
    try:
        model.answer(question, options)
    finally:
        hook.remove()
    return torch.cat([x[:, -1] for x in seen])


def test_with_nothing_firing_logits_are_the_backbones_bit_for_bit(model):
    closed = logits(model, AnswerOptions(mode="closed", max_new_tokens=6))
    silent = AnswerOptions(mode="neurag", max_new_tokens=6, route=RouteOptions(null=9.0, temperature=1e-3))
    hidden = AnswerOptions(mode="neurag", max_new_tokens=6, without=("mill", "inn", "fair"))
    for weigh in (False, True):
        assert torch.equal(closed, logits(model, silent, weigh=weigh))
        assert torch.equal(closed, logits(model, hidden, weigh=weigh))
    fired = logits(model, AnswerOptions(mode="neurag", max_new_tokens=6, force=(("mill", 1.0),)))
    assert not torch.equal(closed[:1], fired[:1])
    assert torch.equal(closed, logits(model, AnswerOptions(mode="closed", max_new_tokens=6)))  # hooks are gone


def test_the_prompt_is_processed_once_and_only_its_last_position_changes(model):
    shapes, states = [], {}
    last = model.backbone.layers[-1]

    def run(options):
        kept = []
        with (
            read_input(model.backbone.layers[0], lambda x: shapes.append(x.shape[1])),
            read_input(last, kept.append),
        ):
            answer = model.answer("Who runs the mill?", options)
        return kept[0], answer

    states["closed"], answer = run(AnswerOptions(mode="closed", max_new_tokens=4))
    states["fired"], _ = run(AnswerOptions(mode="neurag", max_new_tokens=4, force=(("inn", 1.0),)))
    assert [s for s in shapes if s > 1] == [answer.timing.prompt_tokens] * 2
    assert torch.equal(states["closed"][:, :-1], states["fired"][:, :-1])
    assert not torch.equal(states["closed"][:, -1], states["fired"][:, -1])


def test_labels_and_without_hide_neurons_before_scoring(model):
    def fired(**kwargs):
        return {n.doc_id for n in model.answer("mill inn fair", _loose(**kwargs)).neurons}

    assert fired() == {"mill", "inn", "fair"}
    assert fired(labels=("b",)) == {"inn", "fair"}
    assert fired(labels=()) == {"fair"}
    assert fired(without=("fair", "inn")) == {"mill"}


def _loose(**kwargs):
    return AnswerOptions(max_new_tokens=2, route=RouteOptions(null=-1.0, temperature=5.0), **kwargs)


def test_answer_names_its_neurons_and_streams_the_same_text(model):
    start = time.perf_counter()
    answer = model.answer("Who runs the mill in Oskerby?")
    wall = time.perf_counter() - start
    streamed = "".join(model.stream("Who runs the mill in Oskerby?"))
    assert streamed.strip() == answer.answer
    told = answer.to_json()
    assert set(told) == {"answer", "abstained", "mode", "neurons", "conflict", "timing", "confidence"}
    if told["neurons"]:
        assert set(told["neurons"][0]) == {"doc_id", "title", "weight", "text"}
    assert told["timing"]["prompt_tokens"] > 10
    assert set(told["timing"]) == {"prefill_s", "routing_s", "decode_s", "prompt_tokens"}
    assert min(told["timing"][part] for part in ("prefill_s", "routing_s")) > 0
    assert 0 < answer.timing.first_token_s <= answer.timing.total_s <= wall


def test_empty_bank_of_visible_rows_abstains(model):
    answer = model.answer("Who runs the mill?", AnswerOptions(without=("mill", "inn", "fair"), max_new_tokens=2))
    assert answer.abstained
    assert answer.neurons == ()


def test_modes_that_need_a_bank_say_so(tiny):
    plain = Model.load(backbone=tiny)
    assert plain.answer("Who?", AnswerOptions(mode="closed", max_new_tokens=2)).mode == "closed"
    with pytest.raises(UsageError, match="needs a bank"):
        plain.answer("Who?")


def test_rag_pastes_passages_and_hybrid_does_both(model):
    closed = model.answer("Who runs the mill?", AnswerOptions(mode="closed", max_new_tokens=2))
    rag = model.answer("Who runs the mill?", AnswerOptions(mode="rag", passages=1, max_new_tokens=2))
    hybrid = model.answer(
        "Who runs the mill?",
        AnswerOptions(mode="hybrid", passages=1, max_new_tokens=2, force=(("mill", 1.0),)),
    )
    assert rag.timing.prompt_tokens == hybrid.timing.prompt_tokens > closed.timing.prompt_tokens + 30
    assert [n.doc_id for n in hybrid.neurons] == ["mill"]


def test_rerouting_runs_and_keeps_the_first_choice_as_provenance(model):
    route = RouteOptions(reroute=True, hysteresis=-1.0, null=-1.0)
    moving = model.answer("Who runs the mill?", AnswerOptions(route=route, max_new_tokens=8))
    still = model.answer("Who runs the mill?", AnswerOptions(route=RouteOptions(null=-1.0), max_new_tokens=8))
    assert [n.doc_id for n in moving.neurons] == [n.doc_id for n in still.neurons]


def test_forced_random_neuron_has_the_norm_of_a_real_one():
    neuron = torch.randn(3, 4, 8) * torch.tensor([1.0, 5.0, 0.1])[:, None, None]
    drawn = random_like(neuron, 1)
    torch.testing.assert_close(drawn.norm(dim=(1, 2)), neuron.norm(dim=(1, 2)))
    assert not torch.allclose(drawn, neuron)
