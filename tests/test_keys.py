"""Keys of a chunk: what is read twice, and that a question typed in lower case finds a name."""

import numpy as np
import pytest

from neurag.config import RouteOptions
from neurag.hyper_layer.routing import Router, question_states
from neurag.knowledge.bank import IndexBatch
from neurag.knowledge.calibration import load_calibration
from neurag.knowledge.keys import chunk_keys, keys_of, lower_case, read_chunks
from neurag.knowledge.states import routing_states
from neurag.prompts import render


def test_words_with_capitals_have_keys_in_lower_case_too(tiny, tiny_calibration):
    texts = [("", "it stands in Oskerby now."), ("", "it stands in oskerby now.")]
    (keys, positions), (plain, _) = chunk_keys(tiny, tiny_calibration, texts)
    # the tiny tokenizer has a token a character
    assert (len(plain), len(keys)) == (25, 25 + len("Oskerby"))
    second = {int(p) - 25: key for p, key in zip(positions, keys, strict=True) if p >= 25}
    assert sorted(second) == list(range(13, 20))
    lowered = tiny_calibration.project(routing_states(tiny, "it stands in oskerby now.", tiny_calibration.layer))
    assert np.allclose(np.stack([second[p] for p in range(13, 20)]), lowered[13:20].numpy(), atol=0.06)  # four bits


def test_keys_stand_by_falling_salience(tiny, tiny_calibration):
    [(states, places)] = read_chunks(tiny, tiny_calibration.layer, [("The mill", "It stands in Oskerby.")])
    _, positions = keys_of(tiny_calibration, states, places)
    salience = tiny_calibration.salience(tiny_calibration.project(states))
    told = salience[[places.tolist().index(p) for p in positions.tolist()]]
    assert (told[1:] <= told[:-1]).all()


@pytest.mark.parametrize("text", ["İzmir and Straße", "ΑΣ", "ǅ"])
def test_lower_case_keeps_every_character_in_its_place(text):
    assert len(lower_case(text)) == len(text)


def test_offsets_tell_where_the_tokens_of_the_users_text_stand(tiny):
    prompt = render(tiny, "passages first. Who runs it?", own="Who runs it?")
    assert prompt.offsets == tuple((i, i + 1) for i in range(len("Who runs it?")))


def test_a_question_typed_in_lower_case_finds_the_name(real):
    calibration = load_calibration(real)
    texts = ["The Washington Redskins play in Landover.", "The Johnstown Redbacks play in Parnell.",
             "A redshirt freshman is based out of the roster."]  # fmt: skip
    made = list(chunk_keys(real, calibration, [("", text) for text in texts]))
    batch = IndexBatch(
        ids=list("abc"), document_ids=list("abc"), labels=[()] * 3, timestamps=[""] * 3, trusts=[None] * 3,
        lengths=np.array([len(k) for k, _ in made]), keys=np.concatenate([k for k, _ in made]),
        positions=np.concatenate([p for _, p in made]),
    )  # fmt: skip
    router = Router(calibration, RouteOptions(top_k=1))
    states = question_states(real, calibration, "where are the washington redskins based out of")
    assert router.route(router.build([batch]), states).rows == (0,)
