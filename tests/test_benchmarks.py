"""The benchmarks' own arithmetic: made-up documents, recall, timing, the JSON, the reference's size."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_companies_are_the_same_for_the_same_seed(bench):
    invented = bench("invented")
    assert invented.companies(5, seed=3) == invented.companies(5, seed=3)
    assert invented.companies(5, seed=3) != invented.companies(5, seed=4)
    assert invented.companies(3, seed=3) == invented.companies(5, seed=3)[:3]


def test_a_company_asks_in_words_it_did_not_teach(bench):
    for company in bench("invented").companies(10):
        assert len(company.learn) == 12
        assert len(company.ask) == 6
        assert not {q for q, _ in company.ask} & {q for q, _ in company.learn}
        assert {a for _, a in company.ask} == {a for _, a in company.learn}
        assert all(answer in company.text for _, answer in company.ask)


def test_versions_of_a_company_differ_in_the_facts_that_changed_and_in_nothing_else(bench):
    versions = bench("versions")
    documents, asked = versions.planted(3, seed=0)
    assert len({document.id for document in documents}) == 6
    texts = {document.id: document.text for document in documents}
    assert [one.changed for one in asked[:6]] == [place in versions.CHANGED for place in range(6)]
    for one in asked:
        assert one.new in texts[one.newer]
        assert (one.new in texts[one.older]) is not one.changed


def test_a_disagreement_counts_where_both_documents_are_named_on_different_sides(bench):
    from neurag.answer import Answer, Conflict, Side, Source

    versions = bench("versions")
    one = versions.Asked("Who?", "Ada", "Bo", "a 2019", "a 2024")
    old, new, other = (Source(name, "a", "", None) for name in ("a 2019", "a 2024", "b 2024"))

    def told(*sides):
        return Answer("Bo", "neurag", conflict=Conflict("newest", tuple(Side("x", documents) for documents in sides)))

    assert versions.reported(told((new,), (old, other)), one)
    assert not versions.reported(told((new,), (other,)), one)
    assert not versions.reported(told((new, old), (other,)), one)
    assert not versions.reported(Answer("Bo", "neurag"), one)


def test_passages_are_for_training_for_the_weigher_or_for_asking(bench):
    common = bench("common")
    docs = [{"title": f"t{n % 40}", "id": f"{n}"} for n in range(4000)]
    held = [doc for doc in docs if common.held_out(doc["title"])]
    aside, asked = ([doc for doc in docs if kind(doc)] for kind in (common.set_aside, common.unseen))
    assert len(aside) + len(asked) == len(held)
    assert not {doc["id"] for doc in aside} & {doc["id"] for doc in asked}
    assert 0.2 < len(aside) / len(held) < 0.3


def test_a_weigher_learns_from_passages_set_aside_and_beside_them_from_trained_ones(bench, monkeypatch):
    made = bench("weighing_rows")
    monkeypatch.setattr(made, "held_out", lambda title: title != "trained")
    monkeypatch.setattr(made, "set_aside", lambda doc: doc["title"] == "aside")
    monkeypatch.setattr(made, "unseen", lambda doc: doc["title"] == "asked")

    def row(name, title, question, text="Bo"):
        doc = {"id": name, "title": title, "text": text, "relevant": True}
        return {"id": name, "question": question, "answers": ["Bo"], "docs": [doc, {**doc, "relevant": False}]}

    told = [row("1", "aside", "Who?"), row("2", "aside", "Who sings?"), row("3", "trained", "Who runs?")]
    told += [row("4", "asked", "Who sings?"), row("5", "aside", "Who hums?", "nobody"), row("6", "trained", "Who?")]
    files = {stem: told if stem == made.FILES[0] else [] for stem in (*made.FILES, made.ALSO_ASKED)}
    aside, seen = ([one["id"] for one in made.rows_of(files, 5, kind, 0)] for kind in (True, False))
    assert (aside, seen) == (["1"], ["3"])  # a question that is asked of another held-out passage as well is left out


def test_peak_memory_is_of_a_process_alone_and_not_of_the_one_that_started_it(bench):
    import subprocess
    import sys

    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); from common import peak_memory; print(peak_memory())"
    held = bytearray(b"x") * (600 << 20)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(told.stdout) < len(held)


def test_questions_about_two_documents_have_two_that_answer(bench, monkeypatch):
    several = bench("several")
    gold = {"relevant": True, "title": "a"}
    row = {"answers": ["Bo"], "question": "Who?"}
    one, two = ({**gold, "id": name, "text": text} for name, text in (("1", "Bo."), ("2", "nobody")))
    wrong = {**one, "id": "3", "relevant": False}
    rows = [{**row, "docs": docs} for docs in ([one], [two, {**two, "id": "4"}], [one, wrong, two])]
    monkeypatch.setattr(several, "read_rows", lambda folder, stem: rows)
    monkeypatch.setattr(several, "unseen", lambda doc: doc["id"] == "2")
    found = several.two_documents(BENCHMARKS, "hotpotqa", 5)
    assert [[doc["id"] for doc in row["docs"]] for row in found] == [["1", "2"]]


def test_the_invented_cableway_answers_what_is_asked_about_it(bench):
    steps = bench("steps")
    sets = steps.world()
    assert {name: len(rows) for name, rows in sets.items()} == {"world_two": 24, "world_one": 24}
    for name, rows in sets.items():
        for row in rows:
            holds = [row["answers"][0].lower() in doc["text"].lower() for doc in row["docs"]]
            assert holds == ([False, True] if name == "world_two" else [True])


def test_recall_is_the_share_of_gold_documents(bench):
    recall_at = bench("common").recall_at
    ranked = ["a", "b", "c", "d", "e", "f"]
    assert recall_at(ranked, {"a"}, 1) == 1
    assert recall_at(ranked, {"a", "c"}, 1) == 0.5
    assert recall_at(ranked, {"a", "c"}, 5) == 1
    assert recall_at(ranked, {"f", "x"}, 5) == 0


def test_a_report_is_whole_after_every_stage(bench, tmp_path):
    common = bench("common")
    out = tmp_path / "new" / "figures.json"
    asked = common.arguments("doc", ["--quick", "--json", str(out), "--seed", "7"])
    report = common.Report(asked)
    report.add(recall_at_1_popqa=0.123456789)
    half = json.loads(out.read_text())
    assert half["figures"] == {"recall_at_1_popqa": 0.12346}
    assert half["meta"]["complete"] is False
    report.note("a reference was scaled")
    report.finish()
    told = json.loads(out.read_text())
    assert set(told) == {"figures", "meta"}
    wanted = {"command", "commit", "machine", "date", "quick", "seed", "versions", "notes"}
    assert wanted <= set(told["meta"])
    assert told["meta"]["complete"] is True
    assert told["meta"]["seed"] == 7
    assert told["meta"]["notes"] == ["a reference was scaled"]
    assert [p.name for p in out.parent.iterdir()] == ["figures.json"]


def test_systems_take_turns(bench):
    order = []
    systems = {name: (lambda name=name: order.append(name)) for name in "ab"}
    seconds = bench("common").interleaved(systems, repeats=3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert set(seconds) == {"a", "b"}


def test_rows_are_read_plain_or_zipped(bench, tmp_path):
    import gzip

    common = bench("common")
    lines = b'{"docs": [{"id": "x"}, {"id": "y"}]}\n{"docs": [{"id": "x"}]}\n'
    (tmp_path / "plain.jsonl").write_bytes(lines)
    (tmp_path / "zipped.jsonl.gz").write_bytes(gzip.compress(lines))
    assert common.read_rows(tmp_path, "plain") == common.read_rows(tmp_path, "zipped")
    assert len(common.read_rows(tmp_path, "plain", 1)) == 1
    assert list(common.passages_of(common.read_rows(tmp_path, "plain"))) == ["x", "y"]
    with pytest.raises(SystemExit, match=r"docs/data\.md"):
        common.read_rows(tmp_path, "missing")
    with pytest.raises(SystemExit, match=r"docs/data\.md"):
        common.data_folder(tmp_path / "missing")


def test_prag_layout_takes_760_kb_on_the_default_backbone(bench):
    assert bench("prag").prag_bytes(depth=30, width=576, ffn_width=1536) == 30 * 3 * 2 * (576 + 1536) * 2 == 760_320


def test_a_race_without_a_winner_is_a_bound_and_says_so(bench):
    prag, common = bench("prag"), bench("common")
    report = common.Report(common.arguments("doc", []))
    lost = prag.Race(1e-3, [(30, 6.0, 0.2), (60, 12.0, 0.5)])
    won = prag.Race(3e-3, [(10, 2.0, 0.9)], reached=(10, 2.0, 0.9))
    assert prag.best_seconds(report, [lost]) == 12.0
    assert report.meta["bound"] is True
    assert "lower bound" in report.meta["notes"][-1]
    assert prag.best_seconds(report, [lost, won]) == 2.0
    assert report.meta["bound"] is False


def test_a_race_cut_short_is_scaled_and_says_so(bench):
    prag, common = bench("prag"), bench("common")
    report = common.Report(common.arguments("doc", ["--quick"]))
    assert prag.best_seconds(report, [prag.Race(1e-3, [(10, 2.0, 0.1)])]) == 12.0
    assert report.meta["scaled"] is True
    assert report.meta["prag_seconds_measured"] == 2.0
    assert "not a measured bound" in report.meta["notes"][-1]


def test_five_thousand_rows_are_taken_from_what_there_is(bench):
    routing = bench("routing")
    from neurag.knowledge.bank import IndexBatch

    lengths = np.array([2, 1, 3])
    keys = np.arange(12, dtype=np.float16).reshape(6, 2)
    batch = IndexBatch(
        list("abc"), list("aab"), [()] * 3, [""] * 3, [None] * 3, lengths, keys, np.arange(6, dtype=np.uint16)
    )
    taken = list(routing.first_rows([batch], 5))
    assert [b.ids for b in taken] == [["a", "b", "c"], ["a", "b"]]
    assert [len(b.keys) for b in taken] == [6, 3]
    assert routing.distinct(iter("aabbc"), 2) == ["a", "b"]


PAGE = """# Results

