"""The measures of a right answer, on cases that can be checked by hand."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurag.evaluation.metrics import (
    adopted_wrong,
    answer_recall,
    answer_words,
    exact_match,
    f1,
    match,
    says_no_answer,
)
from neurag.evaluation.rates import Rates, abstention, citation, rates
from neurag.words import normalise

WORDS = ["The", "a", "AN", "theatre", "cat", "Cat.", "dog's", "dogs", "64", "640", "5.8", "58", "--", "x-ray"]
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(string.ascii_letters + string.punctuation, max_size=3), max_size=6)
TEXT = TEXTS.map(" ".join)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Patient Heron!", "patient heron"),
        ("A theatre, an answer", "theatre answer"),
        ("13:40", "1340"),
        ("", ""),
        ("the", ""),
    ],
)
def test_normalise(text, normal):
    assert normalise(text) == normal


@pytest.mark.parametrize(
    ("answer", "aliases", "right"),
    [
        ("She keeps the Admiral Crumb.", ["Admiral Crumb"], True),
        ("admiral  crumb", ["Parrot", "Admiral Crumb"], True),
        ("640 crowns", ["64"], False),
        ("Crumb Admiral", ["Admiral Crumb"], False),
        ("Admiral", ["Admiral Crumb"], False),
        ("in 1994", ["1994"], True),
        ("", ["1994"], False),
        ("anything", ["the"], False),
        ("anything", [], False),
    ],
)
def test_match(answer, aliases, right):
    assert match(answer, aliases) is right


def test_exact_match_wants_nothing_else():
    assert exact_match("The Admiral Crumb.", ["Parrot", "admiral crumb"])
    assert not exact_match("parrot Admiral Crumb", ["Admiral Crumb"])
    assert not exact_match("x", [])


def test_f1_is_the_best_over_aliases():
    # 2 common words of 3 said and 2 wanted: precision 2/3, recall 1
    assert f1("parrot Admiral Crumb", ["Admiral Crumb", "nobody"]) == pytest.approx(0.8)
    assert f1("Crumb Crumb", ["Crumb"]) == pytest.approx(2 / 3)
    assert f1("cat", ["dog"]) == 0
    assert f1("", ["dog"]) == 0
    assert f1("the", ["a"]) == 1
    assert f1("cat", []) == 0


def squad_words(text):
    """SQuAD v1.1's normalisation, told anew: what is left of each word when case, punctuation and articles are gone."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return [word for word in bare.split() if word not in {"a", "an", "the"}]


def squad_f1(said, truth):
    """SQuAD v1.1's F1: from precision and recall over the words both have, each word as often as both have it."""
    left = squad_words(truth)
    said = squad_words(said)
    wanted, common = len(left), 0
    for word in said:
        if word in left:
            left.remove(word)
            common += 1
    if not common:
        return 0.0
    precision, recall = common / len(said), common / wanted
    return 2 * precision * recall / (precision + recall)


@given(TEXT, st.lists(TEXT, min_size=1, max_size=3))
def test_exact_match_is_that_of_squad(answer, truths):
    assert exact_match(answer, truths) == any(squad_words(answer) == squad_words(truth) for truth in truths)


@given(TEXT, st.lists(TEXT, min_size=1, max_size=3))
def test_f1_is_that_of_squad_but_for_texts_without_words(answer, truths):
    if not squad_words(answer) and any(not squad_words(truth) for truth in truths):
        # v1.1 gives two empty texts 0; ours gives 1, as SQuAD 2.0's script does
        assert f1(answer, truths) == 1
    else:
        assert f1(answer, truths) == pytest.approx(max(squad_f1(answer, truth) for truth in truths))


@given(TEXT, TEXT)
def test_match_finds_a_substring_that_is_whole_words(answer, alias):
    # PopQA and ALCE look for a substring; ours also wants it to begin and end with a word, and to have one
    inside = f" {' '.join(squad_words(alias))} " in f" {' '.join(squad_words(answer))} "
    assert match(answer, [alias]) == (inside and bool(squad_words(alias)))


