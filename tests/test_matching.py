"""Sentences asked back, and passages matched with their questions: each prompt counts alone, right ones are right."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import units_of
from neurag.knowledge.candidates import Candidate, find_candidates
from neurag.knowledge.checks import checks
from neurag.knowledge.coverage import coverage
from neurag.knowledge.echoes import LETTERS, apart, ask_back
from neurag.prompts import question_prompt
from neurag.tasks.examples import TaskRow
from neurag.tasks.matching import AROUND, LONGEST, SEGMENTS, UnitSpace, _groups, match_loss, matches
from neurag.tasks.training import _dealt

MILL = (("Oskerby", "The mill of Oskerby (opened 1987) is run by Ilse Maranth. It grinds 40 tonnes a day for bakers."),)
CARROW = (
    ("Carrow", "The market of Carrow is held on Sundays. Bo Hask sells eels there, and Ada Brindle sells baskets."),
)
ROWS = [
    TaskRow(MILL, "When did the mill open?", "1987"),
    TaskRow(MILL, "Who runs the mill?", "Ilse Maranth"),
    TaskRow(MILL, "Who built the bridge?", None),
    TaskRow((*MILL, *CARROW), "Who sells eels?", "Bo Hask"),
    TaskRow(CARROW, "When is the market held?", "on Sundays"),
]


@pytest.mark.parametrize(
    ("answer", "kind", "sentence", "asked"),
    [
        ("Ilse Maranth", "name", "It is run by Ilse Maranth.", "It is run by who or what?"),
        ("1987", "number", "The mill (1987) stands.", "The mill (what number) stands?"),
        ("40 tonnes", "number", "It grinds 40 tonnes a day.", "It grinds how many tonnes a day?"),
        ("Oskerby", "name", "Oskerby's mill.", "Who or what's mill?"),
        ("x", "tail", "x", "What?"),
        ("2", "number", "In 12 games he scored 2.", "In 12 games he scored what number?"),
        ("about 40 tonnes", "number", "It grinds about 40 tonnes.", "It grinds what number?"),
    ],
)
def test_a_sentence_is_asked_back(answer, kind, sentence, asked):
    assert ask_back(Candidate(answer, sentence, kind), 9) == asked


@pytest.mark.parametrize(
    ("earlier", "sentence", "asked"),
    [
        (
            "Ilse Maranth runs the mill.",
            "She was born in Oskerby.",
            "Ilse Maranth runs the mill. She was born in what?",
        ),
        ("Its head, Bo, is old!", "His wife lives in Oskerby.", "Its head, Bo, is old. His wife lives in what?"),
        ("Bo Hask sells eels.", "The mill stands in Oskerby.", "The mill stands in what?"),  # says all itself
        ("", "She was born in Oskerby.", "She was born in what?"),
        ("Bo is old.", "She " + "very " * 9 + "much likes Oskerby.", "Very " + "very " * 6 + "much likes what?"),
    ],
)
def test_a_sentence_that_points_back_is_asked_with_the_one_before(earlier, sentence, asked):
    assert ask_back(Candidate("Oskerby", sentence, "phrase"), 9, earlier) == asked


def test_an_answer_is_checked_with_its_value_and_with_another():
    mill, fire = (
        Candidate("1987", "The mill opened in 1987.", "number"),
        Candidate("1923", "Bo left in 1923.", "number"),
    )
    head = Candidate("Ilse Maranth", "Ilse Maranth runs the mill.", "name")
    she = Candidate("1950", "She was born in 1950.", "number")
    both = {"Is it true that the mill opened in 1987?": "yes", "Is it true that the mill opened in 1923?": "no"}
    assert checks([mill, fire, head, she], 1, 9) == both
    told = checks([mill, fire, head, she], 9, 9)
    assert list(told.items())[:2] == list(both.items())
    assert "Is it true that Bo left in 1950?" in told  # a name keeps its capital
    assert not any("She" in asked or "Ilse" in asked for asked in told)  # who is she? and there is no other name
    assert checks([mill, fire], 0, 9) == checks([head], 9, 9) == {}
    twice = Candidate("12", "Of 12 men 15 left.", "number"), Candidate("15", "Of 12 men 15 left.", "number")
    assert checks(twice, 9, 9) == {}  # "15 men" would be no other value of that sentence


def test_answers_that_are_asked_back_share_no_words():
    sentence, other = "The third generation has a port for Ada Pell.", "A third port was made in 1987."
    told = [
        ("third", sentence, -2.0), ("third generation", sentence, -2.5), ("generation has a port", sentence, -4.0),
        ("third", other, -3.0), ("Ada Pell", sentence, -1.0), ("port for Ada Pell", sentence, -3.0),
    ]  # fmt: skip
    kept = apart([Candidate(answer, where, "phrase", score) for answer, where, score in told])
    assert [(c.answer, c.sentence) for c in kept] == [
        ("third generation", sentence),  # nearly as likely as what it holds
        ("third", other),
        ("Ada Pell", sentence),  # far more likely than what holds it
    ]


def test_a_long_sentence_is_cut_around_the_answer():
    words = [f"w{n}" for n in range(60)]
    told = ask_back(Candidate("w30", " ".join(words) + ".", "phrase"), AROUND)
    assert told == f"W{30 - AROUND} " + " ".join([*words[31 - AROUND : 30], "what", *words[31 : 31 + AROUND]]) + "?"


def test_a_sentence_without_spaces_is_cut_too():
    assert len(ask_back(Candidate("山", "水" * 500 + "山" + "火" * 500, "phrase"), 9)) < 18 * LETTERS + 10


@pytest.mark.parametrize(
    ("text", "answer", "share"),
    [
        ("The mill opened in 1987.", "1987", (0.3, 1)),
        ("Anna's mill burned in 1987\u20131990.", "1987\u20131990", (0.3, 1)),
        ("It is Oskerby's mill.", "Oskerby's mill", (0.5, 1)),
        ("The mill opened in 1987.", "Carrow", (0, 0)),
        ("", "x", (0, 0)),
    ],
)
def test_coverage_counts_what_is_answered(text, answer, share):
    assert share[0] <= coverage(text, [answer]) <= share[1]


@settings(deadline=None)
@given(st.text(min_size=1, max_size=200))
def test_any_candidate_can_be_asked_back(text):
    for candidate in find_candidates(text, 8):
        assert ask_back(candidate, 9, "Bo is old.").endswith("?")
    assert set(checks(find_candidates(text, 8), 4, 9).values()) <= {"yes", "no"}


def test_questions_meet_the_sentences_with_their_answers(tiny):
    mill, carrow = matches(tiny, ROWS, seed=0)
    assert len(mill.questions) == 2  # not the one without an answer
    assert len(carrow.questions) == 1  # not the one about two passages
    for one in (mill, carrow):
        assert 2 <= len(one.echoes) <= 10
    for asked, right in zip(("opened", "run"), mill.right, strict=True):
        told = [tiny.tokenizer.decode(mill.echoes[n]) for n in right]
        assert told
        assert all(asked in one for one in told)
    assert matches(tiny, ROWS, seed=0) == [mill, carrow]
    assert matches(tiny, ROWS[2:3], seed=0) == []


def test_an_answer_that_is_no_candidate_is_asked_back_too(tiny):
    row = TaskRow(MILL, "What does the mill do?", "grinds 40 tonnes a day for")
    (one,) = matches(tiny, [row], seed=0)
    (right,) = one.right
    assert "It what bakers" in tiny.tokenizer.decode(one.echoes[right[0]])


def test_packed_prompts_do_not_see_each_other(tiny):
    """The loss is the same as from the units of every prompt by itself, and from what neurons read of them."""
    space, one = UnitSpace.of(tiny), matches(tiny, ROWS, seed=0)[0]
    told = []
    for tail in (*one.echoes, *one.questions):
        x = units_of(tiny, [*one.head, *tail])[list(space.layers), -1]
        told.append((x - space.mean) / space.spread)
    units = torch.stack(told)
    losses = [_likeness_loss(units, one), _likeness_loss(torch.einsum("nlf,lrf->nlr", units, space.read), one)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
    assert float(match_loss(tiny, space, [one])) == pytest.approx(sum(losses) / 2, rel=1e-4)


def test_written_questions_are_lessons_and_ask_too(tiny):
    """Three parts count alike: people among echoes, written among echoes, people among echoes and written."""
    lessons = [TaskRow(MILL, "Who is head of the mill?", "Ilse Maranth"), TaskRow(MILL, "How old is it?", "very")]
    one = matches(tiny, ROWS[:2], seed=0, lessons=lessons)[0]
    assert len(one.written) == 2
    assert sorted(map(bool, one.right[2:])) == [False, True]  # nothing answers the second: it asks nothing, but stands
    assert len(one.echoes) + [bool(r) for r in one.right[2:]].index(True) in one.right[1]
    space = UnitSpace.of(tiny)
    echoes = len(one.echoes)
    people = tuple(tuple(n for n in told if n < echoes) for told in one.right[:2])
    asking = next(n for n, told in enumerate(one.right[2:]) if told)
    parts = [
        replace(one, written=(), right=people),
        replace(one, written=(), questions=(one.written[asking],), right=(one.right[2 + asking],)),
        replace(one, echoes=(*one.echoes, *one.written), written=(), right=one.right[:2]),
    ]
    told = [float(match_loss(tiny, space, [part])) for part in parts]
    assert float(match_loss(tiny, space, [one])) == pytest.approx(sum(told) / 3, rel=1e-4)


def test_a_passage_that_nobody_asks_about_is_matched_with_what_was_written(tiny):
    (one,) = matches(tiny, [], seed=0, lessons=[TaskRow(CARROW, "Who sells baskets?", "Ada Brindle")])
    assert not one.questions
    assert match_loss(tiny, UnitSpace.of(tiny), [one]) > 0


def _likeness_loss(states, one):
    states = torch.nn.functional.normalize(states, dim=-1).flatten(1) / states.shape[1] ** 0.5
    echoes, questions = states[: len(one.echoes)], states[len(one.echoes) :]
    shares = (10 * questions @ echoes.T).softmax(-1)
    losses = [-share[list(right)].sum().log() for share, right in zip(shares, one.right, strict=True)]
    return float(torch.stack(losses).mean())


def test_questions_are_only_compared_with_their_own_passage(tiny):
    space, both = UnitSpace.of(tiny), matches(tiny, ROWS, seed=0)
    alone = [float(match_loss(tiny, space, [one])) for one in both]
    asked = [len(one.questions) for one in both]
    together = sum(x * n for x, n in zip(alone, asked, strict=True)) / sum(asked)
    assert float(match_loss(tiny, space, both)) == pytest.approx(together, rel=1e-4)


def test_a_right_sentence_that_is_the_question_costs_little(tiny):
    one = matches(tiny, ROWS, seed=0)[1]
    same = replace(one, questions=(one.echoes[one.right[0][0]],))
    assert float(match_loss(tiny, UnitSpace.of(tiny), [same])) < float(match_loss(tiny, UnitSpace.of(tiny), [one]))


@given(st.integers(0, 40), st.integers(0, 40))
def test_every_batch_has_its_turn_once(read, matched):
    steps = _dealt([[n] for n in range(read)], [[n] for n in range(matched)])
    assert len(steps) == max(read, matched)
    for side, count in enumerate((read, matched)):
        assert list(chain.from_iterable(step[side] for step in steps)) == list(range(count))


def test_long_prompts_do_not_share_a_row():
    tails = [(0,) * n for n in (700, 3, 700, 5, *[4] * 20)]
    groups = _groups(tails)
    assert sorted(chain.from_iterable(groups)) == list(range(len(tails)))
    assert all(sum(len(tails[n]) for n in group) <= LONGEST for group in groups)
    assert all(len(group) <= SEGMENTS for group in groups)


def test_the_question_is_put_as_it_will_be_asked(tiny):
    one = matches(tiny, ROWS, seed=0)[0]
    assert (*one.head, *one.questions[0]) == question_prompt(tiny, ROWS[0].question).ids
