"""hyper_layer.py and routing_rows.py: what is asked, what a bank holds, keys read once, nothing asked is trained on."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurag.knowledge.calibration import load_calibration
from neurag.knowledge.retrieval import Passages

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PLACES = ("Oskerby", "Carrow", "Sund", "Lathen", "Marlow", "Hale", "Brim", "Tarn", "Esk", "Wold")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def doc(title, text, relevant, **more):
    return {"id": f"{title}: {text}", "title": title, "text": text, "relevant": relevant} | more


@pytest.fixture
def titles(bench):
    """Titles that are held out, and others."""
    held_out = bench("common").held_out
    named = [f"Mill {n}" for n in range(80)]
    return [t for t in named if held_out(t)], [t for t in named if not held_out(t)]


def rows_about(names, stem):
    return [
        {
            "id": f"{stem}{n}", "question": f"Who runs {name} of {PLACES[n % 10]} {stem}?", "answers": ["Ada"],
            "docs": [doc(name, f"{name} of {PLACES[n % 10]} is run by Ada.", True),
                     doc("Geese", f"Geese of {PLACES[n % 10]}.", False)],
        }
        for n, name in enumerate(names)
    ]  # fmt: skip


@pytest.fixture
def folder(bench, titles, tmp_path):
    """A few rows of every set, and a corpus."""
    held, free = titles
    common, made = bench("common"), bench("hyper_layer")
    for place, stem in enumerate(made.SETS):
        names = [*held[:3], *free[3 * place : 3 * place + 3]]
        common.write_rows(tmp_path / f"{stem}.jsonl", rows_about(names, stem))
    corpus = [doc(f"Sea {n}", f"The sea of {PLACES[n]} is cold.", None) for n in range(10)]
    common.write_rows(tmp_path / f"{made.CORPUS}.jsonl", corpus)
    common.write_rows(tmp_path / "2wiki_closed.jsonl", rows_about(free[20:22], "closed"))
    return tmp_path


def test_only_documents_that_nothing_was_trained_on_are_asked_about(bench, folder, titles):
    made = bench("hyper_layer")
    told = made.asked_of(folder, "nq_open_oracle", 10)
    assert {name.partition(":")[0] for gold in told.gold for name in gold} == set(titles[0][:3])
    assert len(made.asked_of(folder, "popqa", 10).questions) == 6  # no row of it was trained on
    bank = made.filled(told, [{"id": "x"}, {"id": "y"}, {"id": "z"}], 8)
    assert list(bank)[-2:] == ["x", "y"]
    assert len(made.filled(told, [{"id": "x"}], 2)) == len(told.own) > 2


def test_a_run_ends_with_the_figures_it_names(bench, folder, tiny, monkeypatch, tmp_path, capsys):
    made, out = bench("hyper_layer"), tmp_path / "figures.json"
    # of a random model the answers mean nothing; MiniLM is as good as BM25 here
    monkeypatch.setattr(made, "QUICK", made.Size(4, (8, 12)))
    monkeypatch.setattr(made, "load_backbone", lambda: tiny)
    monkeypatch.setattr(made, "dense_encoder", lambda: None)
    monkeypatch.setattr(made, "Embedded", lambda rows, encoder: Passages(rows))
    monkeypatch.setattr(sys, "argv", ["hyper_layer.py", "--quick", "--data", str(folder), "--json", str(out)])
    made.main()
    told = json.loads(out.read_text())
    wanted = {f"recall_at_{k}_{stem}_{name}" for k in (1, 5) for stem in made.SETS
              for name in ("neurag", "untrained", "bm25", "minilm")}  # fmt: skip
    wanted |= {"null_f1", *(f"null_auc_{stem}" for stem in made.SETS)}
    assert set(told["figures"]) == wanted
    assert all(0 <= value <= 1 for value in told["figures"].values())
    assert told["figures"]["recall_at_1_nq_open_oracle_bm25"] == 1
    assert set(told["meta"]["by_bank"]) == {"8", "12"}
    first = bench("tables").rankers_table(told["figures"], told["meta"])[2]
    assert first.startswith("| popqa | 8 | 4 |")
    # once more: all keys are in the cache
    monkeypatch.setattr(made, "read_chunks", None)
    made.main()
    assert json.loads(out.read_text())["figures"] == told["figures"]


def test_keys_that_are_read_together_are_those_of_each_system(bench, tiny, folder):
    made = bench("hyper_layer")
    one = load_calibration(tiny)
    other = replace(one, layer=one.layer + 1, version="another")
    docs = [doc("Mill", "The mill is run by Ada.", True), doc("", "A ferry.", False)]
    chunks = made.chunks_of(tiny, docs)
    found = made.all_keys(tiny, {"a": one, "b": other}, chunks)
    assert [len(found["a"]), len(found["b"])] == [2, 2]
    assert (found["a"][0][1].shape, found["a"][0][0].shape) == (found["b"][0][1].shape, found["b"][0][0].shape)
    assert (found["a"][0][0] != found["b"][0][0]).any()


def test_keys_alike_become_one_and_the_most_telling_lead(bench):
    made = bench("keys")
    keys = np.array([[1, 0], [0, 1], [0.99, 0.141], [-1, 0]], np.float32)
    told, places = made.joined(keys, np.array([5, 6, 7, 8], np.uint16), 0.9)
    assert places.tolist() == [5, 6, 8]  # the third joined the first
    assert np.allclose(np.linalg.norm(told, axis=1), 1)
    assert 0 < told[0, 1] < 0.141
    assert np.array_equal(told[1:], keys[[1, 3]])
    kept, places = made.changed(made.Variant(most=2), None, (keys, np.arange(4, dtype=np.uint16)))
    assert places.tolist() == [0, 1]
    assert np.array_equal(kept, keys[:2].astype(np.float16))


def test_a_space_cut_to_some_axes_turns_keys_and_questions_alike(bench, tiny, tiny_calibration):
    made = bench("keys")
    axes = made.leading_axes(tiny_calibration.neutral.float(), 8)
    states = torch.randn(5, tiny.width, generator=torch.Generator().manual_seed(0))
    keys = tiny_calibration.project(states).numpy()
    told, _ = made.changed(made.Variant(axes=8), axes, (keys, np.arange(5, dtype=np.uint16)))
    assert np.allclose(told, made.turned(tiny_calibration, axes).project(states).numpy(), atol=2e-3)


def test_variants_of_keys_are_told_with_their_size(bench):
    made = bench("keys")
    variant = made.Variant(axes=64, alike=0.9, bits=4)
    assert variant.name == "axes 64, alike 0.9, int4"
    assert variant.bytes(100, 64) == 100 * (32 + 2 + 2)
    assert made.Variant().bytes(1, 96) == 96 * 2 + 2
    figures = {f"{what}_axes_64_alike_0.9_int4": 0.5 for what in ("recall_at_1", "recall_at_5", "keys", "bytes")}
    meta = {"variants": {variant.name: "axes_64_alike_0.9_int4"}, "questions": 40}
    assert "| axes 64, alike 0.9, int4 | 0 | 0 | 0.500 | 0.500 |" in bench("sheets").lines("keys", figures, meta)


def test_the_target_is_the_best_of_the_others(bench):
    tables = bench("targets")
    figures = {"recall_at_1_popqa_neurag": 0.5, "recall_at_1_popqa_bm25": 0.4, "recall_at_1_popqa_minilm": 0.6}
    assert tables.target("recall_at_1_popqa_neurag", figures).verdict(0.5).startswith("at least 0.6")
    assert tables.target("recall_at_1_popqa_neurag", {}) is None


def test_no_row_to_train_from_is_about_what_is_asked(bench, folder, titles):
    held, free = titles
    made = bench("routing_rows")
    told = list(made.rows_of(folder))
    about = {one["title"] for row in told for one in row["docs"] if one["relevant"]}
    never = set(held) | set(free[20:22])
    never |= {name for stem in ("popqa", "2wikimultihopqa") for name in free if f"{name} of" in _text(folder, stem)}
    assert about
    assert not about & never
    assert all(set(one) == {"id", "title", "text", "relevant"} for row in told for one in row["docs"])


def _text(folder, stem):
    return (folder / f"{stem}.jsonl").read_text()


def test_questions_without_their_document_are_told_by_a_threshold_from_other_questions(bench):
    made = bench("null")
    present, absent = [0.9, 0.7, 0.8, 0.6], [0.1, 0.2, 0.3, 0.65]
    assert made.auc(present, absent) == 15 / 16
    assert made.auc(absent, absent) == 0.5
    assert made.best_threshold(present, absent[:3]) == 0.6  # the lowest of those that part them
    assert made.f1(0.6, present, absent) == 6 / 7
    # the halves pick 0.8 and 0.7 and are asked with the other's
    assert made.f1(0.7, present, absent) == 8 / 9 > made.crossed_f1(present, absent) == 0.8
    assert made.crossed_f1([0.0] * 4, [1.0] * 4) == 2 / 3  # no use: abstaining always