def test_answer_recall_counts_required_answers_and_not_aliases():
    sets = [["Paris", "City of Light"], ["1994"], ["the Seine"]]
    assert answer_recall("Paris, the City of Light, on the Seine", sets) == pytest.approx(2 / 3)
    assert answer_recall("in 19945", sets) == 0  # ALCE's substring would find 1994
    assert answer_recall("seine 1994 paris", sets) == 1
    assert answer_recall("anything", []) == 0


def test_adopted_wrong_wants_a_wrong_answer_and_no_right_one():
    assert adopted_wrong("It is Lyon.", ["Lyon"], ["Paris"])
    assert not adopted_wrong("Lyon or Paris", ["Lyon"], ["Paris"])
    assert not adopted_wrong("Paris", ["Lyon"], ["Paris"])
    assert not adopted_wrong("Nice", ["Lyon"], ["Paris"])
    assert not adopted_wrong("Lyonnais", ["Lyon"], [])


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " \n",
        "...",
        "I don't know.",
        "I don’t know",
        "I do not know. It may be Paris.",
        "I'm sorry, but I don't know.",
        "I do not know the answer to this question.",
        "Not stated.",
        "UNANSWERABLE",
        "The question is unanswerable.",
        "The year is not mentioned in the given documents.",
        "It is not specified.",
        "Based on the passages, the answer cannot be determined.",
        "It can't be determined from the text",
        "The context doesn't say who wrote it.",
        "There is no information about her birth.",
        "No information is available.",
        "There is not enough information to answer.",
        "Sorry, but the passage does not mention it.",
    ],
)
def test_an_answer_that_declines(answer):
    assert says_no_answer(answer)
    assert says_no_answer(answer.upper())


@pytest.mark.parametrize(
    "answer",
    [
        "No",
        "No.",
        "None",
        "0",
        "Nobody",
        "Paris",
        "Not Without My Daughter",
        "I Don't Know How She Does It",
        "The Unknown Soldier",
        "He had no information on the case",
        "because he was not mentioned in the will",
        "The cause could not be determined by the coroner",
        "Paris. The documents do not mention the year.",
        "The passage does not mention it directly, but she was Nancy Hanks.",
        "St. Louis",
        "5.8",
    ],
)
def test_an_answer_that_does_not_decline(answer):
    assert not says_no_answer(answer)


@given(st.sampled_from(["cat", "no", "64"]), TEXT)
def test_an_answer_that_begins_with_another_sentence_never_declines(first, rest):
    assert not says_no_answer(f"{first}. {rest}")


def test_answer_words():
    assert answer_words("") == 0
    assert answer_words(" the  Admiral\nCrumb, 5.8 ") == 4


def test_rates_from_counts():
    # 3 right of 4 predicted and 6 actual
    assert rates(3, 4, 6) == Rates(0.75, 0.5, 0.6)
    assert rates(0, 0, 6) == Rates(None, 0.0, 0.0)
    assert rates(0, 4, 0) == Rates(0.0, None, 0.0)
    assert rates(0, 0, 0) == Rates(None, None, None)


def test_abstention_is_right_where_the_question_is_unanswerable():
    asked = [(True, False)] * 3 + [(True, True)] + [(False, False)] * 3 + [(False, True)] * 9
    assert abstention(iter(asked)) == Rates(0.75, 0.5, 0.6)


@pytest.mark.parametrize(
    ("cited", "gold", "told"),
    [
        (["a", "b"], {"a"}, (0.5, 1.0)),
        (["a", "a", "b"], ["a", "c", "d"], (0.5, 1 / 3)),
        (["b"], {"a"}, (0.0, 0.0)),
        ([], {"a"}, (None, 0.0)),
        (["a"], [], (None, None)),
    ],
)
def test_citation(cited, gold, told):
    assert citation(cited, gold) == pytest.approx(told)
