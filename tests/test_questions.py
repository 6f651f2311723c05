"""Questions are written for answers, and kept only if the passage gives the answer back."""

from __future__ import annotations

import pytest

from neurag.config import AugmentOptions
from neurag.knowledge import augmentation, questions
from neurag.knowledge.augmentation import augment
from neurag.knowledge.documents import Chunk, Document, chunk_document
from neurag.knowledge.questions import Asked, Written, write_questions
from neurag.prompts import question_prompt

MILL = "The mill of Oskerby opened in 1987. It is run by Ilse Maranth, who keeps a parrot."


def chunk(text: str) -> Chunk:
    return chunk_document(Document(text=text), lambda told: len(told.split()), 200)[0]


def test_what_is_written_is_what_the_prompts_alone_give(tiny):
    """Sharing the passage changes nothing: each question is the continuation of its own prompt."""
    from neurag.model import Model

    passages = [("Mill", MILL), ("", "Carrow has a market.")]
    made = write_questions(
        tiny,
        passages,
        [[Asked("1987", MILL, "question"), Asked("a parrot", MILL, "search")], [Asked("market", "", "quiz")]],
    )
    assert len(made) == 2
    written = made[0][0]
    prompt = question_prompt(tiny, questions.writing_request(written.answer, MILL), passages[:1])
    from neurag.decoding import decode

    ids = [t for step in decode(tiny, [prompt.ids], questions.QUESTION_TOKENS) for t in step.tokens]
    said = tiny.tokenizer.decode([t for t in ids if t not in tiny.stop_ids], skip_special_tokens=True)
    assert said.strip() == written.question
    assert Model(tiny).backbone is tiny


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (Written("1987", "When did the mill open?", "in 1987"), True),
        (Written("1987", "When did the mill open?", "1988"), False),
        (Written("1987", "Did the mill open in 1987?", "1987"), False),  # gives its answer away
        (Written("1987", "When did the mill open?", ""), False),
        (Written("Ilse Maranth", "Who runs it?", "Maranth"), True),
    ],
)
def test_the_round_trip_decides(told, kept, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(augmentation, "write_questions", lambda *_: [[told]])
    made = augment(tiny, [chunk(MILL)], AugmentOptions(asked_back=0), tmp_path)[0]
    assert bool(made.questions) is kept
    if kept:
        assert made.questions == ((told.question, told.told),)


def test_what_no_question_covers_is_asked_back(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(augmentation, "write_questions", lambda *_: [[]])
    made = augment(tiny, [chunk(MILL)], AugmentOptions(), tmp_path)[0]
    assert "1987" in dict(made.echoes).values()
    assert made.coverage > 0.9
    assert made.completions
    fewer = augment(tiny, [chunk(MILL)], AugmentOptions(asked_back=0), tmp_path)[0]
    assert set(fewer.echoes) < set(made.echoes)  # one a sentence at least
    assert 0 < fewer.coverage < made.coverage


def test_a_likely_answer_is_asked_back_whether_or_not_a_question_covers_it(tiny, monkeypatch, tmp_path):
    told = Written("1987", "When did the mill open?", "1987")
    monkeypatch.setattr(augmentation, "write_questions", lambda *_: [[told]])
    made = augment(tiny, [chunk(MILL)], AugmentOptions(), tmp_path)[0]
    answers = set(dict(made.echoes).values())
    assert {"1987", "Ilse Maranth"} <= answers
    fewer = augment(tiny, [chunk(MILL)], AugmentOptions(asked_back=0), tmp_path)[0]
    assert "1987" not in dict(fewer.echoes).values()  # its sentence is asked about already


@pytest.mark.parametrize(
    "text",
    ["x", "word", "我们在2019年开了一家店。老板是王伟。", "| a | b |\n|---|---|\n| 1 | 2 |", "same sentence. " * 100,
     "def f(x):\n    return x + 1", "1 2 3 4 5 6 7 8 9 10", "\x00\x07 bell", "<div class='x'>&nbsp;</div>"],
)  # fmt: skip
def test_any_text_is_taken(tiny, tmp_path, text):
    found = chunk_document(Document(text=text), tiny.count_tokens, 160)
    made = augment(tiny, found, AugmentOptions(questions=6), tmp_path)
    assert len(made) == len(found)
    assert all(0 <= one.coverage <= 1 for one in made)
