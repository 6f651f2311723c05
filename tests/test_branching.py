"""Answers that begin differently, and which of them is given."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurag import branching
from neurag import model as models
from neurag.branching import begin, branches
from neurag.config import AnswerOptions, RouteOptions
from neurag.decoding import decode
from neurag.hyper_layer.placing import WORTH, _sentence_spans, _Text, best_placed, hear
from test_hyper_layer import logits

PROMPTS = [[5, 6, 7, 8, 9], [9, 10], [11, 12, 13]]
TEXT = "The mill is run by Ada. It opened in 1987, when Ada was 20. Bo left in 1990."
DOCUMENTS = [
    {"id": "mill", "title": "The mill", "text": "Geese sleep late. The mill in Oskerby is run by Ada Brindle."},
    {"id": "inn", "title": "The inn", "text": "The inn on Saltpan Lane belongs to Bo Hask."},
]
QUESTION = "Who runs the mill in Oskerby?"


@pytest.fixture(scope="module")
def model(model_of):
    return model_of(DOCUMENTS, batch=2)


@pytest.fixture
def wide(monkeypatch):
    """Every first token counts as near: a random model's are all alike anyway."""
    monkeypatch.setattr(branching, "NEARLY", 1e9)


def test_every_branch_is_as_likely_as_when_read_alone(tiny, wide):
    made = branches(tiny, begin(tiny, PROMPTS), 6)
    assert [len(row) for row in made] == [branching.MOST] * 3
    for prompt, row in zip(PROMPTS, made, strict=True):
        greedy = [token for step in decode(tiny, [prompt], 6) for token in step.tokens]
        assert list(row[0].tokens) == [token for token in greedy if token not in tiny.stop_ids]
        assert len({one.tokens[0] for one in row if one.tokens}) >= len(row) - 1  # one of them may end at once
        for one in row:
            ended = len(one.tokens) < 6
            for stop in sorted(tiny.stop_ids) if ended else [None]:
                whole = [*prompt, *one.tokens, *([stop] if ended else [])]
                with torch.no_grad():
                    said = tiny.model(torch.tensor([whole])).logits[0].log_softmax(-1)
                alone = sum(float(said[n - 1, whole[n]]) for n in range(len(prompt), len(whole)))
                if abs(alone - one.likelihood) < 1e-3:
                    break
            assert one.likelihood == pytest.approx(alone, abs=1e-3)


def test_only_near_beginnings_are_looked_at(tiny, monkeypatch):
    with torch.no_grad():
        said = tiny.model(torch.tensor([PROMPTS[0]])).logits[0, -1].log_softmax(-1).sort(descending=True).values
    monkeypatch.setattr(branching, "NEARLY", float(said[0] - said[2]) + 1e-4)
    assert len(branches(tiny, begin(tiny, PROMPTS[:1]), 3)[0]) == 3
    monkeypatch.setattr(branching, "NEARLY", 0.0)
    assert [len(row) for row in branches(tiny, begin(tiny, PROMPTS), 3)] == [1, 1, 1]
    assert [len(one.tokens) for row in branches(tiny, begin(tiny, PROMPTS), 1) for one in row] == [1, 1, 1]
    monkeypatch.setattr(branching, "NEARLY", 1e9)
    made = branches(tiny, begin(tiny, PROMPTS), 3, wanted=lambda row: row == 1)
    assert [len(row) for row in made] == [1, branching.MOST, 1]


def test_neurons_act_on_their_own_branches(model, wide):
    options = [AnswerOptions(force=((d["id"], 1.0),), max_new_tokens=5) for d in DOCUMENTS]
    replies = [model._reply(QUESTION, one) for one in options]
    firings = [reply.firing for reply in replies]
    with model._layer(RouteOptions()).active(firings):
        begun = begin(model.backbone, [reply.prompt.ids for reply in replies])
        made = branches(model.backbone, begun, 5, firings)
    for one, row in zip(options, made, strict=True):
        rows = logits(model, one, QUESTION).log_softmax(-1)
        alone = sum(float(told[token]) for told, token in zip(rows, row[0].tokens, strict=False))
        ended = float(rows[len(row[0].tokens)].max()) if len(row[0].tokens) < 5 else 0.0
        assert row[0].likelihood == pytest.approx(alone + ended, abs=1e-3)


