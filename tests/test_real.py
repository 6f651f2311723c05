"""The method on the real default backbone: a neuron knows its own document and no other."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neurag.config import AnswerOptions, EncodeOptions, RouteOptions
from neurag.knowledge.pipeline import encode
from neurag.model import Model

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from encode import as_stored, exact, open_space, train_ours
from invented import companies

FACTS = [
    {
        "id": "mill",
        "title": "The Oskerby mill",
        "text": "The Oskerby mill is run by Ilse Maranth. The mill dog is called Pim.",
    },
    {
        "id": "ship",
        "title": "The Grey Otter",
        "text": "The ship Grey Otter carries salt to Lathenport. Its captain is Bo Hask.",
    },
]


@pytest.fixture(scope="module")
def bank(real, tmp_path_factory):
    path = tmp_path_factory.mktemp("real") / "bank"
    encode(FACTS, path, options=replace(EncodeOptions(), steps=24), backbone=real)
    return path


def test_neurons_from_gold_pairs_answer_unseen_paraphrases(real):
    options, documents = EncodeOptions(), companies(3, seed=7)
    space = open_space(real, options)
    made, _ = train_ours(real, space, documents, options)
    ours = as_stored(real, space, documents, made)
    assert exact(real, ours, ours.neurons) >= 0.7
    assert exact(real, ours, ours.neurons.roll(1, 0)) <= 0.1


def test_the_right_neuron_fires(real, bank):
    model = Model.load(bank=bank, backbone=real)
    assert model.answer("Who runs the mill in Oskerby?").neurons[0].doc_id == "mill"
    assert model.answer("Which captain commands the Grey Otter?").neurons[0].doc_id == "ship"


def test_off_is_the_backbone_bit_for_bit(real, bank):
    model, plain = Model.load(bank=bank, backbone=real), Model.load(backbone=real)
    silent = AnswerOptions(route=RouteOptions(null=9.0, temperature=1e-3), max_new_tokens=8)
    closed = AnswerOptions(mode="closed", max_new_tokens=8)
    question = "Who runs the mill in Oskerby?"
    assert model.answer(question, silent).answer == plain.answer(question, closed).answer
    assert model.answer(question, silent).abstained
