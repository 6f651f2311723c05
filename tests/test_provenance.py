"""Provenance: where a neuron's text was matched, and what leaving it out does to the answer."""

from __future__ import annotations

import pytest
import torch

from neurag.answer import Explanation
from neurag.config import AnswerOptions, RouteOptions
from neurag.hyper_layer.layer import acting
from neurag.hyper_layer.provenance import cited, likelihoods, matches
from neurag.prompts import question_prompt
from test_hyper_layer import logits

DOCUMENTS = [
    {"id": "mill", "title": "The mill", "text": "Geese sleep late. The mill in Oskerby is run by Ada Brindle."},
    {"id": "inn", "title": "The inn", "text": "The inn on Saltpan Lane belongs to Bo Hask."},
    {"id": "fair", "title": "", "text": "The fair opens on 9 April with 60 geese."},
]
QUESTION = "Who runs the mill in Oskerby?"
ROUTE = RouteOptions(null=0.0, temperature=0.3)


@pytest.fixture(scope="module")
def model(model_of):
    return model_of(DOCUMENTS, batch=3)


def explained(model, question=QUESTION, **options) -> Explanation:
    options = {"route": ROUTE, "max_new_tokens": 6, "explain": True, "weigh": False} | options
    return model.answer(question, AnswerOptions(**options)).explanation


def answered(model, **options):
    """A question that has been answered, and its tokens."""
    reply = model._reply(QUESTION, AnswerOptions(**({"route": ROUTE, "max_new_tokens": 6} | options)))
    list(model._write([reply]))
    return reply


def said(model, options, tokens):
    """Log-likelihood of tokens that greedy decoding wrote, from its own logits."""
    rows = logits(model, options, QUESTION).log_softmax(-1)
    return sum(float(row[token]) for row, token in zip(rows, tokens, strict=False))


def test_the_likelihood_with_all_neurons_is_that_of_the_pass_that_wrote_the_answer(model):
    options = AnswerOptions(route=ROUTE, max_new_tokens=6, weigh=False)
    reply = answered(model)
    assert len(acting(reply.firing.first)) == 3
    told = explained(model)
    assert told.log_likelihood == pytest.approx(said(model, options, reply.tokens), abs=1e-3)
    # an answer ends before a character that is not finished
    shown = [token for token in told.answer if token not in model.backbone.tokenizer.all_special_tokens]
    assert "".join(shown).rstrip("\ufffd").strip() == model.answer(QUESTION, options).answer.rstrip("\ufffd")


def test_without_its_only_neuron_an_answer_is_as_likely_as_closed_book(model):
    forced = {"force": (("mill", 1.0),)}
    reply, told = answered(model, **forced), explained(model, **forced)
    closed = 0.0
    for place, token in enumerate(reply.tokens):  # the plain backbone, one pass for each token
        ids = torch.tensor([[*reply.prompt.ids, *reply.tokens[:place]]])
        with torch.no_grad():
            closed += float(model.backbone.model(input_ids=ids).logits[0, -1].log_softmax(-1)[token])
    (trace,) = told.neurons
    assert told.log_likelihood - trace.effect == pytest.approx(closed, abs=1e-3)
    assert trace.effect > 0.5
    assert trace.weights == (1.0,) * len(told.answer)


def test_leaving_a_neuron_out_leaves_the_weights_of_the_others(model):
    reply = answered(model)
    layer = model._layer(ROUTE)
    rows, weights = zip(*acting(reply.firing.first), strict=True)
    rest = tuple((layer.index.document_ids[r], w) for r, w in zip(rows[1:], weights[1:], strict=True))
    other = answered(model, force=rest).firing
    (without,) = likelihoods(layer, other, reply.prompt, reply.tokens, [other.path[:1] * len(reply.tokens)])
    told = explained(model)
    assert told.log_likelihood - told.neurons[0].effect == pytest.approx(without, abs=1e-3)


def test_what_each_token_was_worth_adds_up_to_the_score(model):
    reply = answered(model)
    for row, score in zip(reply.firing.first.rows, reply.firing.first.scores, strict=True):
        shares, keys = matches(model._layer(ROUTE), reply.firing, row)
        assert sum(shares) == pytest.approx(score, abs=1e-4)
        assert len(keys) == len(shares) == len(QUESTION)  # a byte a token


