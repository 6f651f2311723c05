"""Contexts: no negative holds an answer, places and shares are as asked for, and the seed decides all."""

from __future__ import annotations

import doctest

import pytest

from neurag.config import UsageError
from neurag.knowledge.retrieval import Passages
from neurag.robust import contexts
from neurag.robust.contexts import KINDS, Contexts, Question, Shown, holds_answer, retriever

TOWNS = ["Oskerby", "Tarnhow", "Velling", "Muir Bay", "1987", "2004"]


def question(number):
    town = TOWNS[number]
    near = [Shown(f"Near {number}.{i}", f"Something about mill {number} and {i} sacks.", False) for i in range(3)]
    liar = Shown("Labelled wrong", f"By the way, {town.lower()} it is.", False)
    gold = Shown(f"Mill {number}", f"The mill is in {town}. {town.upper()}!", True)
    return Question(f"q{number}", f"Where is mill {number}?", (town,), (liar, gold, *near))


ASKED = [question(n) for n in range(len(TOWNS))]


@pytest.mark.parametrize("kind", KINDS)
def test_no_negative_holds_an_answer(kind):
    made = Contexts(ASKED)
    for one in ASKED:
        told = made.irrelevant(one, kind, None if kind == "counterfactual" else 3)
        assert told is not None
        assert told.gold == ()
        assert not any(holds_answer(p, one.answers) for p in told.passages)
        assert len(set(told.passages)) == len(told.passages)


def test_kinds_are_what_they_are_called():
    made = Contexts(ASKED)
    near = {(p.title, p.text) for p in ASKED[0].passages}
    assert set(made.irrelevant(ASKED[0], "related", 3).passages) < near
    assert not set(made.irrelevant(ASKED[0], "random", 3).passages) & near
    (title, text) = made.irrelevant(ASKED[0], "counterfactual").passages[0]
    assert title == "Mill 0"
    planted = [town for town in TOWNS if town in text]
    assert len(planted) == 1
    assert text == f"The mill is in {planted[0]}. {planted[0]}!"
    (_, text) = made.irrelevant(ASKED[4], "counterfactual").passages[0]
    assert "2004" in text  # a year for a year


def test_too_few_passages_give_no_context():
    made = Contexts(ASKED)
    assert made.irrelevant(ASKED[0], "related", 4) is None  # the fourth holds the answer
    assert made.irrelevant(ASKED[0], "random", 99) is None
    assert made.relevant(Question("none", "?", ("x",), ())) is None
    assert Contexts(ASKED[:1]).irrelevant(ASKED[0], "counterfactual") is None


@pytest.mark.parametrize(("place", "at"), [("first", 0), ("middle", 2), ("last", 4)])
def test_mixed_contexts_have_their_share_and_place(place, at):
    told = Contexts(ASKED).mixed(ASKED[1], 5, 0.8, "random", place)
    assert told.gold == (at,)
    assert [holds_answer(p, ASKED[1].answers) for p in told.passages] == [i == at for i in range(5)]


def test_noise_runs_from_none_to_all():
    made = Contexts(ASKED)
    assert made.mixed(ASKED[0], 1, 0.0).gold == (0,)
    assert made.mixed(ASKED[0], 4, 1.0).gold == ()
    # three are labelled near and sound, the others come from other questions
    assert len(made.mixed(ASKED[0], 6, 0.5, "related", "first").passages) == 6
    with pytest.raises(UsageError, match="between 0 and 1"):
        made.mixed(ASKED[0], 4, 1.5)
    with pytest.raises(UsageError, match="counterfactual"):
        made.irrelevant(ASKED[0], "rude")


def test_the_seed_and_the_id_decide():
    few = Contexts(ASKED, 3).irrelevant(ASKED[2], "random", 2)
    assert few == Contexts(ASKED, 3).irrelevant(ASKED[2], "random", 2)
    others = {Contexts(ASKED, seed).irrelevant(ASKED[2], "random", 2) for seed in range(8)}
    assert len(others) > 1
    places = {Contexts(ASKED, seed).mixed(ASKED[2], 4, 0.7).gold for seed in range(12)}
    assert len(places) > 1


def test_a_retriever_in_place_of_labels():
    rows = [(f"{q.id}#{i}", q.id, p.title, p.text) for q in ASKED for i, p in enumerate(q.passages)]
    made = Contexts(ASKED, retrieve=retriever(Passages(rows)))
    relevant = made.relevant(ASKED[0])
    # found by their words and judged by the answer, not by the label: the mislabelled one is relevant here
    assert {title for title, _ in relevant.passages} <= {"Mill 0", "Labelled wrong"}
    assert all(holds_answer(p, ASKED[0].answers) for p in relevant.passages)
    related = made.irrelevant(ASKED[0], "related", 3)
    assert "mill" in related.passages[0][1]
    assert not any(holds_answer(p, ASKED[0].answers) for p in related.passages)


def test_examples_in_the_docstrings_hold():
    told = doctest.testmod(contexts)
    assert told.attempted >= 3
    assert told.failed == 0
