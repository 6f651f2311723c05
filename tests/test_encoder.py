"""Frozen-prefix training computes what a full pass would, many documents at once as one at a time."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from neurag.config import EncodeOptions
from neurag.hooks import on_each
from neurag.knowledge import encoder
from neurag.knowledge.band import Lesson, band_logits, prepare
from neurag.knowledge.encoder import interference, own_delta, train_neurons
from neurag.knowledge.lessons import pair_lessons
from neurag.knowledge.neurons import InputSpace, band_layers, dequantise, quantise
from neurag.prompts import question_prompt

PAIRS = [
    [("Who runs the mill?", "Ada"), ("What colour is it?", "dark green and gold")],
    [("Where is the inn?", "Oskerby"), ("Who owns the inn?", "Bo")],
    [("When is the fair?", "9 April")],
]
OPTIONS = EncodeOptions(steps=12, rank=6, learning_rate=0.1, interference=0.0)


@pytest.fixture(scope="module")
def space(tiny, tiny_calibration):
    return InputSpace.draw(tiny_calibration, band_layers(tiny.depth, (0.5, 1.0)), 6, 1.0, 0)


def lessons_of(tiny, documents=range(3)):
    return [x for at, d in enumerate(documents) for x in pair_lessons(tiny, PAIRS[d], at)]


def test_frozen_prefix_equals_a_full_forward_pass(tiny, space):
    lessons = lessons_of(tiny)
    neurons = torch.randn(3, len(space.layers), 6, tiny.width) * 0.05
    prepared = prepare(tiny, lessons, space.layers)
    ours = band_logits(tiny, prepared, space.layers, own_delta(space, neurons, prepared.documents))
    expected = []
    for number in prepared.lessons.unique_consecutive().tolist():
        lesson = lessons[number]
        start = len(lesson.prompt) - 1
        assert prepared.targets[prepared.lessons == number].tolist() == list(lesson.answer)

        def speak(place, units, output, lesson=lesson, start=start):
            said = space.read(place, units[:, start:]) @ neurons[lesson.document, place]
            return torch.cat([output[:, :start], output[:, start:] + said], 1)

        ids = torch.tensor([[*lesson.prompt, *lesson.answer[:-1]]])
        with on_each([tiny.down_projection(n) for n in space.layers], speak):
            expected.append(tiny.model(input_ids=ids).logits[0, start:])
    torch.testing.assert_close(ours, torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_many_documents_at_once_equal_one_at_a_time(tiny, space, monkeypatch):
    # the softmax's tokens are drawn from the whole batch, so over the whole vocabulary nothing may differ
    monkeypatch.setattr(encoder._Part, "_likely", lambda *_: torch.arange(tiny.model.config.vocab_size))
    together = train_neurons(tiny, space, lessons_of(tiny), 3, OPTIONS)
    for document in range(3):
        alone = train_neurons(tiny, space, lessons_of(tiny, [document]), 1, OPTIONS)[0]
        torch.testing.assert_close(together[document], alone, rtol=1e-2, atol=2e-3)


def test_training_teaches_the_own_document_only(tiny, space):
    lessons = lessons_of(tiny)
    neurons = train_neurons(tiny, space, lessons, 3, replace(OPTIONS, steps=60))
    shifted = neurons.roll(1, 0)
    own = _loss(tiny, space, lessons, neurons)
    assert own < 1.0
    assert _loss(tiny, space, lessons, shifted) > own + 2
    assert _loss(tiny, space, lessons, neurons * 0) > own + 2


def _loss(tiny, space, lessons, neurons):
    prepared = prepare(tiny, lessons, space.layers)
    logits = band_logits(tiny, prepared, space.layers, own_delta(space, neurons, prepared.documents))
    return float(torch.nn.functional.cross_entropy(logits, prepared.targets))


def test_same_seed_same_neurons(tiny, space):
    noisy = replace(OPTIONS, interference=0.3, interferers=1, steps=6)
    first, again = (train_neurons(tiny, space, lessons_of(tiny), 3, noisy) for _ in range(2))
    other = train_neurons(tiny, space, lessons_of(tiny), 3, noisy, seed=5)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_document_without_lessons_keeps_a_silent_neuron(tiny, space):
    assert not train_neurons(tiny, space, [], 2, OPTIONS).any()
    only_first = [x for x in lessons_of(tiny) if x.document == 0]
    made = train_neurons(tiny, space, only_first, 2, OPTIONS)
    assert made[0].any()
    assert not made[1].any()


def test_interference_never_adds_a_document_to_itself():
    mix = interference(5, 3, 0.3, torch.Generator().manual_seed(0))
    assert not mix.diagonal().any()
    assert (mix > 0).sum(1).tolist() == [3] * 5
    assert interference(2, 3, 0.3, torch.Generator()).count_nonzero() == 2  # fewer others than asked for


def test_int8_storage_stays_within_half_a_step(tiny, space):
    neurons = torch.randn(2, len(space.layers), 6, tiny.width)
    values, scale = quantise(neurons)
    back = dequantise(values[1].reshape(neurons.shape[1:]), scale[1].reshape(neurons.shape[1:3]))
    step = neurons[1].abs().amax(-1, keepdim=True) / 127
    assert ((back - neurons[1]).abs() <= step * 0.51).all()


def test_float16_storage_keeps_ten_bits(tiny, space):
    neurons = torch.randn(2, len(space.layers), 6, tiny.width)
    values, scale = quantise(neurons, "float16")
    back = dequantise(values[1].reshape(neurons.shape[1:]), scale[1].reshape(neurons.shape[1:3]))
    torch.testing.assert_close(back, neurons[1], rtol=1e-3, atol=1e-4)


def test_input_space_has_the_asked_scale_and_depends_on_its_seed(tiny_calibration, space):
    again = InputSpace.draw(tiny_calibration, space.layers, 6, 1.0, 0)
    other = InputSpace.draw(tiny_calibration, space.layers, 6, 1.0, 1)
    assert again.version == space.version != other.version
    spread = tiny_calibration.unit_scale[list(space.layers)]
    drawn = space.down[:, 3:]  # the first half are directions of what is asked
    rms = ((drawn**2 * spread[:, None] ** 2).sum(-1).mean(-1)).sqrt()
    torch.testing.assert_close(rms, torch.ones_like(rms), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("band", "layers"), [((2 / 3, 1.0), range(20, 30)), ((0.0, 1.0), range(30)), ((1.0, 1.0), [29])]
)
def test_band_is_never_empty(band, layers):
    assert band_layers(30, band) == tuple(layers)


def test_a_learned_batch_stops_early(tiny, space, monkeypatch):
    steps = []
    losses = encoder._Part.losses
    monkeypatch.setattr(encoder._Part, "losses", lambda self, acting: steps.append(1) or losses(self, acting))
    train_neurons(tiny, space, lessons_of(tiny), 3, replace(OPTIONS, steps=30, stop_loss=1e9))
    assert len(steps) == 2 * OPTIONS.parts + OPTIONS.cool_steps
    steps.clear()
    train_neurons(tiny, space, lessons_of(tiny), 3, replace(OPTIONS, steps=30, stop_loss=1e9, cool_steps=0))
    assert len(steps) == 2 * OPTIONS.parts
    steps.clear()
    train_neurons(tiny, space, lessons_of(tiny), 3, replace(OPTIONS, steps=7, stop_loss=0.0))
    assert len(steps) == 7


def test_an_easy_document_stops_alone_and_costs_no_more_rows(tiny, space, monkeypatch):
    # what the plain backbone says anyway is learned at once
    prompt = question_prompt(tiny, "Who?").ids
    easy = int(tiny.model(input_ids=torch.tensor([prompt])).logits[0, -1].argmax())
    lessons = [Lesson(0, prompt, (easy,)), *(replace(x, document=1) for x in pair_lessons(tiny, PAIRS[0], 1))]
    monkeypatch.setattr(encoder._Part, "_likely", lambda *_: torch.arange(tiny.model.config.vocab_size))
    seen = []
    states = encoder.band_states
    monkeypatch.setattr(encoder, "band_states", lambda *a: seen.extend(a[1].documents.tolist()) or states(*a))
    options = replace(OPTIONS, steps=40, stop_loss=0.5, cool_steps=2, parts=1)
    together = train_neurons(tiny, space, lessons, 2, options)
    assert seen.count(0) < 10 < options.steps < seen.count(1) + 10
    torch.testing.assert_close(
        together[0], train_neurons(tiny, space, lessons[:1], 1, options)[0], rtol=0.05, atol=0.01
    )


def test_distillation_moves_towards_what_is_read(tiny, space):
    passage = ("The mill", "The mill is run by Ada. It is dark green and gold.")
    lessons = [*pair_lessons(tiny, PAIRS[0], 0, teacher=passage), *pair_lessons(tiny, PAIRS[1], 1)]
    part = encoder._Part(tiny, space, lessons, 2, replace(OPTIONS, distil=1.0))
    silent = torch.zeros(2, len(space.layers), 6, tiny.width)
    made = train_neurons(tiny, space, lessons, 2, replace(OPTIONS, steps=40, distil=1.0))
    before, after = part.losses(silent), part.losses(made)
    assert after[0] < 0.7 * before[0]  # the distance from the teacher
    assert after[1] < 0.5 * before[1]  # without a teacher the answers are learned as ever


def test_distillation_of_states_moves_towards_those_of_the_reader(tiny, space):
    passage = ("The mill", "The mill is run by Ada. It is dark green and gold.")
    lessons = list(pair_lessons(tiny, PAIRS[0], 0, teacher=passage))
    options = replace(OPTIONS, steps=40, distil_states=4.0)
    part = encoder._Part(tiny, space, lessons, 1, options)
    words_only = encoder._Part(tiny, space, lessons, 1, OPTIONS)

    def apart(neurons):
        return float(part.losses(neurons) - words_only.losses(neurons))

    alone, near = (
        train_neurons(tiny, space, lessons, 1, one) for one in (replace(options, distil_states=0.0), options)
    )
    assert 0 < apart(near) < 0.7 * apart(alone)


def test_who_teaches_is_the_model_that_reads(tiny, space):
    passage = ("The mill", "The mill is run by Ada.")
    lessons = list(pair_lessons(tiny, PAIRS[0], 0, teacher=passage))
    other = copy.deepcopy(tiny.model)
    with torch.no_grad():
        other.model.layers[0].mlp.up_proj.weight.mul_(-3)
    two = replace(tiny, reading=replace(tiny, model=other))
    options = replace(OPTIONS, distil=1.0)
    own, read = (encoder._Part(one, space, lessons, 1, options).taught for one in (tiny, two))
    assert own.keys() == read.keys()
    assert not torch.allclose(own[0], read[0], atol=1e-3)


def test_neurons_can_be_kept_out_of_a_direction(tiny, space):
    away = torch.nn.functional.normalize(torch.randn(tiny.width, generator=torch.Generator().manual_seed(0)), dim=0)

    def confine(given):
        return given - (given @ away)[..., None] * away

    lessons = lessons_of(tiny)
    free = train_neurons(tiny, space, lessons, 3, replace(OPTIONS, steps=60))
    kept = train_neurons(tiny, space, lessons, 3, replace(OPTIONS, steps=60), confine=confine)
    assert (kept @ away).abs().max() < 1e-5 < (free @ away).abs().max()
    assert _loss(tiny, space, lessons, kept) < 1.0  # what is left is room enough
