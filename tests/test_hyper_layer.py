"""Routing arithmetic, and what the Hyper-Layer may and may not change in a forward pass."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurag.config import AnswerOptions, EncodeOptions, RouteOptions, UsageError
from neurag.hooks import read_input
from neurag.hyper_layer.coarse import KEYS, CoarseKeys, _maximum
from neurag.hyper_layer.fusion import RULES, fuse
from neurag.hyper_layer.layer import random_like
from neurag.hyper_layer.links import Openings
from neurag.hyper_layer.routing import Routed, Router
from neurag.knowledge.bank import IndexBatch
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


def logits(model, options, question="Who runs the mill in Oskerby?"):
    seen = []
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
    assert torch.equal(closed, logits(model, silent))
    assert torch.equal(closed, logits(model, hidden))
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
    assert set(told) == {"answer", "abstained", "mode", "neurons", "conflict", "timing"}
    if told["neurons"]:
        assert set(told["neurons"][0]) == {"doc_id", "title", "weight", "text"}
    assert told["timing"]["prompt_tokens"] > 10
    assert 0 < told["timing"]["first_token_s"] <= told["timing"]["total_s"] <= wall
    assert min(told["timing"][part] for part in ("prepare_s", "prefill_s", "routing_s")) > 0


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


def test_fusing_neurons_is_fusing_their_outputs():
    a, b, x = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.randn(5, 3)
    fused = fuse([a, b], RULES["unit_scale"]((1.0, 0.3)))
    torch.testing.assert_close(x @ fused[0], x @ a[0] + 0.3 * (x @ b[0]))
    assert RULES["sum"]((0.2, 0.1)) == (1.0, 1.0)
    assert RULES["mean"]((1.0, 1.0)) == (0.5, 0.5)


def batch(keys, ids=None, timestamps=None):
    lengths = np.array([len(k) for k in keys])
    return IndexBatch(
        ids=ids or [f"d{i}#0" for i in range(len(keys))],
        document_ids=[f"d{i}" for i in range(len(keys))],
        labels=[()] * len(keys), timestamps=timestamps or [""] * len(keys), trusts=[None] * len(keys),
        lengths=lengths, keys=np.concatenate(keys).astype(np.float16),
        positions=np.concatenate([np.arange(n) for n in lengths]).astype(np.uint16),
    )  # fmt: skip


def unit(*shape, seed=0):
    made = np.random.default_rng(seed).normal(size=shape)
    return made / np.linalg.norm(made, axis=-1, keepdims=True)


def test_a_second_document_is_chosen_for_what_the_first_leaves_unmatched(tiny_calibration):
    width = tiny_calibration.whiten.shape[1]
    q, noise = unit(4, width), unit(3, 6, width, seed=1)
    rows = [
        np.concatenate([q[:3], noise[0]]),
        np.concatenate([q[:2], noise[1]]),
        np.concatenate([q[3:], noise[2]]),
    ]

    def order(coverage):
        router = Router(tiny_calibration, RouteOptions(top_k=2, coverage=coverage, link=0))
        return router.route(router.build([batch(rows)]), torch.tensor(q, dtype=torch.float32)).rows

    assert order(0.9) == (0, 2)
    assert order(0.0) == (0, 1)


def test_a_word_the_first_document_matches_in_part_is_still_looked_for(tiny_calibration, monkeypatch):
    from neurag.knowledge import chance

    width = tiny_calibration.whiten.shape[1]
    q, noise = unit(4, width), unit(3, 6, width, seed=1)
    near = 0.8 * q[3:] + 0.6 * noise[0][:1]  # another name that looks like the fourth word
    rows = [
        np.concatenate([q[:3], near / np.linalg.norm(near), noise[0]]),
        np.concatenate([q[:2], noise[1]]),
        np.concatenate([q[3:], noise[2]]),
    ]

    def order():
        router = Router(tiny_calibration, RouteOptions(top_k=2, coverage=0.8, link=0))
        return router.route(router.build([batch(rows)]), torch.tensor(q, dtype=torch.float32)).rows

    assert order() == (0, 2)
    monkeypatch.setattr(chance, "PARTIAL", 0)
    assert order() == (0, 1)


@pytest.mark.parametrize(
    ("link", "same", "expected"), [(0.2, False, (0, 2)), (0.0, False, (0, 1)), (0.2, True, (0, 1))]
)
def test_a_document_the_first_one_mentions_comes_before_one_that_matches_a_little_more(
    tiny_calibration, link, same, expected
):
    width = tiny_calibration.whiten.shape[1]
    q, subject, noise = unit(8, width), unit(8, width, seed=5), unit(3, 9, width, seed=1)
    rows = [
        np.concatenate([noise[0], q[:5], subject]),  # matches the question best, and mentions the subject at its end
        np.concatenate([noise[1], q[6:7]]),
        np.concatenate([subject, noise[2]]),  # begins with the subject, and matches nothing
    ]
    told = batch(rows)
    if same:  # of the first document itself: chunks of one document all have its title
        told = replace(told, document_ids=["d0", "d1", "d0"])
    router = Router(tiny_calibration, RouteOptions(top_k=2, link=link))
    routed = router.route(router.build([told]), torch.tensor(q, dtype=torch.float32))
    assert routed.rows == expected


def test_openings_are_the_first_tokens_wherever_they_stand_among_the_keys():
    keys = torch.tensor(unit(30, 16), dtype=torch.float32)
    starts = np.array([0, 20, 20, 23, 30])  # one row is empty, one shorter than an opening
    positions = np.concatenate([np.arange(n)[::-1] for n in np.diff(starts)]).astype(np.uint16)
    openings = Openings.of(keys, positions, starts)
    assert torch.equal(openings.keys[0, :8], keys[12:20].flip(0))
    assert torch.equal(openings.keys[2, :3], keys[20:23].flip(0))
    told = openings.mentioned(keys[20:23], np.array([1, 2, 3]))
    assert told[:2] == pytest.approx([0.0, 1.0], abs=1e-5)
    assert told[2] < 0.9


def test_keys_that_resemble_each_other_are_one_coarse_key():
    names = unit(KEYS, 48, seed=3)[:, :32]
    names /= np.linalg.norm(names, axis=1, keepdims=True)
    alike = np.repeat(names, 3, axis=0) + 0.02 * unit(3 * KEYS, 32, seed=4)
    lone = unit(1, 32, seed=9)
    keys = torch.tensor(np.concatenate([alike, lone]), dtype=torch.float32)
    made = CoarseKeys.of(keys, np.array([0, len(alike), len(keys)])).keys
    similar = torch.tensor(names, dtype=torch.float32) @ made[:, 0].T
    assert similar.amax(1).min() > 0.95  # all names are there: a third of the keys would be lost otherwise
    assert torch.allclose(made[0, 1], keys[-1], atol=1e-5)
    assert not made[1:, 1].any()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_scores_do_not_depend_on_the_other_documents(tiny_calibration, seed):
    width = tiny_calibration.whiten.shape[1]
    rows = [unit(5 + i, width, seed=seed + i) for i in range(6)]
    q = torch.tensor(unit(4, width, seed=seed + 99), dtype=torch.float32)
    router = Router(tiny_calibration, RouteOptions(top_k=1))
    every = router.route(router.build([batch(rows)]), q)
    alone = router.route(router.build([batch([rows[every.rows[0]]])]), q)
    assert every.scores == pytest.approx(alone.scores, abs=1e-5)


def test_the_coarse_pass_keeps_an_exact_match_among_many_rows(tiny_calibration):
    width = tiny_calibration.whiten.shape[1]
    rows = [unit(20, width, seed=i) for i in range(400)]
    router = Router(tiny_calibration, RouteOptions(top_k=1, exact_below=10, candidates=20))
    index = router.build([batch(rows)])
    found = [router.route(index, torch.tensor(rows[i][:4], dtype=torch.float32)).rows[0] for i in range(0, 400, 37)]
    assert found == list(range(0, 400, 37))


def test_the_coarse_pass_keeps_places_for_what_the_best_row_leaves_unmatched():
    width = 48
    q = unit(6, width)
    crowd = [np.concatenate([q[:4], unit(16, width, seed=100 + i)]) for i in range(60)]
    rows = [*crowd, np.concatenate([q[5:], unit(19, width, seed=7)])]
    keys = torch.tensor(np.concatenate(rows), dtype=torch.float32)
    coarse = CoarseKeys.of(keys, np.arange(len(rows) + 1) * 20)
    states, telling = torch.tensor(q, dtype=torch.float32), torch.ones(6)
    assert 60 in coarse.candidates(states, telling, np.arange(61), 8)
    assert 60 not in coarse.candidates(states, telling, np.arange(60), 8)  # only what may be seen
    assert list(coarse.candidates(states, telling, np.array([3, 60]), 8)) == [3, 60]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([torch.float32, torch.bfloat16]))
def test_the_halved_maximum_is_the_maximum_from_zero_up(seed, dtype):
    values = torch.randn(KEYS, 7, 3, generator=torch.Generator().manual_seed(seed)).to(dtype)
    values[:, 0] = -values[:, 0].abs()
    expected = values.amax(0).clamp(min=0)
    assert torch.equal(_maximum(values).clamp(min=0), expected)


def test_weights_are_one_for_a_clear_leader_and_fade_below_the_null():
    assert Routed((3,), (0.5,), (1.0,)).abstained is False
    assert Routed((3,), (0.1,), (0.2,)).abstained is True
    assert Routed((), (), ()).abstained is True


@pytest.mark.parametrize(("conflict", "expected"), [("newest", {1, 2}), ("all", {0, 1, 2})])
def test_of_two_versions_the_newest_speaks_and_other_documents_are_left_alone(tiny_calibration, conflict, expected):
    width = tiny_calibration.whiten.shape[1]
    q, noise = unit(4, width), unit(3, 6, width, seed=1)
    rows = [np.concatenate([q[:3], noise[0]]), np.concatenate([q[:3], noise[1]]), np.concatenate([q[3:], noise[2]])]
    router = Router(tiny_calibration, RouteOptions(top_k=3, conflict=conflict))
    index = router.build([batch(rows, timestamps=["2023-01-01", "2026-01-01", "2020-01-01"])])
    assert set(router.route(index, torch.tensor(q, dtype=torch.float32)).rows) == expected
