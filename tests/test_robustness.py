"""The benchmark of hardening: what is learned is clean of what is asked, and a run ends with the figures it names."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
TOWNS = "Oskerby Tarnhow Velling Muir Hask Lund Brae Corin Dunmere Eskdale Farrow Gorse".split()


def row(stem, number, kind, gold=True):
    town = TOWNS[number % len(TOWNS)]
    docs = (
        [{"title": f"Mill {stem} {number}", "text": f"Mill {number} is in {town}.", "relevant": True}] if gold else []
    )
    docs += [{"title": f"Kiln {m}", "text": f"Kiln {stem} {number} {m} is far.", "relevant": False} for m in range(5)]
    docs = [doc | {"id": f"{stem}-{number}-{n}"} for n, doc in enumerate(docs)]
    return {"id": f"{stem}{number}", "question": f"Where is mill {stem} {number}?", "answers": [town], "docs": docs,
            "type": kind}  # fmt: skip


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    kinds = ("nq", "webq", "triviaqa")
    files = {"ragbench_nq_tqa_webq": [row("a", n, kinds[n % 3]) for n in range(60)],
             "nq_open_oracle": [row("b", n, "nq") for n in range(12)]}  # fmt: skip
    for stem in ("popqa", "hotpotqa", "2wikimultihopqa", "ramdocs", "poisonedrag"):
        files[stem] = [row(stem, n, stem, gold=n != 0) for n in range(4)]
    for stem, rows in files.items():
        (folder / f"{stem}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_what_is_asked_is_not_learned(bench, data):
    sets, held_out = bench("robust_sets"), bench("common").held_out
    found = sets.parted(data, asked=3)
    asked = {q.text for qs in found.sets.values() for q in qs}
    shown = {p.text for qs in found.sets.values() for q in qs for p in q.passages if p.relevant}
    assert all(found.sets[name] for name in sets.SIX)
    assert not asked & {q.text for q in found.learned}
    assert not shown & {p.text for q in found.learned for p in q.passages}
    assert not any(held_out(p.title) for q in found.learned for p in q.passages)
    assert all(held_out(p.title) for q in found.sets["nq"] for p in q.passages if p.relevant)
    assert all(any(p.relevant for p in q.passages) for qs in found.sets.values() for q in qs)


def test_conditions_show_what_they_say(bench, data):
    from neurag.robust.contexts import Contexts

    sets = bench("robust_sets")
    questions = sets.parted(data, asked=3).sets["popqa"]
    contexts = Contexts(questions)
    sizes = {name: make(contexts, questions[0]) for name, make in sets.CONDITIONS.items()}
    told = {name: (len(c.passages), len(c.gold)) for name, c in sizes.items() if c}
    assert told["mixed"] == told["gold_last"] == told["noise_0.8"] == (5, 1)
    assert told["noise_0.0"] == (1, 1)
    assert told["noise_0.4"] == (3, 1)
    assert told["noise_1.0"] == (5, 0)
    assert told["closed"] == (0, 0)
    assert told["distractors_2"] == (3, 1)
    assert sizes["gold_last"].gold == (4,)
    assert sizes["gold_first"].gold == (0,)


def test_results_are_means_over_sets_and_seeds(bench):
    made, asked = bench("robust_results"), bench("robust_sets").Asked
    results = made.Results()
    nq, web = asked("nq", "1", ("Oskerby",), ()), asked("webq", "1", ("Muir",), ())
    results.add("plain", "mixed", [nq, web], ["It is in Muir.\nAnswer: Oskerby", "Hask"])
    results.add("plain", "mixed", [nq, web], ["Oskerby", "Muir"])
    assert results.rate("plain", "mixed", ["webq"]) == 0.5
    assert results.main("plain") == 0.75
    assert results.told("plain") == {"mixed": [1.0, 0.5]}
    assert results.asked() == {"mixed": ["nq/1", "webq/1"]}


def test_a_quick_run_ends_with_the_figures_it_names(bench, data, tiny_folder, tmp_path, monkeypatch):
    main, systems = bench("robustness"), "plain,ours,sft_lora,last_layers,boosted"
    # a random model's own answers are no answers
    own = ["--harden", "batch_tokens=600", "--steps", "2"]
    for pair in ("steps=2", "votes=0.3", "keep=100", "noise-target=gold"):
        own += ["--mine", pair]
    out = tmp_path / "robustness.json"
    flags = ["--quick", "--model", str(tiny_folder), "--device", "cpu", "--data", str(data), "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["robustness.py", *flags, "--systems", systems, "--retrieval", "bm25", *own])
    main.main()
    told = json.loads(out.read_text())
    figures, meta = told["figures"], told["meta"]
    assert meta["complete"] is True
    wanted = {"trainable_share", "ability_change", "ability_plain", "perplexity_ours"}
    for name in systems.split(","):
        wanted |= {f"match_{name}_{one}" for one in meta["sets"]} | {
            f"absent_{name}",
            f"closed_{name}",
            f"words_{name}",
        }
    for name in ("plain", "ours", "sft_lora"):
        wanted |= {f"match_{name}_noise_{rate}" for rate in bench("robust_sets").RATES}
        wanted |= {f"match_{name}_gold_middle", f"match_{name}_distractors_4", f"match_{name}_kind_counterfactual"}
        wanted.add(f"match_{name}_retrieved_bm25")
    assert wanted <= set(figures), wanted - set(figures)
    assert meta["sets"]["poisonedrag"] == 2
    assert len(meta["verdicts"]) == 4
    assert meta["systems"]["sft_lora"]["trainable"] > 0
    assert meta["systems"]["boosted"]["trainable"] == 0
    assert "match_last_layers_gold_first" in figures or "match_boosted_gold_first" in figures  # the best baseline


def test_options_are_set_by_name_and_kind(bench):
    from neurag.config import MineOptions, UsageError

    changed = bench("robust_sizes").changed
    told = changed(MineOptions(), ["votes=0.5", "noise=related,random", "limit=3", "noise-sign=negative"])
    assert (told.votes, told.noise, told.limit, told.noise_sign) == (0.5, ("related", "random"), 3, "negative")
    with pytest.raises(UsageError, match="no option 'vote'"):
        changed(MineOptions(), ["vote=1"])
    with pytest.raises(UsageError, match="not a value of keep"):
        changed(MineOptions(), ["keep=many"])


def test_an_unknown_system_is_refused_before_the_work(bench, data, tiny_folder, monkeypatch):
    from neurag.config import UsageError

    flags = ["--quick", "--model", str(tiny_folder), "--device", "cpu", "--data", str(data), "--systems", "theirs"]
    monkeypatch.setattr(sys, "argv", ["robustness.py", *flags])
    with pytest.raises(UsageError, match="no system 'theirs'"):
        bench("robustness").main()
