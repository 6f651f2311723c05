"""Intervals and tests, against hand counts and published values, and by what must not change them."""

import math
from dataclasses import replace
from statistics import NormalDist, fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurag.evaluation.statistics import Interval, Pair, bootstrap, compare, holm, mcnemar, paired_p, wilson

SHARES = st.sampled_from([0.0, 0.25, 0.4, 2 / 3, 1.0])
SCORES = st.dictionaries(st.sampled_from("abcdefghijkl"), SHARES, max_size=12)
P_VALUES = st.lists(st.floats(0, 1), max_size=8)


def tosses(only_a, only_b, both=5):
    return [1] * only_a + [0] * only_b + [1] * both, [0] * only_a + [1] * only_b + [1] * both


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (8, 1, 2 * (1 + 9) / 512),
        (2, 6, 2 * (1 + 8 + 28) / 256),
        (3, 3, 1.0),
        (3, 2, 1.0),
    ],
)
def test_mcnemar_counts_coin_tosses(only_a, only_b, p):
    assert mcnemar(*tosses(only_a, only_b)) == p
    assert mcnemar(*tosses(only_b, only_a, both=0)) == p


def test_mcnemar_takes_thousands():
    near = NormalDist().cdf(-(5150 - 4850 - 1) / math.sqrt(10_000))
    assert mcnemar(*tosses(5150, 4850)) == pytest.approx(2 * near, rel=0.01)
    assert 0 <= mcnemar(*tosses(6000, 0)) < 1e-300
    with pytest.raises(ValueError, match="got 2 and 1"):
        mcnemar([1, 0], [1])


# Newcombe 1998, table I, method 3, but for 0/10 and its mirror image, which are z²/(10 + z²)
@pytest.mark.parametrize(
    ("successes", "n", "interval"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
        (0, 10, (0, 0.2775)),
        (10, 10, (0.7225, 1)),
        (0, 0, (0, 1)),
    ],
)
def test_wilson(successes, n, interval):
    assert wilson(successes, n) == pytest.approx(interval, abs=5e-5)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_mirrors(counts):
    successes, n = counts
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low))
    wide = wilson(successes, n, level=0.99)
    assert wide[0] <= low
    assert high <= wide[1]


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="0 <= successes <= n"):
        wilson(successes, n)


def test_holm_by_hand():
    # sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, and the last is held up by the one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@given(P_VALUES)
def test_holm_keeps_the_order_and_lowers_nothing(ps):
    adjusted = holm(ps)
    assert all(p <= told <= 1 for p, told in zip(ps, adjusted, strict=True))
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)
    assert holm(ps[::-1]) == adjusted[::-1]


def test_bootstrap_is_defined_for_few_values():
    assert bootstrap([]) == Interval(0.0, -math.inf, math.inf)
    assert bootstrap([0.5]) == Interval(0.5, -math.inf, math.inf)
    assert bootstrap([0.5, 0.5]) == Interval(0.5, 0.5, 0.5)
    for wrong in ([math.nan], [[0.5, 0.5]]):
        with pytest.raises(ValueError, match="one finite value"):
            bootstrap(wrong)


def test_bootstrap_is_about_the_normal_interval():
    values = np.random.default_rng(3).normal(0.1, 1, 2000)
    told = bootstrap(values)
    half = 1.96 * values.std() / math.sqrt(2000)
    assert told.mean == pytest.approx(values.mean())
    assert (told.low, told.high) == pytest.approx((told.mean - half, told.mean + half), abs=0.1 * half)
    narrow = bootstrap(values, level=0.5)
    assert told.low < narrow.low < narrow.high < told.high


def test_bootstrap_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(300):
        told = bootstrap(rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=120), samples=600)
        held += told.low <= 0.2 <= told.high
    low, high = wilson(held, 300, level=0.999)
    assert low <= 0.95 <= high


def test_the_seed_decides():
    values = np.random.default_rng(5).normal(size=50)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values) != bootstrap(values, seed=1)
    assert paired_p(values) == paired_p(values)
    assert paired_p(values) != paired_p(values, seed=1)


def test_many_questions_are_taken_in_pieces(monkeypatch):
    values = np.random.default_rng(6).normal(0.05, 1, 400)
    whole, p = bootstrap(values), paired_p(values)
    monkeypatch.setattr("neurag.evaluation.statistics._CELLS", 1000)
    pieces = bootstrap(values)
    assert (pieces.low, pieces.high) == pytest.approx((whole.low, whole.high), abs=0.01)
    assert paired_p(values) == pytest.approx(p, abs=0.03)


