"""Routing: scores, coverage, links, versions, and the coarse pass, on keys made for the purpose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurag.config import RouteOptions
from neurag.hyper_layer.coarse import KEYS, CoarseKeys, _maximum, block, pooled
from neurag.hyper_layer.held_keys import HeldKeys
from neurag.hyper_layer.links import Openings
from neurag.hyper_layer.routing import Routed, Router
from neurag.knowledge.bank import IndexBatch
from neurag.knowledge.key_codes import pack


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
    made = pooled(keys, np.array([0, len(alike), len(keys)]), torch.float32)
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


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=4), st.data())
def test_keys_held_as_codes_are_those_held_unpacked(lengths, data):
    """Whatever the batches: empty ones, rows without keys, any rows in any order."""
    width, counts = 6, [np.array(batch, np.int64) for batch in lengths]
    parts = [pack(unit(int(batch.sum()), width, seed=n)) for n, batch in enumerate(counts)]
    coded, whole = (HeldKeys.of(parts, counts, width, torch.float32, whole=one) for one in (False, True))
    assert (coded.whole, whole.parts) == (None, ())  # neither holds both
    assert len(coded) == len(whole) == sum(map(len, lengths))
    wanted = data.draw(st.lists(st.sampled_from(range(len(whole))), max_size=6)) if len(whole) else []
    assert torch.equal(coded.rows(np.array(wanted, int)), whole.rows(np.array(wanted, int)))
    assert [len(coded.row(row)) for row in range(len(coded))] == [n for batch in lengths for n in batch]


def test_a_large_bank_routes_as_a_small_one_does(tiny_calibration):
    """Rows in one batch or several, keys unpacked at once or row by row: the same choice, where none is left out."""
    width = tiny_calibration.whiten.shape[1]
    rows = [unit(20, width, seed=i) for i in range(30)]
    told = [replace(batch(part), keys=pack(np.concatenate(part))) for part in (rows[:11], rows[11:12], rows[12:])]
    router = Router(tiny_calibration, RouteOptions(exact_below=30))
    large = Router(tiny_calibration, RouteOptions(exact_below=29, candidates=30))
    whole, parted = router.build([replace(batch(rows), keys=pack(np.concatenate(rows)))]), large.build(told)
    assert whole.keys.whole is not None and parted.keys.whole is None
    for seed in range(0, 30, 7):
        q = torch.tensor(np.concatenate([rows[seed][:3], unit(2, width, seed=99)]), dtype=torch.float32)
        one, other = router.route(whole, q), large.route(parted, q)
        assert one.rows == other.rows
        assert one.scores == pytest.approx(other.scores, abs=1e-6)


def test_the_coarse_pass_keeps_places_for_what_the_best_row_leaves_unmatched():
    width = 48
    q = unit(6, width)
    crowd = [np.concatenate([q[:4], unit(16, width, seed=100 + i)]) for i in range(60)]
    rows = [*crowd, np.concatenate([q[5:], unit(19, width, seed=7)])]
    keys = torch.tensor(np.concatenate(rows), dtype=torch.float32)
    coarse = CoarseKeys((block(keys, np.arange(len(rows) + 1) * 20, torch.float32),))
    states, telling = torch.tensor(q, dtype=torch.float32), torch.ones(6)
    assert 60 in coarse.candidates(states, telling, np.arange(61), 8)
    assert 60 not in coarse.candidates(states, telling, np.arange(60), 8)  # only what may be seen
    assert list(coarse.candidates(states, telling, np.array([3, 60]), 8)) == [3, 60]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([torch.float32, torch.bfloat16]))
def test_the_fast_maximum_is_the_maximum_from_zero_up(seed, dtype):
    values = torch.randn(3, KEYS, 7, generator=torch.Generator().manual_seed(seed)).to(dtype)
    values[..., 0] = -values[..., 0].abs()
    expected = values.amax(1).clamp(min=0)
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