By hand, before.

<!-- answer:begin -->
the last full run
<!-- answer:end -->

By hand, between.

<!-- answer-quick:begin -->
<!-- answer-quick:end -->
<!-- harness:begin -->
<!-- harness:end -->
<!-- harness-quick:begin -->
<!-- harness-quick:end -->

By hand, after.
"""


def told(command, figures, quick=True, complete=True, **meta):
    fixed = {"commit": "abc1234", "machine": "a mill, 2 cores", "date": "2026-11-21T10:00:00+00:00", "seed": 0}
    return json.dumps(
        {"figures": figures, "meta": {"command": command, "quick": quick, "complete": complete, **fixed, **meta}}
    )


def harness(overhead, **more):
    figures = {"harness_overhead": overhead, "seconds": 10.0, "model_seconds": 9.0}
    return told("harness.py --quick", figures, rows=48, systems=["closed", "neurag"], **more)


def answer(quick, first=1.2):
    sized = {"rows": 5000, "rows_with_own_keys": 500, "questions": 8, "repeats": 3}
    medians = {"neurag": {"first_token_s": 0.06, "routing_s": 0.006, "total_s": 0.6, "prompt_tokens": 31}}
    return told("answer.py", {"first_token_vs_closed": first}, quick, medians=medians, **sized)


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "docs" / "results.md"
    path.parent.mkdir()
    path.write_text(PAGE)
    return path


def inside(text, name):
    return text.partition(f"<!-- {name}:begin -->\n")[2].partition(f"<!-- {name}:end -->")[0]


def test_a_quick_run_fills_its_block_and_nothing_else(bench, page, tmp_path):
    run = tmp_path / "answer.json"
    run.write_text(answer(quick=True))
    assert bench("results").refresh(page, [run]) == ["answer-quick"]
    text = page.read_text()
    made = inside(text, "answer-quick")
    assert "| NeuRAG | 0.06 | 0.006 | 0.6 | 31 |" in made
    for words in ("`python benchmarks/answer.py`", "commit abc1234", "a mill, 2 cores", "2026-11-21", "8 questions"):
        assert words in made.splitlines()[0]
    assert inside(text, "answer") == "the last full run\n"
    assert text.replace(made, "") == PAGE
    assert [p.name for p in page.parent.iterdir()] == ["results.md"]


def test_a_full_run_replaces_the_last_full_one(bench, page, tmp_path):
    run = tmp_path / "answer.json"
    run.write_text(answer(quick=False))
    results = bench("results")
    assert results.refresh(page, [run]) == ["answer"]
    once = page.read_text()
    assert "the last full run" not in once
    assert inside(once, "answer-quick") == ""
    results.refresh(page, [run])
    assert page.read_text() == once


@pytest.mark.parametrize("text", [harness(0.01, complete=False), "{", "[]", '{"figures": {}}', None])
def test_a_run_that_is_not_complete_changes_nothing(bench, page, tmp_path, text):
    run = tmp_path / "harness.json"
    if text is not None:
        run.write_text(text)
    assert bench("results").refresh(page, [run]) == []
    assert page.read_text() == PAGE


@pytest.mark.parametrize(
    "damage",
    [
        ("<!-- answer:end -->", ""),
        ("<!-- answer:begin -->", "<!-- answer:begin --><!-- answer:begin -->"),
        ("<!-- answer:begin -->\nthe last full run\n<!-- answer:end -->", "<!-- answer:end --><!-- answer:begin -->"),
    ],
)
def test_a_page_without_a_block_is_refused_before_the_work(bench, page, damage):
    bench("results").check(page, ["answer", "harness"])
    page.write_text(PAGE.replace(*damage))
    with pytest.raises(SystemExit, match="answer:begin"):
        bench("results").check(page, ["answer", "harness"])


def test_the_page_of_this_checkout_has_every_block_and_every_sheet_a_script(bench):
    sheets = bench("sheets").SHEETS
    bench("results").check(BENCHMARKS.parent / "docs" / "results.md", sheets)
    assert all((BENCHMARKS / f"{name}.py").exists() for name in sheets)


def test_a_shown_command_names_no_place(bench):
    shown = bench("results").shown
    assert shown("answer.py --quick --json /home/x/a.json --seed 3 --data=/home/x") == "answer.py --quick --seed 3"
    assert shown("answer.py --json '/home/my x/a.json' --quick") == "answer.py --quick"


def test_whether_a_target_is_reached_is_computed(bench):
    targets = bench("targets")
    figures = {"recall_at_5_popqa": 0.9, "bm25_recall_at_5_popqa": 0.9, "prag_bytes_per_document": 760_320}
    cases = [("harness_overhead", 0.03, True), ("harness_overhead", 0.0301, False), ("own_exact", 0.8999, False)]
    cases += [("recall_at_5_popqa", 0.9, True), ("recall_at_5_popqa", 0.8999, False)]
    cases += [("bytes_per_document", 152_064, True), ("bytes_per_document", 152_065, False)]
    for name, value, reached in cases:
        verdict = targets.target(name, figures).verdict(value)
        assert verdict.endswith(": reached" if reached else ": **missed**"), (name, value)
    assert targets.target("two_right", figures) is None
    assert targets.target("recall_at_5_2wikimultihopqa", figures) is None


def test_rounding_never_hides_a_miss(bench):
    targets = bench("targets")
    wanted = targets.TARGETS["first_token_vs_closed"]
    assert targets.measured(1.1423, wanted) == "**1.14**"
    assert targets.measured(1.15321, wanted) == "**1.153**"
    assert targets.measured(1.1504, wanted) == "**1.1504**"
    assert targets.measured(0.89996, targets.TARGETS["own_exact"]) == "**0.89996**"
    assert targets.measured(92_800, targets.target("bytes_per_document", {"prag_bytes_per_document": 760_320})) == (
        "**92,800**"
    )


def test_a_ratio_that_is_no_measurement_says_so(bench):
    lines = bench("sheets").lines
    figures = {"ratio_to_prag_equal_accuracy": 18.2}
    assert "18.2** (scaled" in lines("encode", figures, {"bound": True, "scaled": True})[-1]
    assert "18.2** (a lower bound)" in lines("encode", figures, {"bound": True, "scaled": False})[-1]
    assert "18.2** | at least 10: reached" in lines("encode", figures, {})[-1]


def test_recall_is_shown_beside_bm25s(bench):
    figures = {}
    for stem, (ours, theirs) in {"popqa": (0.91, 0.9), "hotpotqa": (0.8, 0.82), "2wikimultihopqa": (0.5, 0.6)}.items():
        for k in (1, 5):
            figures |= {f"recall_at_{k}_{stem}": ours, f"bm25_recall_at_{k}_{stem}": theirs}
    sized = {"questions": 1000, "documents": 20, "seconds_per_question": 0.03, "bm25_seconds_per_question": 0.0002}
    sets = {stem: dict(sized) for stem in ("popqa", "hotpotqa", "2wikimultihopqa")}
    sets["popqa"]["seconds_per_question"] = 0.05
    made = bench("tables").recall_table(figures, {"sets": sets})
    assert made[2] == "| popqa | 1,000 | 20 | **0.910** | 0.900 | **0.910** | 0.900 | reached |"
    assert made[3].endswith("| 0.800 | **0.820** | **missed** |")
    assert made[4].endswith("| no target |")
    assert "30 to 50 ms" in made[-1]


def test_quality_is_shown_with_intervals_and_the_verdicts_that_matter(bench):
    figures = {"match_neurag_popqa": 0.25, "match_closed_popqa": 0.0}
    meta = {
        "systems": ["closed", "rag-oracle", "neurag"],
        "sets": {"popqa": {"questions": 16, "documents": 20, "encode_seconds": 61.4}},
        "intervals": {"match_neurag_popqa": [0.102, 0.495], "match_closed_popqa": [0.0, 0.194]},
        "verdicts": {
            "popqa": ["neurag - closed: +25.0", "neurag - rag-bm25: +6.2 [0.0, 18.8], n=16", "x failed at 1 of 2"]
        },
    }
    made = bench("sheets").lines("quality", figures, meta)
    assert "popqa 16 questions, 20 documents (61 s to encode)" in made[0]
    assert "| neurag | 25 [10, 50] |" in made
    assert "| rag-oracle |  |" in made
    assert made[-2:] == ["- popqa: neurag - rag-bm25: +6.2 [0.0, 18.8], n=16", "- popqa: x failed at 1 of 2"]


def test_robustness_is_shown_by_system_set_and_condition(bench):
    tables = bench("tables")
    figures = {
        "match_ours": 0.3,
        "match_sft_lora": 0.25,
        "match_ours_nq": 0.5,
        "absent_ours": 0.04,
        "closed_plain": 0.05,
    }
    figures |= {"match_ours_noise_0.0": 0.6, "match_ours_gold_last": 0.4, "words_ours": 2.5}
    ours = {"words": "both stages", "trainable": 7_962_624}
    meta = {"sets": {"nq": 128}, "swept": 144, "systems": {"ours": ours}, "verdicts": ["ours - plain: +5.0"]}
    made = tables.robustness_table(figures, meta)
    assert made[0] == "Match in per cent. Questions: nq 128; 144 in every other condition."
    assert "| `ours`: both stages | 7,962,624 | 30.0 | 50.0 | 4.0 |  | 2.5 |" in made
    assert "| gold last | 40.0 |" in made
    assert made[-1] == "- ours - plain: +5.0"
    target = bench("targets").target
    assert target("match_ours", figures).reached(0.3)
    assert not target("absent_ours", figures).reached(0.04)


def test_knowledge_is_shown_by_way_of_asking_and_set(bench):
    figures = {"own_a": 0.5, "closed_a": 0.0, "coverage_a": 0.8, "own_b": 0.25, "coverage_b": 0.7, "int8_loss_a": 0.0}
    meta = {
        "sets": {"a": {"questions": 30, "documents": 12}, "b": {"questions": 12, "documents": 12}},
        "intervals": {"own_a": [0.3, 0.7], "closed_a": [0.0, 0.1], "own_b": [0.1, 0.4]},
    }
    made = bench("sheets").lines("knowledge", figures, meta)
    assert "a 30 questions about 12 passages" in made[0]
    assert "| own neuron, nothing in the prompt | 50 [30, 70] | 25 [10, 40] |" in made
    assert "| of what may be asked, answered by the lessons (estimate) | 0.8 | 0.7 |" in made
    assert "- a, match lost by int8 storage: **0**, at most 0.01: reached" in made
    assert sum("int8" in line for line in made) == 1  # not in the table, since one of the sets lacks it
    assert not any("own neuron" in line for line in made[-1:])  # the reader it is compared with did not run


def test_a_neuron_is_held_against_both_ways_of_reading_the_passage(bench):
    wanted = bench("targets").target_of_set
    figures = {"prompt_plain_a": 0.4, "prompt_reader_a": 0.6, "closed_a": 0.0, "own_a": 0.5}
    assert wanted("own", "a", figures).bound == pytest.approx(0.51)
    assert wanted("own", "a", figures | {"prompt_plain_a": 0.55}).bound == 0.55
    assert wanted("hybrid", "a", figures).bound == 0.6
    assert wanted("wrong", "a", figures).reached(0.03)
    assert not wanted("random", "a", figures).reached(0.01)
    assert wanted("own", "b", figures) is None
    assert wanted("pipeline_documents_per_second", "b", figures).bound == 0.35


def test_abstaining_is_told_from_questions_asked_twice(bench):
    made = bench("abstaining")
    told = [
        made.Told(True, 0.9, False, True), made.Told(True, 0.15, True, True), made.Told(True, 0.5, False, False),
        made.Told(True, None, True, False), made.Told(False, 0.1, True, False), made.Told(False, 0.7, False, False),
    ]  # fmt: skip
    assert made.figures(told) == {"routed": 0.5, "abstention_f1": 0.4, "answered_loss": 0.25, "noticed": 0.5}
    bins = made.reliability(told)
    assert [(one["from"], one["answers"], one["right"]) for one in bins] == [
        (0.1, 2, 0.5), (0.4, 1, 0.0), (0.6, 1, 0.0), (0.8, 1, 1.0)
    ]  # fmt: skip


def test_held_out_titles_are_neither_asked_about_nor_shown_in_training(bench):
    titles = [f"Title {number}" for number in range(200)]
    held = [title for title in titles if bench("common").held_out(title)]
    assert 30 < len(held) < 70
    assert bench("common").held_out(held[0].upper() + "!")  # however it is written
    open_title = next(title for title in titles if title not in held)

    def row(title, other, question="Who?"):
        gold = {"title": title, "text": "It is run by Ada Brindle.", "relevant": True}
        return {"question": question, "answers": ["Ada Brindle"], "type": "squad",
                "docs": [gold, {"title": other, "text": "Geese.", "relevant": False}]}  # fmt: skip

    rows = [row(held[0], open_title), row(open_title, held[1], "Who runs it?"), row(open_title, held[1], "who?")]
    made = bench("task_rows")
    files = dict.fromkeys(made.FILES, ()) | {made.FILES[0]: rows}
    written = list(made.rows_of(files, seed=0))
    assert {one["question"] for one in written} == {"Who runs it?"}  # "Who?" is asked of a held-out document, too
    assert {doc["title"] for one in written for doc in one["passage"]} == {open_title}


def test_rows_are_written_where_the_answer_comes_back_and_people_s_questions_stay(bench, tmp_path):
    made, written = bench("self_rows"), bench("self_rows").Written
    text = "The mill of Oskerby opened in 1987 and is run by Ilse Maranth."
    mill = made.Passage(
        "Oskerby", text, [("Who runs it?", ["ilse maranth"], "search"), ("Why?", ["for fun"], "search")]
    )
    tries = [
        written("1987", "When did it open?", "in 1987"),
        written("1987", "Who opened it?", "Ilse Maranth"),  # another answer comes back
        written("1987", "Did it open in 1987?", "1987"),  # gives itself away
        written("1987", "What year?", "1988"),
    ]
    rows = list(made.rows_of(mill, tries))
    assert [(row["question"], row["answer"]) for row in rows] == [
        ("Who runs it?", "Ilse Maranth"), ("When did it open?", "1987"),
    ]  # fmt: skip
    out = tmp_path / "rows.jsonl"
    assert made.add(out, rows) == 2
    assert made.missing([mill, made.Passage("Carrow", "Another text.")], out) == [
        made.Passage("Carrow", "Another text.")
    ]


def test_passages_of_one_title_make_a_long_document(bench, monkeypatch):
    made = bench("knowledge")
    monkeypatch.setattr(made, "unseen", lambda doc: doc["title"] != "Seen")
    titles = ("Oskerby", "Oskerby", "Carrow", "Seen", "Seen", "Oskerby")
    rows = [
        {
            "id": str(n), "answers": [f"start{n}"],
            "docs": [{"id": f"d{n}", "title": title, "text": f"start{n} " + "word " * 1600, "relevant": True}],
        }
        for n, title in enumerate(titles)
    ]  # fmt: skip
    (group,) = made.long_documents(rows, 3)  # Carrow is too short, Seen was trained on
    assert [row["id"] for row in group] == ["0", "1"]  # that is long enough
    far = made.joined(group)
    assert len({row["docs"][0]["id"] for row in far}) == 1
    assert all(f"start{n}" in far[0]["docs"][0]["text"] for n in (0, 1))


def test_every_recipe_is_another_one(bench):
    made = bench("recipes")
    told = {
        (
            replace(made.EncodeOptions(), **one.encode).recipe(replace(made.AugmentOptions(), **one.augment)),
            one.told,
            one.confined,
        )
        for one in made.RECIPES.values()
    }
    assert len(told) == len(made.RECIPES)
    assert set(made.QUICK) <= set(made.RECIPES)


GOOD = """
import sys
from pathlib import Path
Path(sys.argv[sys.argv.index("--json") + 1]).write_text({text!r})
"""


@pytest.fixture
def place(bench, page, tmp_path):
    """A checkout with two benchmarks of its own: answer.py fails halfway, harness.py is good."""
    made = bench("bench").Place(tmp_path / "scripts", tmp_path / "figures", page)
    for size in ("full", "quick"):
        (made.figures / size).mkdir(parents=True)
    made.scripts.mkdir()
    half = answer(quick=True).replace('"complete": true', '"complete": false')
    (made.scripts / "answer.py").write_text(GOOD.format(text=half) + "sys.exit(3)\n")
    (made.scripts / "harness.py").write_text(GOOD.format(text=harness(0.01)))
    return made


BOTH = ["--only", "answer", "--only", "harness"]


def test_one_that_fails_does_not_stop_the_others(bench, place, capfd):
    kept = place.kept("answer", full=False)
    kept.write_text(answer(quick=True, first=1.1))
    assert bench("bench").main(BOTH, place) == 1
    text = place.page.read_text()
    assert "**0.01** | at most 0.03: reached" in inside(text, "harness-quick")
    assert inside(text, "answer-quick") == ""  # what is kept of an earlier run is not told as this one's
    assert json.loads(kept.read_text())["meta"]["complete"] is True
    told = capfd.readouterr()
    assert "answer: failed with exit code 3" in told.err
    assert "make bench ONLY=answer" in told.err


def test_a_script_that_says_nothing_complete_has_failed(bench, place, capfd):
    (place.scripts / "harness.py").write_text(GOOD.format(text=harness(0.01, complete=False)))
    assert bench("bench").main(["--only", "harness"], place) == 1
    assert place.page.read_text() == PAGE
    assert "no complete figures" in capfd.readouterr().err


def test_flags_reach_the_scripts(bench, place, tmp_path):
    said = tmp_path / "said"
    (place.scripts / "harness.py").write_text(
        GOOD.format(text=harness(0.01, quick=False)) + f"Path({str(said)!r}).write_text(' '.join(sys.argv[1:]))\n"
    )
    main = bench("bench").main
    assert main(["--only", "harness", "--full", "--seed", "4", "--data", "rows"], place) == 0
    assert "--quick" not in said.read_text()
    assert said.read_text().endswith("--data rows --seed 4")
    assert place.kept("harness", full=True).exists()
    assert "at most 0.03" in inside(place.page.read_text(), "harness")
    main(["--only", "harness"], place)
    assert said.read_text().endswith("--quick")


def test_what_is_done_at_this_commit_is_not_run_again(bench, place, monkeypatch):
    runner = bench("bench")
    kept = place.kept("harness", full=False)
    kept.write_text(harness(0.02))
    for now, overhead in (("abc1234", 0.02), ("abc1234-dirty", 0.01)):
        monkeypatch.setattr(runner, "commit", lambda now=now: now)
        assert runner.main(["--only", "harness", "--resume"], place) == 0
        assert json.loads(kept.read_text())["figures"]["harness_overhead"] == overhead


def test_the_page_can_be_written_again_without_running(bench, place):
    place.kept("answer", full=False).write_text(answer(quick=True))
    place.kept("answer", full=True).write_text(answer(quick=False, first=1.1))
    (place.scripts / "answer.py").unlink()
    assert bench("bench").main([*BOTH, "--refresh"], place) == 0
    text = place.page.read_text()
    assert "**1.2**" in inside(text, "answer-quick")
    assert "**1.1**" in inside(text, "answer")


def test_ctrl_c_keeps_what_is_done(bench, place, monkeypatch, capfd):
    runner = bench("bench")
    run = runner.run

    def interrupted(name, *rest):
        if name == "harness":
            raise KeyboardInterrupt
        return run(name, *rest)

    (place.scripts / "answer.py").write_text(GOOD.format(text=answer(quick=True)))
    monkeypatch.setattr(runner, "run", interrupted)
    assert runner.main(BOTH, place) == 1
    assert "**1.2**" in inside(place.page.read_text(), "answer-quick")
    assert "harness: stopped" in capfd.readouterr().err


def test_the_page_alone_does_not_make_a_checkout_dirty(bench, tmp_path, monkeypatch):
    import subprocess

    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    (tmp_path / "docs").mkdir()
    for name in ("docs/results.md", "code.py"):
        (tmp_path / name).write_text("old\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    common = bench("common")
    monkeypatch.setattr(common, "CHECKOUT", tmp_path)
    clean = common.commit()
    (tmp_path / "docs" / "results.md").write_text("new\n")
    assert common.commit() == clean
    (tmp_path / "code.py").write_text("new\n")
    assert common.commit() == f"{clean}-dirty"


def test_quality_asks_what_the_gold_documents_can_answer(bench):
    def row(name, answers, *docs):
        return {"id": name, "answers": answers, "docs": [{"relevant": r, "text": t} for r, t in docs]}

    good = row("good", ["Oskerby"], (False, "nothing"), (True, "The mill is in Oskerby."))
    elsewhere = row("elsewhere", ["Oskerby"], (True, "nothing"), (None, "The mill is in Oskerby."))
    part = row("part of a word", ["Osker"], (True, "The mill is in Oskerby."))
    assert bench("quality").answerable([elsewhere, part, good, good], 1) == [good]


def test_quality_has_a_cache_of_its_own_that_ends_with_the_run(bench, tmp_path, monkeypatch):
    quality = bench("quality")
    monkeypatch.setenv("NEURAG_CACHE", str(tmp_path))
    monkeypatch.setattr(quality, "load_calibration", lambda backbone: (tmp_path / "calibration").mkdir(exist_ok=True))
    from neurag.backbone import cache_folder

    with pytest.raises(KeyboardInterrupt), quality.own_cache(None, "run") as folder:
        assert cache_folder() == folder != tmp_path
        (folder / "answers").write_text("kept")
        raise KeyboardInterrupt
    assert cache_folder() == tmp_path
    with quality.own_cache(None, "run") as folder:
        assert (folder / "answers").read_text() == "kept"
    assert not folder.exists()


def test_all_documents_are_taken_unless_told_otherwise(bench, tiny, tmp_path):
    data = tmp_path / "rows.jsonl"
    docs = [{"id": f"d{n}", "title": "", "text": f"Mill {n} is run by Ilse.", "relevant": not n} for n in range(3)]
    bench("common").write_rows(data, [{"id": "q", "question": "Who?", "answers": ["Ilse"], "docs": docs}])
    result = bench("quality").ask_all(tiny, data, ("rag-bm25",), seed=0)
    assert result.meta["documents"] == 3
