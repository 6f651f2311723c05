"""Mining: votes become sets, a report reads back, a stopped run ends the same, truth is what silencing does."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch

from neurag.app.cli import main
from neurag.config import MineOptions, NeuragError, UsageError
from neurag.hooks import add_to_output
from neurag.robust.contexts import Question, Shown
from neurag.robust.mining import CHECKPOINT, mine, own_answer
from neurag.robust.plots import draw
from neurag.robust.probe import Probe, Target
from neurag.robust.scores import SCORES
from neurag.robust.truth import ablated, sample_units, spearman, top_overlap
from neurag.robust.units import NONE, Units, load_units, save_units, sets_of, stability, top_units, voted

OPTIONS = MineOptions(steps=3, keep=8, save_every=2, votes=0.3, noise_target="gold", score="ig")
ASKED = [
    Question(
        f"q{n}",
        f"Where is mill {n}?",
        (town,),
        (Shown(f"Mill {n}", f"Mill {n} is in {town}.", True), Shown("Kiln", f"Kiln {n} is far away.", False)),
    )
    for n, town in enumerate(["Oskerby", "Tarnhow", "Velling", "Muir", "Hask"])
]


def test_top_units_by_sign():
    scores = torch.tensor([[3.0, -5.0, 0.0], [1.0, -2.0, 0.0]])
    assert top_units(scores, 3).tolist() == [0, 3, NONE]
    assert top_units(scores, 3, "negative").tolist() == [1, 4, NONE]
    assert top_units(scores, 3, "absolute").tolist() == [1, 0, 4]
    assert top_units(scores, 9).tolist() == [0, 3, *[NONE] * 7]


def test_votes_make_sets():
    relevant = torch.tensor([[1, 2], [1, 3], [1, NONE], [2, 3]])
    assert voted(relevant, 0.5) == {1, 2, 3}
    assert voted(relevant, 0.75) == {1}
    assert voted(relevant, 0.0) == {1, 2, 3}  # two lists at least
    assert voted(relevant[:1], 0.0) == frozenset()
    units = sets_of({"relevant": relevant, "irrelevant": torch.tensor([[3, 5], [3, 5]])}, 0.5, depth=2, width=3)
    assert (units.shared, units.only_relevant, units.only_irrelevant) == ({3}, {1, 2}, {5})
    assert units.by_layer(units.relevant) == [[1, 2], [0]]


def test_stability_is_one_for_lists_that_agree_and_none_for_nothing():
    same = torch.tensor([[1, 2, 3]] * 8)
    told = stability({"relevant": same, "irrelevant": same}, 0.5, 2, 4)
    assert told == {"relevant": 1.0, "irrelevant": 1.0, "only_relevant": None, "only_irrelevant": None}
    apart = torch.arange(24).view(8, 3)
    mixed = torch.cat([same[:4], apart[:4] + 4])
    assert 0 < stability({"relevant": mixed, "irrelevant": same}, 0.3, 10, 4)["relevant"] <= 1


def test_a_report_reads_back(tmp_path):
    units = Units(3, 4, frozenset({0, 5, 11}), frozenset({5, 6}))
    save_units(units, tmp_path / "units.json", {"model": "tiny"})
    found, told = load_units(tmp_path / "units.json")
    assert found == units
    assert told["model"] == "tiny"
    assert told["layers"][1] == {
        "layer": 1,
        "relevant": [1],
        "irrelevant": [1, 2],
        "shared": [1],
        "exclusive": {"relevant": [], "irrelevant": [2]},
    }
    (tmp_path / "other.json").write_text('{"layers": 3}')
    for name in ("other.json", "missing.json"):
        with pytest.raises(NeuragError, match="neurag mine"):
            load_units(tmp_path / name)


def test_mining_writes_sets_that_name_units_of_the_model(tiny, tmp_path):
    told = []
    mined = mine(tiny, ASKED, OPTIONS, tmp_path, told.append)
    assert mined.contexts == {"relevant": 5, "irrelevant": 5}
    assert mined.completeness_error < 0.2  # three steps only
    assert mined.units.relevant
    assert max(mined.units.relevant) < 6 * 96
    found, report = load_units(tmp_path / "units.json")
    assert found == mined.units
    assert report["options"]["keep"] == 8
    assert report["backbone"] == tiny.fingerprint
    assert [one.done for one in told] == [1, 2, 3, 4, 5]
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_stopped_run_ends_the_same(tiny, tmp_path):
    def stop(told):
        if told.done == 3:
            raise KeyboardInterrupt

    mine(tiny, ASKED, OPTIONS, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        mine(tiny, ASKED, OPTIONS, tmp_path / "again", stop)
    seen = []
    mine(tiny, ASKED, OPTIONS, tmp_path / "again", seen.append)
    assert seen[0].done == 3  # the checkpoint was written after two
    reports = [json.loads((tmp_path / name / "units.json").read_text()) for name in ("whole", "again")]
    for report in reports:
        report.pop("seconds")
    assert reports[0] == reports[1]


def test_a_checkpoint_of_other_questions_is_not_taken_up(tiny, tmp_path):
    def stop(told):
        if told.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mine(tiny, ASKED, OPTIONS, tmp_path, stop)
    seen = []
    mine(tiny, ASKED[1:], OPTIONS, tmp_path, seen.append)
    assert seen[0].done == 1


def test_the_wrong_answer_is_watched_only_where_there_is_one(tiny, tmp_path, monkeypatch):
    """What the model says is made up: right, nothing, "not stated", or wrong."""
    from neurag.robust import mining

    told = iter(["It is Oskerby", "", "not stated", "Tarn", "Xanadu"])
    ids = lambda text: tiny.tokenizer(text, add_special_tokens=False).input_ids  # noqa: E731
    watched = []
    probe = Probe.of.__func__
    monkeypatch.setattr(mining, "own_answer", lambda *_: ids(next(told)))
    monkeypatch.setattr(Probe, "of", classmethod(lambda *args: watched.append(args[4]) or probe(*args)))
    asked = [ASKED[0], ASKED[2], ASKED[3], ASKED[1], ASKED[4]]
    mined = mine(tiny, asked, MineOptions(steps=1, score="gradient"), tmp_path)
    assert mined.contexts == {"relevant": 5, "irrelevant": 1}
    assert watched[-1] == Target(tuple(ids("Xanadu")))
    assert mined.skipped == {
        "irrelevant: the model is right all the same": 1,
        "irrelevant: the model gives no answer": 2,
        "irrelevant: the wrong answer begins like the right one": 1,
    }


def test_prompts_that_are_too_long_are_counted(tiny, tmp_path):
    long = [Shown("Long", "word " * 2000 + "Oskerby", True), Shown("Far", "It is far.", False)]
    asked = [*ASKED, Question("long", "Where?", ("Oskerby",), tuple(long))]
    assert mine(tiny, asked, replace(OPTIONS, noise=("related",)), tmp_path).skipped == {
        "relevant: the prompt is too long": 1
    }


def test_prompts_beyond_a_window_are_counted(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny.model.config, "sliding_window", 60, raising=False)
    with pytest.raises(NeuragError, match="too long"):
        mine(tiny, ASKED[:2], OPTIONS, tmp_path)


def test_own_answer_is_what_the_model_decodes(tiny):
    from neurag.decoding import decode

    prompt = list(range(5, 30))
    said = [step.tokens[0] for step in decode(tiny, [prompt], 16)]
    assert own_answer(tiny, prompt) == [t for t in said if t not in tiny.stop_ids]


def test_nothing_to_probe_is_a_failure_that_says_why(tiny, tmp_path):
    bare = [Question("a", "Who?", ("x",), ())]
    with pytest.raises(NeuragError, match="no such passages"):
        mine(tiny, bare, OPTIONS, tmp_path)
    with pytest.raises(UsageError, match="related"):
        mine(tiny, ASKED, MineOptions(noise=("rude",)), tmp_path)
    with pytest.raises(UsageError, match="--keep"):
        mine(tiny, ASKED, MineOptions(keep=0), tmp_path)


def test_silencing_a_unit_by_rows_is_silencing_it_in_a_full_pass(tiny):
    context, question, target = tuple(range(5, 60)), tuple(range(40, 60)), Target((70, 71), whole=True)
    probe = Probe.of(tiny, context, question, target, MineOptions())
    picks = torch.tensor([[0, 3], [0, 90], [2, 7], [5, 50]])
    found = ablated(probe, picks)
    for (layer, unit), lost in zip(picks.tolist(), found.tolist(), strict=True):
        change = (probe.baseline - probe.units)[layer, :, unit]

        def silenced(_, output, layer=layer, unit=unit, change=change):
            output[:, -2:] += change[:, None] * probe.weight(layer)[:, unit]
            return output

        with torch.no_grad(), add_to_output(tiny.down_projection(layer), silenced):
            logits = tiny.model(torch.tensor([[*context, 70]])).logits[0, -2:]
        told = float(logits.log_softmax(-1)[[0, 1], [70, 71]].sum())
        assert probe.value - told == pytest.approx(lost, abs=2e-5)


def test_sampled_units_are_distinct_sorted_and_all_where_few():
    picks = sample_units(4, 5, 12, seed=1)
    assert len({tuple(p) for p in picks.tolist()}) == 12
    assert picks[:, 0].tolist() == sorted(picks[:, 0].tolist())
    assert len(sample_units(4, 5, 999, seed=1)) == 20
    assert not torch.equal(picks, sample_units(4, 5, 12, seed=2))


def test_rank_correlation_and_overlap():
    one = torch.tensor([1.0, 2.0, 2.0, 9.0])
    assert spearman(one, one**3) == pytest.approx(1)
    assert spearman(one, -one) == pytest.approx(-1)
    assert spearman(one, torch.tensor([1.0, 3.0, 2.0, 4.0])) == pytest.approx(0.9486833)  # scipy.stats.spearmanr
    assert spearman(one, torch.ones(4)) == 0
    assert top_overlap(one, torch.tensor([0.0, 1.0, 0.0, -4.0]), 2) in (0.5, 1.0)
    assert top_overlap(one, torch.tensor([0.0, 0.0, 0.0, -4.0]), 1) == 1.0


def test_integrated_gradients_rank_units_by_what_silencing_does(tiny):
    probe = Probe.of(tiny, tuple(range(5, 60)), tuple(range(40, 60)), Target((70,)), MineOptions())
    picks = sample_units(6, 96, 300, seed=0)
    truth = ablated(probe, picks)
    found = SCORES["ig"](probe, MineOptions()).units[picks[:, 0], picks[:, 1]]
    assert spearman(found, truth) > 0.5
    assert spearman(found[torch.randperm(300, generator=torch.Generator().manual_seed(0))], truth) < 0.3


def test_plots_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    units = Units(3, 4, frozenset({0, 5, 11}), frozenset({5, 6}))
    told = {"relevant": 0.5, "irrelevant": None, "only_relevant": 0.2, "only_irrelevant": 0.1}
    drawn = draw(units, told, tmp_path)
    assert [path.name for path in drawn] == ["layers.svg", "overlap.svg", "stability.svg"]
    assert all(path.read_text().startswith("<?xml") for path in drawn)


@pytest.fixture
def rows_file(tmp_path):
    rows = [
        {
            "id": q.id,
            "question": q.text,
            "answers": list(q.answers),
            "docs": [{"title": p.title, "text": p.text, "relevant": p.relevant} for p in q.passages],
        }
        for q in ASKED
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "{"]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("contexts", ["labels", "bm25"])
def test_the_command_writes_a_report_and_plots(tiny_folder, tmp_path, rows_file, capsys, contexts):
    pytest.importorskip("matplotlib")
    told = ["mine", str(rows_file), "--model", str(tiny_folder), "-o", str(tmp_path / "out"), "--contexts", contexts]
    assert main([*told, "--score", "gradient", "--noise-target", "gold", "--noise", "random"]) == 0
    shown = capsys.readouterr()
    assert "relevant only" in shown.out
    assert "line 6" in shown.err
    assert load_units(tmp_path / "out" / "units.json")[1]["options"]["score"] == "gradient"
    assert (tmp_path / "out" / "layers.svg").exists()


def test_the_command_counts_its_rows_and_names_what_it_lacks(tiny_folder, tmp_path, rows_file, capsys, monkeypatch):
    told = ["mine", str(rows_file), "--model", str(tiny_folder), "-o", str(tmp_path / "out")]
    assert main([*told, "--limit", "2", "--score", "ig", "--steps", "2", "--noise-target", "gold", "--no-plots"]) == 0
    assert load_units(tmp_path / "out" / "units.json")[1]["questions"] == 2
    assert "completeness error" in capsys.readouterr().out
    assert not list((tmp_path / "out").glob("*.svg"))
    monkeypatch.setattr("neurag.robust.mining.mine", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main([*told, "--no-plots"]) == 1
    assert "run the same command again" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(told) == 1
    assert "neurag[report]" in capsys.readouterr().err
    assert main([*told, "--no-plots", "--score", "magic"]) == 2