def test_spans_are_words_of_the_text_and_hold_what_the_question_asks_for(model):
    told = explained(model)
    assert "".join(told.question) == QUESTION
    mill = next(trace for trace in told.neurons if trace.doc_id == "mill")
    assert mill.text == DOCUMENTS[0]["text"]
    for trace in told.neurons:
        cited_share = sum(span.share for span in trace.spans)  # matches of mere space are cited nowhere
        assert 0.5 * sum(trace.matched) < cited_share <= sum(trace.matched) + 1e-5
        for span in trace.spans:
            text = trace.title if span.in_title else trace.text
            assert 0 <= span.start < span.end <= len(text)
            assert text[span.start : span.end].strip() == text[span.start : span.end]
            assert all(word in QUESTION for word in span.words)
    quoted = [mill.text[span.start : span.end] for span in mill.spans if not span.in_title]
    assert any("Oskerby" in words for words in quoted)
    assert all(trace.spans == tuple(sorted(trace.spans, key=lambda span: -span.share)) for trace in told.neurons)


def test_a_match_with_the_lower_case_reading_is_cited_where_it_stands(model):
    row = model.bank.get("mill")[0]
    shown = f"{row.title}\n{row.text}"
    prompt = question_prompt(model.backbone, "oskerby")
    place = shown.index("Oskerby")
    keys = [list(row.positions).index(len(shown) + place + n) for n in range(7)]  # a byte a token, read twice
    for worth in ([0.1] * 7, [0.1] + [0.0] * 6, [0.0] * 6 + [0.1]):  # its first or last letter stands for the word
        (span,) = cited(model.backbone, row, keys, worth, prompt, "oskerby")
        assert row.text[span.start : span.end] == "Oskerby"
        assert span.words == ("oskerby",)
        assert span.share == pytest.approx(sum(worth))
    title = [list(row.positions).index(shown.index("mill") + n) for n in range(4)]
    (span,) = cited(model.backbone, row, [*title, 0, 0, 0], [0.1] * 4 + [0.0] * 3, prompt, "oskerby")
    assert (span.in_title, row.title[span.start : span.end]) == (True, "mill")


def test_rerouting_is_told_token_by_token(model):
    route = RouteOptions(reroute=True, hysteresis=-1.0, null=-1.0, decay=0.3, top_k=1)
    reply = answered(model, route=route, max_new_tokens=12)
    told = explained(model, route=route, max_new_tokens=12)
    moved = [routed.rows[0] for routed in reply.firing.path[: len(reply.tokens)]]
    assert len(set(moved)) > 1
    by_name = {trace.doc_id: trace.weights for trace in told.neurons}
    names = model._layer(route).index.document_ids
    for place, row in enumerate(moved):
        assert by_name[names[row]][place] > 0
        assert sum(weights[place] > 0 for weights in by_name.values()) == 1
    whole = said(model, AnswerOptions(route=route, max_new_tokens=12), reply.tokens)
    assert told.log_likelihood == pytest.approx(whole, abs=2e-3)


def test_explaining_changes_no_answer_and_costs_nothing_when_not_asked_for(model, monkeypatch):
    plain = model.answer(QUESTION, AnswerOptions(route=ROUTE, max_new_tokens=6))
    told = model.answer(QUESTION, AnswerOptions(route=ROUTE, max_new_tokens=6, explain=True))
    assert (plain.answer, plain.neurons, plain.explanation) == (told.answer, told.neurons, None)
    assert "explanation" not in plain.to_json()
    assert {"question", "answer", "log_likelihood", "neurons"} == set(told.to_json()["explanation"])
    monkeypatch.setattr("neurag.model.explain", lambda *_: 1 / 0)
    model.answer(QUESTION, AnswerOptions(route=ROUTE, max_new_tokens=2))


def test_what_cannot_be_explained_has_no_traces(model):
    assert explained(model, mode="closed") is None
    assert explained(model, without=("mill", "inn", "fair")).neurons == ()
    assert explained(model, force=(("*random*", 1.0),)).neurons == ()
