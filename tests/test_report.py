"""What an evaluation found: kept as JSON, shown as a table, and shown as a page."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import re
import sys

import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from neurag.config import NeuragError
from neurag.evaluation.disputes import disputes
from neurag.evaluation.page import MOST, write_page
from neurag.evaluation.report import family, role, table, verdicts
from neurag.evaluation.results import Fired, Judged, PairFigures, Question, Result, SystemFigures, save

META = {"model": "tiny", "data": "made-up.jsonl", "documents": 3, "encode_seconds": 1.5, "seed": 0, "broken_rows": 0}
NOTHING = Result({}, (), (), (), {})
HOSTILE = "</title></script><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;\x00"


def judged(id="q", system="neurag", correct=True, **given):
    """An answer; what is not given is unremarkable."""
    told = {"answer": "right" if correct else "wrong", "abstained": False, "answer_words": 1, "doc_ids": ()}
    told |= dict.fromkeys(("em", "f1", "answer_recall", "adopted_wrong", "citation_precision", "citation_recall"))
    told |= dict.fromkeys(("recall_at_1", "recall_at_5")) | {"seconds": 0.5, "first_token_s": 0.1, "prompt_tokens": 30}
    return Judged(**(told | {"id": id, "system": system, "correct": correct} | given))


def figures(**given):
    empty = dict.fromkeys(field.name for field in dataclasses.fields(SystemFigures))
    return SystemFigures(**(empty | {"n": 10, "errors": 0, "match": 0.5, "match_low": 0.4, "match_high": 0.6} | given))


def pair(a="neurag", b="rag-bm25", metric="match", difference=0.1, low=0.05, high=0.15, p=0.01, n=10, verdict="+10"):
    return PairFigures(a, b, metric, difference, low, high, p, n, verdict)


def questions(*ids):
    return tuple(Question(id, f"What is {id}?", ("right",), ("gold",)) for id in ids)


def shown(result, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table(result))
    return console.export_text()


def page(result, path):
    pytest.importorskip("matplotlib")
    write_page(result, path)
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


# the JSON

FINITE = st.floats(allow_nan=False, allow_infinity=False)
TYPES = {
    "str": st.text(max_size=6),
    "int": st.integers(0, 10**12),
    "float": FINITE,
    "float | None": st.none() | FINITE,
    "bool": st.booleans(),
    "bool | None": st.none() | st.booleans(),
    "tuple[str, ...]": st.lists(st.text(max_size=6), max_size=3).map(tuple),
}


def made(kind, **given):
    """Any instance of a dataclass of this evaluation."""
    plain = {field.name: TYPES[field.type] for field in dataclasses.fields(kind) if field.type in TYPES}
    return st.builds(kind, **(plain | given))


def several(strategy):
    return st.lists(strategy, max_size=3).map(tuple)


RESULTS = st.builds(
    Result,
    systems=st.dictionaries(st.text(max_size=6), made(SystemFigures), max_size=3),
    answers=several(made(Judged, fired=several(made(Fired)))),
    pairs=several(made(PairFigures)),
    questions=several(made(Question)),
    meta=st.dictionaries(st.text(max_size=6), st.none() | FINITE | st.text(max_size=6) | st.lists(st.integers())),
)


@given(RESULTS)
@settings(deadline=None, max_examples=60)
def test_json_round_trip(result):
    told = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert Result.from_json(told) == result


def test_json_has_the_public_names():
    told = Result({"rag": figures()}, (judged(),), (pair(),), questions("q"), META).to_json()
    assert set(told) == {"systems", "answers", "pairs", "questions", "meta"}
    public = (
        "n match em f1 answer_words abstained recall_at_1 recall_at_5 seconds_per_question first_token_s prompt_tokens"
    )
    assert set(public.split()) <= set(told["systems"]["rag"])
    assert {"id", "system", "answer", "abstained", "correct", "doc_ids", "fired"} <= set(told["answers"][0])
    assert {"a", "b", "metric", "difference", "low", "high", "p"} <= set(told["pairs"][0])


def test_numbers_that_are_not_finite_become_null_and_come_back_as_such():
    broken = Result(
        {"rag": figures(match=math.nan)},
        (judged(seconds=math.nan, f1=math.inf),),
        (pair(low=-math.inf, high=math.inf),),
        (),
        {"deep": [{"a": math.nan}]},
    )
    told = broken.to_json()
    assert told["systems"]["rag"]["match"] is told["answers"][0]["seconds"] is told["answers"][0]["f1"] is None
    assert told["pairs"][0]["low"] is None and told["meta"] == {"deep": [{"a": None}]}
    back = Result.from_json(told)
    assert back.systems["rag"].match is None and back.answers[0].f1 is None
    assert back.answers[0].seconds is None and math.isnan(back.pairs[0].low)
    assert back.to_json() == told


def test_keys_of_later_versions_are_left_out():
    told = Result({"rag": figures()}, (judged(),), (), (), META).to_json()
    told["answers"][0]["new"] = told["systems"]["rag"]["new"] = told["new"] = 1
    assert Result.from_json(told).answers == (judged(),)


@pytest.mark.parametrize("told", [{}, [], "text", {**NOTHING.to_json(), "answers": [{"fired": []}]}, {"systems": []}])
def test_something_else_is_refused_in_one_line(told):
    with pytest.raises(NeuragError, match="not the result of an evaluation") as error:
        Result.from_json(told)
    assert "\n" not in str(error.value)


def test_save_makes_folders_and_can_be_read_back(tmp_path):
    path = tmp_path / "a" / "b" / "out.json"
    result = Result({"rag": figures()}, (judged(answer="Łódź \ud800"),), (), questions("q"), META)
    save(result, path)
    assert Result.from_json(json.loads(path.read_text(encoding="utf-8"))) == result


@pytest.mark.parametrize(("call", "error"), [("replace", KeyboardInterrupt), ("fsync", OSError)])
def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call, error):
    path = tmp_path / "out.json"
    path.write_text("old")

    def fails(*_):
        raise error

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(error):
        save(NOTHING, path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("out.json", "old")]


# the table


def test_names_tell_the_role_and_the_family():
    names = ["neurag", "rag-splade", "dyprag-fusion", "hybrid-oracle", "closed", "neurag-wrong", "rag-random", "mine"]
    names += ["neurag-direct", "neurag-greedy", "neurag-oracle-greedy"]
    assert [(role(name), family(name)) for name in names] == [
        ("compared", "neurag"),
        ("compared", "rag"),
        ("compared", "prag"),
        ("oracle", "hybrid"),
        ("control", "control"),
        ("control", "control"),
        ("control", "control"),
        ("compared", "other"),
        ("compared", "neurag"),
        ("compared", "neurag"),
        ("oracle", "neurag"),
    ]


def test_columns_that_apply_to_no_system_are_left_out():
    text = shown(Result({"rag": figures(em=0.25), "closed": figures()}, (), (), (), META))
    assert "em" in text.splitlines()[0] and "25.0" in text
    assert not re.search("recall|abstained|tokens|f1", text)
    assert re.search(r"closed +50\.0 \[40\.0–60\.0\] +- *$", text, re.MULTILINE)


def test_controls_stand_below_a_rule_wherever_they_were_named():
    systems = {name: figures() for name in ("neurag-wrong", "neurag", "closed", "rag-oracle", "rag-bm25")}
    firsts = [line.split()[0] for line in shown(Result(systems, (), (), (), META)).splitlines() if line]
    order = [first.strip("─") for first in firsts if first in systems or not first.strip("─")]
    assert order == ["", "neurag", "rag-bm25", "", "rag-oracle", "", "neurag-wrong", "closed"]


def test_the_usual_table_fits_into_80_characters():
    rates = dict.fromkeys(("em", "f1", "recall_at_5", "abstained", "seconds_per_question", "first_token_s"), 0.876)
    systems = {name: figures(**rates, prompt_tokens=1234.5) for name in ("dyprag-fusion", "neurag-random")}
    text = shown(Result(systems, (), (), (), META))
    for name in systems:
        assert re.search(
            rf"^{name} 50\.0 \[40\.0–60\.0\] 87\.6 87\.6 +87\.6 +87\.6 +0\.88 +0\.88 +1234 *$", text, re.MULTILINE
        )


def test_different_numbers_of_questions_are_a_column_and_the_same_are_said_once():
    same = shown(Result({"rag": figures(n=7), "closed": figures(n=7)}, (), (), (), META))
    assert "asked" not in same and "7 questions" in same
    different = shown(Result({"rag": figures(n=7), "closed": figures(n=8)}, (), (), (), META))
    assert "asked" in different and "7 questions" not in different


def test_names_are_never_markup():
    assert "[red]x[/red]" in shown(Result({"[red]x[/red]": figures()}, (), (), (), META))


def test_verdicts_name_the_metric_failures_and_broken_rows():
    systems = {"rag": figures(errors=2), "closed": figures()}
    said = verdicts(Result(systems, (), (pair(verdict="A"), pair(metric="f1", verdict="B")), (), {"broken_rows": 3}))
    assert said[:2] == ["A", "f1: B"]
    assert said[2] == "rag failed at 2 of 10 questions"
    assert said[3].startswith("3 broken rows") and len(said) == 4


def test_a_difference_is_clear_only_where_interval_and_p_say_so():
    assert pair().clear and pair(p=math.nan).clear and pair(difference=-0.1, low=-0.2, high=-0.01).clear
    assert not pair(p=0.05).clear and not pair(low=-0.01).clear and not pair(low=math.nan, high=math.nan).clear


# disagreements


def answered(**right):
    """Answers of systems (underscores for hyphens) to questions: a string of y, n and - (not judged) for each."""
    verdict = {"y": True, "n": False, "-": None}
    return tuple(
        judged(f"q{place}", system.replace("_", "-"), verdict[letter])
        for system, letters in right.items()
        for place, letter in enumerate(letters)
    )


def found(answers):
    return disputes(Result({}, answers, (), questions(*dict.fromkeys(one.id for one in answers)), META))


def test_questions_that_part_neurag_and_rag_come_first_then_the_even_ones():
    answers = answered(
        neurag="ynynn", rag_bm25="ynnny", rag_dense="ynnyy", prag="yynnn", hybrid="yynnn", closed="nyyyy"
    )
    # q0: only a control is wrong; q1: the RAG systems agree with NeuRAG; q3: one of them does; q2: one against four
    assert [one.question.id for one in found(answers)] == ["q4", "q2", "q3", "q1"]


def test_disputes_name_who_was_right_without_controls():
    (dispute,) = found(answered(neurag="y", rag_bm25="n", prag="-", closed="y"))
    assert (dispute.right, dispute.wrong) == (("neurag",), ("rag-bm25",))
    assert set(dispute.answers) == {"neurag", "rag-bm25", "prag", "closed"}


def test_an_oracle_alone_does_not_put_a_question_first():
    answers = answered(neurag="ny", rag_bm25="nn", neurag_oracle="yn")
    assert [one.question.id for one in found(answers)] == ["q1", "q0"]


def test_without_two_systems_to_compare_controls_count():
    assert len(found(answered(neurag="yn", closed="nn"))) == 1


def test_nothing_judged_is_nothing_to_dispute():
    assert not found(answered(neurag="--", rag_bm25="--")) and not found(answered(neurag="y", rag_bm25="-"))


# the page


@pytest.fixture
def hostile():
    """A result in which everything that can be a text is hostile."""
    answers = (
        judged(HOSTILE, "neurag", True, answer=HOSTILE, doc_ids=(HOSTILE,), fired=(Fired(HOSTILE, HOSTILE, 0.5),)),
        judged(HOSTILE, "rag-" + HOSTILE, False, error=HOSTILE, doc_ids=(HOSTILE,)),
    )
    systems = {one.system: figures(seconds_per_question=0.1) for one in answers}
    told = (pair(b="rag-" + HOSTILE, verdict=HOSTILE),)
    asked = (Question(HOSTILE, HOSTILE, (HOSTILE,), (HOSTILE,)),)
    return Result(systems, answers, told, asked, {"data": HOSTILE, HOSTILE: HOSTILE, "list": [HOSTILE]})


def test_texts_are_never_markup(tmp_path, hostile):
    soup = page(hostile, tmp_path / "page.html")
    assert len(soup.find_all("script")) == 1 and "alert" not in soup.script.text
    assert not soup.find_all("img") and not soup.find_all(onerror=True)
    said = HOSTILE.removesuffix("\x00")
    assert said in soup.title.text and soup.select_one(".question").text == said
    assert [p.text for p in soup.select("article > p")] == [said, f"failed: {said}"]
    assert "\x00" not in str(soup)


def test_the_page_loads_nothing(tmp_path, hostile):
    soup = page(hostile, tmp_path / "page.html")
    assert not soup.find_all(["link", "iframe", "object", "embed", "base", "image", "img"])
    for tag in soup.find_all(True):
        for name, value in tag.attrs.items():
            assert name not in ("src", "srcset", "action", "data", "poster")
            assert not name.endswith("href") or value.startswith("#")
            assert name.startswith("xmlns") or "://" not in str(value)
    styles = soup.style.text + "".join(tag["style"] for tag in soup.find_all(style=True))
    assert "@import" not in styles and "url(" not in styles.replace("url(#", "")
    assert "://" not in soup.script.text + styles


def test_plots_have_texts_css_colours_and_ids_of_their_own(tmp_path, hostile):
    soup = page(hostile, tmp_path / "page.html")
    plots = soup.find_all("svg")
    assert len(plots) == 3 and all(plot["aria-label"] for plot in plots)
    drawn = "".join(map(str, plots))
    assert "var(--neurag)" in drawn and not re.search("#[0-9a-f]{6}", drawn)
    assert all(f"--{name}:" in soup.style.text for name in re.findall(r"var\(--(\w+)\)", drawn))
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', drawn)) <= set(ids)
    assert "50.0" in [text.text.strip() for text in plots[1].find_all("text")]


def test_plots_leave_the_settings_of_matplotlib_alone(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    write_page(Result({"rag": figures()}, (), (), (), META), tmp_path / "page.html")
    assert dict(matplotlib.rcParams) == before


def test_answers_stand_side_by_side_with_verdicts_documents_and_weights(tmp_path):
    answers = (
        judged(
            "q",
            "neurag",
            False,
            fired=(Fired("gold", "The Gold", 0.25), Fired("other", "", 7.0)),
            doc_ids=("gold", "rest"),
        ),
        judged("q", "rag-bm25", True, doc_ids=("other", "gold")),
        judged("q", "closed", None, answer=""),
    )
    result = Result({one.system: figures() for one in answers}, answers, (), questions("q"), META)
    (block,) = page(result, tmp_path / "page.html").find_all("details")
    assert block.select_one(".sides").text == "✓ right rag-bm25✗ wrong neurag"
    told = {card.h3.text: card for card in block.find_all("article")}
    assert list(told) == ["neurag", "rag-bm25", "closed"]
    assert [told[name].header.contents[-1].text for name in told] == ["✗ wrong", "✓ right", "not judged"]
    assert [item.text.split() for item in told["neurag"].find_all("li")] == [
        ["0.25", "The", "Gold", "★", "gold"],
        ["7.00", "other"],
        ["rest"],
    ]
    assert [bar["style"] for bar in told["neurag"].select(".bar i")] == ["width: 25%", "width: 100%"]
    assert [item.text for item in told["rag-bm25"].find_all("li")] == ["other", "gold ★ gold"]
    assert told["closed"].p.text == "(nothing)"
    # what the script filters by: places in the list of systems, which the options name
    options = {
        option["value"]: option.text for option in block.find_parent("section").select("select[name=right] option")
    }
    assert options[block["data-right"]] == "rag-bm25" and options[block["data-wrong"]] == "neurag"


def test_at_most_so_many_questions_are_shown_and_all_are_counted(tmp_path):
    count = MOST + 7
    answers = answered(neurag="y" * count, rag_bm25="n" * (count - 1) + "y")
    result = Result({}, answers, (), questions(*(f"q{place}" for place in range(count))), META)
    soup = page(result, tmp_path / "page.html")
    assert len(soup.find_all("details")) == MOST
    said = soup.select_one("#questions").find_parent("section").p.text
    assert said.startswith(f"{count - 1} of {count} questions") and f"first {MOST}" in said


@pytest.mark.parametrize(
    "result",
    [
        NOTHING,
        Result({"neurag": figures()}, answered(neurag="yn"), (), questions("q0", "q1"), META),
        Result(
            {"neurag": figures(match=None), "rag": figures(match=math.nan)},
            answered(neurag="--", rag="--"),
            (),
            (),
            META,
        ),
        Result(
            {"neurag": figures(match_low=None, seconds_per_question=0.0)},
            (),
            (pair(n=0, low=-math.inf),),
            (),
            {"a": None},
        ),
        Result(
            {"a": figures(seconds_per_question=1.0), "b": figures(seconds_per_question=1.0)},
            (),
            (pair(high=math.inf),),
            (),
            {},
        ),
    ],
    ids=["empty", "one system", "no answers", "no intervals", "same time"],
)
def test_meagre_results_make_a_table_and_a_page(tmp_path, result):
    assert shown(result) and not re.search("nan|inf|None", shown(result))
    soup = page(result, tmp_path / "page.html")
    assert soup.h1.text.startswith("NeuRAG evaluation") and not soup.find_all("details")
    assert not re.search(r"\b(nan|inf|None)\b", soup.main.text)


def test_a_new_page_takes_the_place_of_the_old_one_only_whole(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NeuragError, match=re.escape('pip install "neurag[report]"')) as error:
        write_page(NOTHING, path)
    assert "\n" not in str(error.value)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("page.html", "old")]
