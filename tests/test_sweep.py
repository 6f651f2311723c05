"""Sweeps: each setting is the plain evaluation at that setting, and nothing is asked that a setting cannot change."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from conftest import fresh_cache
from neurag.app.cli import main
from neurag.config import EvalOptions, UsageError
from neurag.evaluation.collection import collect
from neurag.evaluation.data import read_rows
from neurag.evaluation.registry import asked_with
from neurag.evaluation.report import sweep_cells, sweep_failures
from neurag.evaluation.run import evaluate
from neurag.evaluation.sweep import Sweep, parse, sweep
from neurag.evaluation.systems import PLANS, ModelSystem, World
from neurag.evaluation.watch import Watch
from neurag.model import Model
from test_eval import data, options, quick  # noqa: F401


@pytest.fixture
def asked(monkeypatch):
    """(system, ids) of every group of questions that is asked."""
    told = []
    answer = ModelSystem.answer
    monkeypatch.setattr(
        ModelSystem, "answer", lambda self, rows: told.append((self.name, len(rows))) or answer(self, rows)
    )
    return told


def test_every_setting_is_the_evaluation_at_that_setting(data, tiny, tmp_path, monkeypatch):  # noqa: F811
    base = options("closed", "rag-bm25", "rag-oracle", distractors=2)
    (swept,) = sweep(data, [parse("noise=0,0.5,1")], base, backbone=tiny)
    assert (swept.option, swept.values) == ("noise", (0.0, 0.5, 1.0))
    monkeypatch.setenv("NEURAG_CACHE", fresh_cache(tmp_path / "another"))  # so that nothing kept can agree with itself
    for noise, result in zip(swept.values, swept.results, strict=True):
        alone = evaluate(data, replace(base, noise=noise, timed=0), backbone=tiny)
        assert [(a.system, a.id, a.answer, a.doc_ids) for a in result.answers] == [
            (a.system, a.id, a.answer, a.doc_ids) for a in alone.answers
        ]
        assert result.meta["options"]["noise"] == noise
    pasted = [[a.doc_ids for a in r.answers if a.system == "rag-bm25"] for r in swept.results]
    assert pasted[0] != pasted[1] != pasted[2]


def test_a_system_that_a_setting_cannot_change_is_asked_once(data, tiny, asked):  # noqa: F811
    base = options("closed", "rag-bm25", "rag-oracle", limit=4)
    sweep(data, [parse("noise=0,0.5"), parse("distractors=0,1"), parse("documents=6,4")], base, backbone=tiny)
    groups = [name for name, _ in asked]
    assert {name: groups.count(name) for name in set(groups)} == {
        "closed": 1,
        "rag-bm25": 3,  # noise 0, noise 0.5, four documents; six are all there are
        "rag-oracle": 4,
    }


def test_another_seed_is_asked_again_only_where_something_is_drawn(data, tiny, asked):  # noqa: F811
    sweep(data, [parse("seed=0,1")], options("closed", "rag-bm25", "rag-random"), backbone=tiny)
    groups = [name for name, _ in asked]
    assert {name: groups.count(name) // 2 for name in set(groups)} == {"closed": 1, "rag-bm25": 1, "rag-random": 2}


@pytest.mark.parametrize("name", [name for name in PLANS if name not in ("rag-dense", "rag-splade")])
def test_what_changes_a_plan_changes_what_answers_are_kept_by(data, tiny, name):  # noqa: F811
    """Kept answers of another setting would be wrong ones: every system is planned at every pair of settings."""
    rows = tuple(read_rows(data))
    changes = [{}, {"noise": 0.5}, {"seed": 1}, {"seed": 1, "noise": 0.5}, {"passages": 1}, {"max_new_tokens": 3}]
    changes += [{"distractors": 2}, {"distractors": 2, "position": "last"}, {"position": "last"}]
    told = []
    for change in changes:
        setting = options(name, **change)
        world = World(Model(tiny), rows, collect(rows, tiny), setting)
        plans = [replace(PLANS[name][0](world, row), seconds=0.0) for row in rows]
        plain = [
            replace(plan, options=replace(plan.options, passages=0)) for plan in plans
        ]  # used without `paste` only
        told.append((asked_with(name, setting), plain))
    for one, one_plan in told:
        assert all(one != other or one_plan == plan for other, plan in told)
    if name == "closed":
        assert len({one for one, _ in told}) == 2  # only the number of tokens counts


def test_progress_names_the_setting_and_broken_rows_come_once(data, tiny):  # noqa: F811
    with data.open("a") as file:
        file.write("{half\n")
    told, broken = [], []
    watch = Watch(asking=told.append, broken=broken.append)
    sweep(data, [parse("noise=0,1")], options("closed"), watch=watch, backbone=tiny)
    assert list(dict.fromkeys(t.part for t in told)) == ["noise=0.0", "noise=1.0"]
    assert {t.planned for t in told} == {6}  # no times are taken
    assert [b.line for b in broken] == [7]


def test_the_command_writes_a_table_all_results_and_a_plot_for_each_sweep(
    data,  # noqa: F811
    tiny,
    tmp_path,
    monkeypatch,
    capsys,
):
    monkeypatch.setattr("neurag.model.load_backbone", lambda *_: tiny)
    bs4 = pytest.importorskip("bs4")
    pytest.importorskip("matplotlib")
    out, page = tmp_path / "out.json", tmp_path / "page.html"
    code = main(
        ["eval", str(data), "--systems", "closed,rag-bm25,rag-oracle", "--max-new-tokens", "4", "--distractors", "2",
         "--sweep", "noise=0,0.5", "--sweep", "position=first,last", "--json", str(out), "--page", str(page)]
    )  # fmt: skip
    said = capsys.readouterr()
    assert code == 0, said.err
    told = json.loads(out.read_text(encoding="utf-8"))["sweeps"]
    assert [(s["option"], [x["value"] for x in s["settings"]]) for s in told] == [
        ("noise", [0.0, 0.5]),
        ("position", ["first", "last"]),
    ]
    assert all(len(x["result"]["answers"]) == 18 for s in told for x in s["settings"])
    assert all(f"{word}" in said.out for word in ("noise", "0.5", "position", "last", "rag-oracle", "6 questions"))
    soup = bs4.BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    assert [h.text for h in soup.find_all("h2")] == ["By noise", "By position"]
    assert [len(t.find_all("tr")) for t in soup.find_all("table")] == [4, 4]
    plots = soup.find_all("svg")
    assert len(plots) == 2
    assert {"closed", "rag-bm25", "rag-oracle"} <= {text.text.strip() for text in plots[0].find_all("text")}
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_cells_and_failures_are_told_by_setting(data, tiny):  # noqa: F811
    lines = data.read_text(encoding="utf-8").splitlines()
    long = json.loads(lines[0]) | {"question": "Who " * 700}
    data.write_text("\n".join([json.dumps(long), *lines[1:]]), encoding="utf-8")
    (swept,) = sweep(data, [Sweep("noise", (0.0, 0.25))], options("closed"), backbone=tiny)
    assert swept.labels == ("0", "0.25")
    assert sweep_failures(swept) == [
        "noise 0: closed failed at 1 of 6 questions",
        "noise 0.25: closed failed at 1 of 6 questions",
    ]
    assert sweep_cells(swept, "closed") == ["0.0 [0.0–39.0]"] * 2


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("noise", "names no sweep: write OPTION=VALUE,VALUE with one of noise, distractors, position, documents, seed"),
        ("noise:0,1", "names no sweep"),
        ("passages=1,2", "names no sweep"),
        ("noise=0,much", "'much' is no value of noise"),
        ("noise=", "'' is no value of noise"),
        ("distractors=1.5", "'1.5' is no value of distractors"),
        ("seed=0,1,0", "names 0 twice"),
        ("noise=0,2", "--noise is a share: it must be within 0 and 1, not 2.0"),
        ("noise=nan", "it must be within 0 and 1"),
        ("distractors=-1", "--distractors must be at least 0, not -1"),
        ("documents=0", "--documents must be at least 1, not 0"),
        ("position=top", "--position must be one of first, middle, last, not 'top'"),
    ],
)
def test_a_wrong_sweep_is_one_line_before_any_work(data, monkeypatch, capsys, told, expected):  # noqa: F811
    monkeypatch.setattr("neurag.model.load_backbone", lambda *_: pytest.fail("the work began"))
    assert main(["eval", str(data), "--sweep", told]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert expected in line


def test_a_sweep_named_twice_is_refused(data):  # noqa: F811
    with pytest.raises(UsageError, match="--sweep noise comes twice"):
        sweep(data, [parse("noise=0"), parse("noise=1")], EvalOptions())
