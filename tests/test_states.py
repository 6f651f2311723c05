"""States and units of many texts read together are those of each text read by itself."""

from __future__ import annotations

import pytest
import torch

from conftest import units_of
from neurag.knowledge import states
from neurag.knowledge.states import last_units, routing_states, span_states
from neurag.prompts import Prompt, question_prompt, render

TEXTS = ["The mill of Oskerby is run by Ilse Maranth.", "A ferry.", "Carrow has a market on Sundays, and eels."]


@pytest.fixture(params=["together", "one by one"])
def grouped(request, monkeypatch):
    if request.param == "one by one":
        monkeypatch.setattr(states, "STATES", 1)
        monkeypatch.setattr(states, "UNITS", 1)


def test_states_are_those_of_each_prompt_alone(tiny, grouped):
    prompts = [*(render(tiny, text) for text in TEXTS), question_prompt(tiny, "Who?", [("Mill", TEXTS[0])])]
    found = list(span_states(tiny, prompts, layer=3))
    assert len(found) == len(prompts)
    for prompt, told in zip(prompts, found, strict=True):
        with torch.no_grad():
            out = tiny.model(input_ids=torch.tensor([prompt.ids]), output_hidden_states=True)
        torch.testing.assert_close(told, out.hidden_states[3][0, prompt.span[0] : prompt.span[1]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(routing_states(tiny, TEXTS[0], 3), found[0], rtol=1e-4, atol=1e-5)


def test_the_layer_below_the_head_can_be_asked_for(tiny):
    (told,) = span_states(tiny, [render(tiny, TEXTS[0])], layer=tiny.depth)
    assert told.shape == (len(TEXTS[0]), tiny.width)


def test_units_are_those_of_each_text_alone(tiny, grouped):
    texts = [list(render(tiny, text).ids) for text in TEXTS]
    counts = [1, 5, 2]
    for text, count, told in zip(texts, counts, last_units(tiny, texts, counts), strict=True):
        torch.testing.assert_close(told, units_of(tiny, text)[:, -count:], rtol=1e-4, atol=1e-5)


def test_a_prompt_without_text_of_its_own_has_no_states(tiny):
    empty = Prompt(render(tiny, TEXTS[0]).ids, (0, 0))
    assert [len(told) for told in span_states(tiny, [empty], 2)] == [0]
    assert [len(told) for told in span_states(tiny, [empty, render(tiny, TEXTS[1])], 2)] == [0, len(TEXTS[1])]


def test_nothing_of_nothing(tiny):
    assert list(span_states(tiny, [], 2)) == list(last_units(tiny, [], [])) == []