def test_paired_p_is_the_share_of_sign_flips():
    # of the 32 ways to sign five values, only all plus and all minus reach the sum
    assert paired_p([0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx(2 / 32, abs=0.01)
    # |sum| of 0.1, 0.2, 0.3 is at least 0.4 in 4 of 8; rounding must not lose those that equal it
    assert paired_p([0.3, 0.2, -0.1]) == pytest.approx(4 / 8, abs=0.02)
    assert paired_p([]) == paired_p([0.0, 0.0]) == 1.0
    assert paired_p(np.ones(60), draws=99) == 0.01


@pytest.mark.parametrize(("only_a", "only_b"), [(30, 14), (9, 9), (12, 3)])
def test_paired_p_comes_near_the_exact_test(only_a, only_b):
    a, b = tosses(only_a, only_b)
    assert paired_p(np.subtract(a, b)) == pytest.approx(mcnemar(a, b), abs=0.02)


def test_paired_p_is_below_a_level_as_rarely_as_it_says():
    rng = np.random.default_rng(7)
    below = sum(paired_p(rng.normal(size=30), draws=400) < 0.1 for _ in range(300))
    low, high = wilson(below, 300, level=0.999)
    assert low <= 0.1 <= high


@settings(max_examples=30, deadline=None)
@given(SCORES, SCORES)
def test_swapping_systems_turns_the_sign_and_keeps_p(a, b):
    there, back = compare("a", a, "b", b, "f1"), compare("b", b, "a", a, "f1")
    assert back.difference == pytest.approx(-there.difference)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert (back.p, back.n) == (there.p, there.n)


@settings(max_examples=30, deadline=None)
@given(SCORES, SCORES, st.randoms())
def test_neither_order_nor_unshared_questions_change_a_pair(a, b, random):
    shuffled = random.sample(list(b.items()), len(b))
    shared = {i: a[i] for i in a if i in b}
    assert compare("a", shared, "b", dict(shuffled), "f1") == compare("a", a, "b", b, "f1")


def test_compare_takes_the_shared_questions_and_the_fitting_test():
    a = {f"q{i}": float(i < 8) for i in range(20)} | {"only a": 0.0}
    b = {f"q{i}": float(i == 8) for i in range(20)} | {"only b": 0.0}
    pair = compare("ours", a, "theirs", b, "match")
    assert (pair.a, pair.b, pair.metric, pair.n) == ("ours", "theirs", "match", 20)
    assert pair.difference == pytest.approx(7 / 20)
    assert pair.p == 2 * (1 + 9) / 512
    a["q0"] = 0.9
    values = [a[f"q{i}"] - b[f"q{i}"] for i in range(20)]
    assert compare("ours", a, "theirs", b, "f1", seed=3).p == paired_p(values, seed=3)
    assert compare("ours", a, "theirs", b, "f1").difference == pytest.approx(fmean(values))


CLEAR = Pair("neurag", "rag-bm25", "match", 0.041, 0.012, 0.07, 0.013, 500)


@pytest.mark.parametrize(
    ("pair", "line"),
    [
        (CLEAR, "neurag - rag-bm25: +4.1 [1.2, 7.0], n=500 (p=0.013)"),
        (replace(CLEAR, p=0.0001), "neurag - rag-bm25: +4.1 [1.2, 7.0], n=500 (p<0.001)"),
        (
            replace(CLEAR, difference=-0.0004, low=-0.03, p=0.9),
            "neurag - rag-bm25: +0.0 [-3.0, 7.0], n=500 (p=0.900), no clear difference",
        ),
        (replace(CLEAR, p=0.06), "neurag - rag-bm25: +4.1 [1.2, 7.0], n=500 (p=0.060), no clear difference"),
        (replace(CLEAR, low=0.0), "neurag - rag-bm25: +4.1 [0.0, 7.0], n=500 (p=0.013), no clear difference"),
        (replace(CLEAR, n=0), "neurag - rag-bm25: no questions in common"),
    ],
)
def test_verdict(pair, line):
    assert pair.verdict() == line


def test_few_questions_are_never_a_clear_difference():
    # all four differ the same way: the interval is a point, but four heads in a row are no rarity
    pair = compare("a", dict.fromkeys("wxyz", 1.0), "b", dict.fromkeys("wxyz", 0.0), "match")
    assert (pair.low, pair.high, pair.p) == (1, 1, 0.125)
    assert pair.verdict().endswith("no clear difference")