def text_with(**matches):
    """TEXT with a key for every word, and one question token that matches some of them."""
    starts = [0, *(n + 1 for n, letter in enumerate(TEXT) if letter == " ")]
    words = TEXT.split()
    centres = np.array([start + len(word) / 2 for start, word in zip(starts, words, strict=True)])
    matched = np.array([[matches.get(word.strip(".,"), 0.0) for word in words]], np.float32)
    return _Text(TEXT, _sentence_spans(TEXT), centres, matched)


def test_an_answer_counts_for_what_its_sentence_matches_beside_it():
    text = text_with(opened=2.0, left=3.0)
    assert [round(text.around(*text.places(answer)[0]), 3) for answer in ("1987", "1990", "Ada")] == [2, 3, 0]
    assert len(text.places("Ada")) == len(text.places("ada")) == 2
    assert max(text.around(*span) for span in text.places("Ada")) == 2  # the second one
    assert text.places("8") == [(TEXT.index("8"), TEXT.index("8") + 1)]  # no word: anywhere
    assert text.places("") == text.places("Sund") == []
    own = text_with(left=3.0, **{"1990": 9.0})
    assert own.around(*own.places("1990")[0]) == 3  # what the answer matches itself says nothing


def test_sentences_are_found_where_they_stand():
    twice = "It is so. It is so. Yes."
    assert [twice[a:b] for a, b in _sentence_spans(twice)] == ["It is so.", "It is so.", "Yes."]
    assert len(set(_sentence_spans(twice))) == 3


@given(st.text(max_size=2000))
def test_any_text_has_its_sentences_in_order(text):
    spans = _sentence_spans(text)
    assert all(a < b for a, b in spans)
    assert all(b <= c for (_, b), (c, _) in pairwise(spans))


@pytest.mark.parametrize(
    ("places", "likelihoods", "best"),
    [
        ([0.0, 0.5], [-1.0, -2.0], 1),
        ([0.5, 0.5], [-1.0, -2.0], 0),
        ([0.5, 0.6], [-1.0, -1.0 - 0.1 * WORTH - 0.01], 0),
        ([0.0, 0.0], [-2.0, -1.0], 0),  # stands nowhere: what greedy decoding says
    ],
)
def test_an_answer_is_likely_and_stands_where_the_question_points(places, likelihoods, best):
    assert best_placed(places, likelihoods) == best


def test_places_are_shares_of_the_question(model, wide):
    reply = model._reply(QUESTION, AnswerOptions(max_new_tokens=4))
    model._complete([reply])
    layer = model._layer(RouteOptions())
    told = [hear(layer, reply.firing).placed(one) for one in ("Ada Brindle", "Brindle.", "Carrow", "")]
    assert all(0 <= one <= 1 for one in told)
    assert told[2:] == [0, 0]
    model.bank.remove(["inn"])  # gone meanwhile: only the other text counts
    assert hear(layer, reply.firing).placed("Bo Hask") == 0


def test_the_chosen_branch_is_the_answer(model, wide, monkeypatch):
    options = AnswerOptions(max_new_tokens=5, force=(("mill", 1.0),))
    greedy = model.answer(QUESTION, replace(options, weigh=False))
    asked = []
    for wanted in (0, 2):
        monkeypatch.setattr(models, "chosen", lambda found, *_, n=wanted: asked.append(found) or (found[n], None))
        answer = model.answer(QUESTION, replace(options, explain=True))
        assert answer.answer == asked[-1][wanted].text.rstrip("\ufffd").strip()  # not half a character
        assert "".join(model.stream(QUESTION, options)) == answer.answer
        assert len(answer.explanation.neurons[0].weights) == len(answer.explanation.answer)
        assert (answer.answer == greedy.answer) == (wanted == 0)


def test_without_neurons_the_backbone_says_what_it_says(model, wide):
    options = AnswerOptions(max_new_tokens=6, without=("mill", "inn"))
    closed = model.answer(QUESTION, replace(options, mode="closed"))
    assert model.answer(QUESTION, options).answer == closed.answer
