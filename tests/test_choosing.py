"""Choosing between what was read and what neurons know: likelihoods are the model's own, and near ones win."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from neurag import choosing
from neurag.choosing import NEARLY, likelihoods, prefers
from neurag.config import AnswerOptions

PROMPTS = [[5, 6, 7, 8], [9, 10]]
ANSWERS = [[[11, 12], [13]], [[14], []]]


def test_an_answer_is_as_likely_as_when_read_alone(tiny):
    told = likelihoods(tiny, PROMPTS, ANSWERS)
    for prompt, answers, scores in zip(PROMPTS, ANSWERS, told, strict=True):
        for answer, score in zip(answers, scores, strict=True):
            whole = torch.tensor([[*prompt, *answer, tiny.tokenizer.eos_token_id]])
            with torch.no_grad():
                said = tiny.model(whole).logits[0].log_softmax(-1)
            alone = sum(float(said[n - 1, whole[0, n]]) for n in range(len(prompt), whole.shape[1]))
            assert score == pytest.approx(alone, abs=1e-3)


@pytest.mark.parametrize(("behind", "taken"), [(NEARLY - 0.1, True), (NEARLY + 0.1, False), (-1.0, True)])
def test_the_neurons_answer_is_taken_where_it_is_nearly_as_likely(tiny, monkeypatch, behind, taken):
    monkeypatch.setattr(choosing, "likelihoods", lambda *_: [[-3.0, -3.0 - behind]])
    assert prefers(tiny, [[1]], [[2]], [[3]]) == [taken]


@pytest.fixture(scope="module")
def model(model_of):
    return model_of([{"id": "mill", "text": "The mill in Oskerby is run by Ada Brindle."}])


@pytest.mark.parametrize("prefer", [True, False])
def test_hybrid_gives_what_the_reader_prefers(model, monkeypatch, prefer):
    hybrid = AnswerOptions(mode="hybrid", passages=1, max_new_tokens=8, force=(("mill", 1.0),))
    asked = []
    monkeypatch.setattr("neurag.model.prefers", lambda *told: asked.append(told) or [prefer] * len(told[1]))
    question = "Who runs the mill?"
    read = model.answer(question, replace(hybrid, mode="rag")).answer
    known = model.answer(question, replace(hybrid, mode="neurag")).answer
    assert read != known
    assert model.answer(question, hybrid).answer == (known if prefer else read)
    assert "".join(model.stream(question, hybrid)) == (known if prefer else read)
    assert len(asked) == 2
