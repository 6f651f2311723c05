"""Candidate answers: whole, and only what can be an answer."""

from __future__ import annotations

import pytest

from neurag.knowledge.candidates import find_candidates


def found(text, limit=20):
    return {c.answer for c in find_candidates(text, limit)}


@pytest.mark.parametrize(
    ("text", "there", "not_there"),
    [
        ("The mill opened in May 2017.", {"May 2017"}, {"May 20"}),
        ("The flood destroyed 312 finished rain gauges.", {"312"}, {"312 finished", "flood destroyed"}),
        ("It weighs 5.8 kilograms and costs $4.5 million.", {"5.8 kilograms", "$4.5 million"}, {"$4.5"}),
        ("Rain falls on 221 days a year.", {"221 days"}, {"Rain"}),
        ("The tar is black. She sells Tar in Oslo.", {"Oslo", "Tar"}, set()),
        ("Most of Europe buys it.", {"Europe"}, {"of Europe", "Most of Europe"}),
        ("The seal is made of goatskin.", {"goatskin"}, set()),
        ("He sleeps in a wooden bed.", {"wooden bed"}, set()),
        ("The parrot is named Admiral Crumb.", {"Admiral Crumb"}, {"parrot is named"}),
    ],
)
def test_answers_are_whole(text, there, not_there):
    answers = found(text)
    assert there <= answers
    assert not answers & not_there


def test_any_text_gives_some():
    assert found("我们在2019年开了一家店。老板是王伟。")
    assert found("lower case words without any capital or number")


def test_the_limit_is_spread_over_the_sentences():
    text = "Ada, Bo and Cid met Dan. Eve left. The dog barked at Fay."
    assert {c.sentence for c in find_candidates(text, 3)} == set(text.replace(". ", ".|").split("|"))
