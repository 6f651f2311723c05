"""Questions that describe what they ask about are asked in steps, where that is likelier right."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurag import chaining
from neurag.chaining import FIRSTS, KNOWN, LASTS
from neurag.config import AnswerOptions, RouteOptions
from neurag.descriptions import descriptions
from neurag.hyper_layer.layer import HyperLayer
from neurag.hyper_layer.routing import Routed
from neurag.knowledge.rows import gathered
from neurag.model import Model

DOCUMENTS = [
    {"id": "valve", "title": "The valve", "text": "The valve is made in a shop in Oskerby. It has 17 parts."},
    {"id": "oskerby", "title": "The Oskerby shop", "text": "The Oskerby shop is led by Ada Brindle."},
]
QUESTION = "Who leads the shop where the valve is made?"
FIRST, LAST = "What is the shop where the valve is made?", "Who leads Oskerby?"
SAID = {QUESTION: ("Oskerby", 0.3, 0), FIRST: ("Oskerby", 0.8, 0), LAST: ("Ada Brindle", 0.9, 1)}
"""What a question is answered with, how sure, and by which row."""
KNOWN_SHARE: dict[str, float] = {}
"""What the best document matches beside a description, where it is not nothing."""


@pytest.mark.parametrize(
    ("question", "described"),
    [
        (QUESTION, ["the shop where the valve is made"]),
        ("In which village was the first apprentice of the Works born?", ["the first apprentice of the Works"]),
        ("Which country the director of film The Buddy Games is from?", ["the director of film The Buddy Games"]),
        ("Why did Maria Of Staritsa's father die?", ["Maria Of Staritsa's father"]),
        ("Where was Ada von Brindle (1899–1977)'s wife born?", ["Ada von Brindle (1899–1977)'s wife"]),
        ("When was the place of birth of the author of Solbrand founded?", ["the author of Solbrand"]),
        ("What is the name of the mill in Oskerby?", []),  # nothing else is asked about it
        ("Who runs the old mill?", []),
        ("Where?", []),
        ("What's the capital of the country that borders France?", ["the country that borders France"]),
        ("How old is the city where Ada was born?", ["the city where Ada was born"]),
        (
            "Who wrote the book of the man, the one with a hat, in 1987?",
            ["the book of the man, the one with a hat, in 1987"],
        ),
        ("Who leads the shop where " + 100 * "very " + "good valves are made?", []),
        ("the", []),
    ],
)
def test_what_a_question_describes(question, described):
    found = [one.text for one in descriptions(question)]
    assert all(text in found for text in described)
    assert bool(found) is bool(described)


@given(
    st.one_of(st.text(), st.lists(st.sampled_from("the of was Ada's is Who 's ? born , where".split())).map(" ".join))
)
def test_any_question_is_cut_and_put_together_again(question):
    for one in descriptions(question):
        assert one.filled(one.text) == question
        assert one.text == one.text.strip() and one.text in one.asked
        assert one.question[: one.start].strip()  # there is something in front of it
        assert one.text.split()[-1].lower() not in {"was", "is", "where", "of", "the"} or "'s" in one.text


@pytest.fixture(scope="module")
def whole(model_of):
    return model_of(DOCUMENTS, batch=2)


@pytest.fixture
def asked(whole, monkeypatch):
    """A model that says what SAID says, and the questions it was asked."""
    questions: list[str] = []

    def weigh(self, replies):
        for reply in replies:
            questions.append(reply.question)
            said, reply.confidence, row = SAID.get(reply.question, ("nothing", 0.01, 0))
            routed = Routed((row,), (0.9,), (1.0,))
            reply.firing.path, reply.firing.routed = [routed], routed
            reply.give(self.backbone.tokenizer(said, add_special_tokens=False).input_ids, 0.5, self.backbone)

    monkeypatch.setattr(Model, "_weigh", weigh)
    monkeypatch.setattr(chaining, "known", lambda *given: [KNOWN_SHARE.get(one.text, 0.0) for one in given[-1]])
    whole.asked = questions
    return whole


def test_two_steps_are_taken_where_they_are_likelier_right(asked):
    answer = asked.answer(QUESTION)
    assert answer.answer == "Ada Brindle"
    assert answer.confidence == pytest.approx(0.72)
    assert [(step.question, step.answer, step.confidence) for step in answer.steps] == [
        (FIRST, "Oskerby", 0.8),
        (LAST, "Ada Brindle", 0.9),
    ]
    assert [neuron.doc_id for neuron in answer.neurons] == ["valve", "oskerby"]
    assert not answer.abstained
    assert answer.to_json()["steps"][0] == {"question": FIRST, "answer": "Oskerby", "confidence": 0.8}
    assert asked.asked[:1] == [QUESTION] and asked.asked.count(LAST) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {QUESTION: ("Oskerby", 0.73, 0)},  # the first answer is likelier
        {QUESTION: ("Oskerby", 0.85, 0)},  # and so likely that nothing else is asked
        {FIRST: ("Oskerby", 0.2, 0)},
        {FIRST: ("valve", 0.9, 0)},  # which the question says already
        {LAST: ("Oskerby", 0.9, 1)},  # which that one says already
        {LAST: ("", 0.9, 1)},
        {LAST: ("Not stated", 0.9, 1)},
        {FIRST: ("Not stated", 0.9, 0)},
    ],
    ids=str,
)
def test_else_the_question_is_answered_as_it_was(asked, monkeypatch, changed):
    for question, said in changed.items():
        monkeypatch.setitem(SAID, question, said)
    answer = asked.answer(QUESTION)
    assert (answer.answer, answer.confidence, answer.steps) == (*SAID[QUESTION][:2], ())
    assert "steps" not in answer.to_json()
    if SAID[QUESTION][1] > 0.8:
        assert asked.asked == [QUESTION]


@pytest.mark.parametrize(
    "options",
    [
        AnswerOptions(chain=False),
        AnswerOptions(force=(("valve", 1.0),)),
        AnswerOptions(without=("oskerby",)),
        AnswerOptions(weigh=False, max_new_tokens=4),
        AnswerOptions(route=RouteOptions(reroute=True), max_new_tokens=4),
    ],
    ids=["switched off", "forced", "one document", "not weighed", "rerouted"],
)
def test_no_steps_where_none_are_wanted(asked, options):
    assert asked.answer(QUESTION, replace(options, check_conflicts=False)).steps == ()
    assert set(asked.asked) <= {QUESTION}


def test_questions_side_by_side_go_their_own_ways(asked):
    told = list(asked.answers(["Who runs the mill?", QUESTION, "When?", QUESTION]))
    assert [answer.answer for answer in told] == ["nothing", "Ada Brindle", "nothing", "Ada Brindle"]
    assert [len(answer.steps) for answer in told] == [0, 2, 0, 2]


def test_few_answers_are_built_on(asked, monkeypatch):
    long = "Who knows the friend of the maker of the valve of the shop of Oskerby?"
    found = descriptions(long)
    assert len(found) == 4
    for place, one in enumerate(found):
        monkeypatch.setitem(SAID, one.asked, (f"Bo{place}", 0.5 + place / 10, 0))
        monkeypatch.setitem(KNOWN_SHARE, one.text, 0.1 if place == 0 else 0.0 if place < 3 else KNOWN)
    asked.answer(long)
    assert asked.asked[1 : 1 + FIRSTS] == [one.asked for one in found[1:3]]  # least of the rest is matched
    built = [re.search(r"Bo\d", question).group() for question in asked.asked[1 + FIRSTS :]]
    assert built == ["Bo2", "Bo1"][:LASTS]  # the most certain first


def test_the_second_step_is_asked_of_the_other_documents(asked, monkeypatch):
    seen = []
    firing = HyperLayer.firing

    def watched(self, span, labels=None, without=(), *rest):
        seen.append((labels, without))
        return firing(self, span, labels, without, *rest)

    monkeypatch.setattr(HyperLayer, "firing", watched)
    asked.answer(QUESTION, AnswerOptions(labels=("staff",), without=("fair",), check_conflicts=False))
    firsts, last = seen[:-1], seen[-1]
    assert set(firsts) == {(("staff",), ("fair",))}
    assert last == (("staff",), ("fair", "valve"))


@pytest.mark.parametrize(
    ("lead", "other", "share"),
    [(1.0, 0.0, 1.0), (0.5, 0.0, 0.5), (0.0, 1.0, 0.0), (0.7, 0.7, 0.0), (1.0, 1.0, 1.0)],
    ids=["all of the rest", "half", "nothing", "what all match", "nothing is left"],
)
def test_how_much_of_the_rest_the_best_document_says(whole, monkeypatch, lead, other, share):
    """Of what a question asks beside its description, not counting what all chosen documents match."""
    reply = whole._reply(QUESTION, AnswerOptions(chain=False))
    whole._weigh([reply])
    reply.firing.path = [Routed((0, 1), (0.9, 0.1), (1.0, 0.1))]
    parts = iter([lead, other])
    monkeypatch.setattr(chaining, "matched", lambda yardstick, states, keys: (next(parts) * yardstick.best, None))
    found = descriptions(QUESTION)[:1]
    told = chaining.known(whole._layer(reply.options.route), reply.firing, reply.prompt.offsets, found)
    assert told == pytest.approx([share])


@given(st.lists(st.integers(0, 9), max_size=9), st.integers(1, 12))
def test_a_bank_is_read_in_fewer_batches(lengths, most):
    rows = [pa.record_batch({"x": [float(n)] * n}) for n in lengths]
    read = list(gathered(rows, most))
    assert [x for batch in read for x in batch["x"].to_pylist()] == [float(n) for n in lengths for _ in range(n)]
    assert all(len(batch) for batch in read)
    assert all(len(one) + len(other) > most for one, other in itertools.pairwise(read))


@pytest.mark.parametrize(
    ("described", "asked"),
    [
        ("the author, who wrote Solbrand", "Who is the author, who wrote Solbrand?"),
        ("the number of geese in Oskerby", "What is the number of geese in Oskerby?"),
        ("Ada Brindle's wife", "Who is Ada Brindle's wife?"),
    ],
)
def test_people_are_asked_for_with_who(described, asked):
    question = f"When was {described} born?"
    assert asked in [one.asked for one in descriptions(question)]
