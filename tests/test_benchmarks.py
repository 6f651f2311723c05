"""The benchmarks' own arithmetic: made-up documents, recall, timing, the JSON, the reference's size."""

import importlib
import json
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
