"""The measures of a right answer, on cases that can be checked by hand."""

import pytest

from neurag.evaluation.metrics import exact_match, f1, match, normalise


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
