"""Attribution: one-token rows say what full passes say, scores add up, cheaper scores are what they claim to be."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

from conftest import make_tiny
from neurag.config import MineOptions, NeuragError, UsageError
from neurag.loading import load_backbone
from neurag.robust.attribution import integrated_gradients, pieces, rule_of
from neurag.robust.curves import deletion, insertion, silenced
from neurag.robust.probe import Probe, Target
from neurag.robust.scores import SCORES, UNSIGNED
from neurag.robust.truth import ablated
from neurag.robust.units import matched

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
CONTEXT, QUESTION, ANSWER = tuple(range(5, 69)), tuple(range(40, 69)), (70, 71, 72)


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen2"])
def family(request, tmp_path_factory):
    """A tiny random model of each shape, in float32."""
    folder = make_tiny(tmp_path_factory.mktemp(request.param), request.param, layers=4)
    return load_backbone(str(folder), device="cpu", dtype="float32")


def probe_of(backbone, whole=False, **options):
    return Probe.of(backbone, CONTEXT, QUESTION, Target(ANSWER, whole), MineOptions(**options))


@pytest.fixture
def slow(monkeypatch):
    """The reference of the benchmark: full passes with a hook, one layer at a time."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("reference")


@pytest.mark.parametrize("whole", [False, True])
def test_rows_say_what_full_passes_say(family, whole, slow):
    probe = probe_of(family, whole, steps=4)
    assert probe.value == pytest.approx(float(slow.watched(family, CONTEXT, probe.target, {})), rel=1e-4)
    found = integrated_gradients(probe, MineOptions(steps=4)).units
    wanted, _ = slow.integrated(family, CONTEXT, QUESTION, probe.target, range(4), 4)
    for layer, scores in wanted.items():
        assert (found[layer] - scores).abs().max() <= 1e-4 * scores.abs().max()


def test_a_small_chunk_changes_nothing(tiny):
    probe = probe_of(tiny, whole=True)
    big, small = (integrated_gradients(probe, MineOptions(steps=5, chunk=n)).units for n in (10_000, 20))
    assert torch.allclose(big, small, rtol=1e-4, atol=1e-6 * float(big.abs().max()))


@pytest.mark.parametrize("rule", ["midpoint", "gauss"])
@pytest.mark.parametrize("baseline", ["question", "zero"])
def test_scores_add_up_to_what_the_layer_changes(tiny, rule, baseline):
    options = MineOptions(rule=rule, baseline=baseline)
    told = integrated_gradients(probe_of(tiny, baseline=baseline), options)
    assert told.completeness_error < 0.01
    coarse = integrated_gradients(probe_of(tiny, baseline=baseline), MineOptions(steps=1, baseline=baseline))
    assert coarse.completeness_error > told.completeness_error


def test_gated_scores_add_up_over_all_layers(tiny, slow):
    probe = probe_of(tiny)
    told = SCORES["gate_ig"](probe, MineOptions(steps=40))
    off = slow.watched(tiny, CONTEXT, probe.target, dict(enumerate(probe.baseline)))
    assert float(told.difference) == pytest.approx(probe.value - float(off), rel=1e-3)
    assert told.completeness_error < 0.02
    parts = SCORES["gate_ig"](probe, MineOptions(steps=40, chunk=7)).units
    assert torch.allclose(told.units, parts, atol=1e-5 * float(parts.abs().max()))


def test_gradient_is_the_end_of_the_path(tiny, slow):
    """Only the last of the steps: the slope at z itself, by the model's own pass."""
    probe = probe_of(tiny, whole=True)
    found = SCORES["gradient"](probe, MineOptions()).units
    for layer in (0, 5):
        end = probe.units[layer].clone().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(slow.watched(tiny, CONTEXT, probe.target, {layer: end}), [end])
        wanted = ((end - probe.baseline[layer]) * slope).sum(0).detach()
        assert (found[layer] - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_relp_keeps_what_flows_straight_and_halves_what_is_gated(tiny):
    """In the last layer only the final norm is above a unit: its denominator is a constant, and nothing else."""
    probe = probe_of(tiny)
    found = SCORES["relp"](probe, MineOptions()).units[-1]
    stream = probe.outs[-1, 0]
    norm, head = tiny.model.model.norm, tiny.model.lm_head.weight
    logits = norm(stream) @ head.T
    chance = logits.softmax(-1)
    first = ANSWER[0]
    slope = chance[first] * (head[first] - chance @ head) * norm.weight
    slope = slope * (stream.square().mean() + norm.variance_epsilon).rsqrt()
    wanted = (probe.units[-1, 0] - probe.baseline[-1, 0]) * (slope @ probe.weight(5))
    assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-6)
    gradient = SCORES["gradient"](probe, MineOptions()).units
    assert not torch.allclose(SCORES["relp"](probe, MineOptions()).units[0], gradient[0], rtol=0.1)


def test_every_score_leaves_the_model_as_it_was(tiny):
    ids = torch.tensor([CONTEXT])
    before = tiny.model(ids).logits
    for name, score in SCORES.items():
        told = score(probe_of(tiny), MineOptions(steps=2)).units
        assert told.shape == (6, 96), name
        assert torch.isfinite(told).all()
        assert (told >= 0).all() or name not in UNSIGNED
    assert torch.equal(tiny.model(ids).logits, before)
    assert tiny.model.config._attn_implementation == "eager"


def test_bfloat16_weights_with_float32_rows_still_add_up(tiny_folder):
    narrow = load_backbone(str(tiny_folder), device="cpu", dtype="bfloat16")
    told = integrated_gradients(probe_of(narrow), MineOptions())
    assert told.units.dtype == torch.float32
    assert told.completeness_error < 0.01
    given_up = integrated_gradients(probe_of(narrow, precision="model"), MineOptions(precision="model"))
    assert given_up.completeness_error > told.completeness_error


def test_pieces_hold_every_row_once_and_are_bounded():
    cut = list(pieces(6, 5, 2, 40))
    rows = [(layer, step) for piece in cut for layer, steps in piece for step in range(5)[steps]]
    assert rows == [(layer, step) for layer in range(6) for step in range(5)]
    costs = [sum(2 * (6 - layer) * len(range(5)[steps]) for layer, steps in piece) for piece in cut]
    assert max(costs) <= 40


@pytest.mark.parametrize(("name", "steps"), [("trapeze", 20), ("midpoint", 0)])
def test_impossible_rules_are_refused(name, steps):
    with pytest.raises(UsageError):
        rule_of(name, steps)


def test_gauss_integrates_a_cubic_exactly():
    places, weights = rule_of("gauss", 2)
    assert float((weights * places**3).sum()) == pytest.approx(0.25)


def test_an_answer_without_tokens_is_refused(tiny):
    with pytest.raises(NeuragError, match="answer"):
        Probe.of(tiny, CONTEXT, QUESTION, Target(()), MineOptions())


def test_a_prompt_beyond_a_sliding_window_is_refused(tiny, monkeypatch):
    monkeypatch.setattr(tiny.model.config, "sliding_window", 32, raising=False)
    with pytest.raises(UsageError, match="fewer passages"):
        probe_of(tiny)


def test_units_silenced_together_are_those_of_a_full_pass(tiny, slow):
    probe = probe_of(tiny, whole=True)
    masks = torch.zeros(3, 6, 96, dtype=torch.bool)
    masks[1] = True
    masks[2, 5, 7] = True
    found = silenced(probe, masks)
    everything = slow.watched(tiny, CONTEXT, probe.target, dict(enumerate(probe.baseline)))
    assert float(found[0]) == pytest.approx(probe.value, rel=1e-5)
    assert float(found[1]) == pytest.approx(float(everything), rel=1e-4)
    one = float(ablated(probe, torch.tensor([[5, 7]])))
    assert probe.value - float(found[2]) == pytest.approx(one, abs=1e-5)


def test_deleting_what_helps_hurts_more_than_deleting_others(tiny):
    probe = probe_of(tiny)
    scores = SCORES["ig"](probe, MineOptions()).units
    scores[:-1] = 0  # units of one layer do not change each other
    best, worst = (deletion(probe, told, [0, 20])[1] for told in (scores, -scores))
    assert best < probe.value < worst
    ends = insertion(probe, scores, [0, 6 * 96])
    assert float(ends[1]) == pytest.approx(probe.value, rel=1e-5)
    assert float(ends[0]) == pytest.approx(float(silenced(probe, torch.ones(1, 6, 96, dtype=torch.bool))), rel=1e-5)


def test_matched_units_are_others_of_the_same_layers():
    units = {3, 4, 27, 29, 20, 21, 22, 23, 24, 25}
    found = matched(units, width=10, seed=1)
    assert not found & units
    assert sorted(n // 10 for n in found) == [0, 0, 2, 2]  # the third layer has two others only
    assert found == matched(units, width=10, seed=1)
    assert len({matched({3, 4}, 10, seed) for seed in range(5)}) > 1


def test_the_benchmark_measures_all_it_names(tiny, slow, tmp_path):
    """On the tiny model, all but what loads a backbone of its own."""
    bench, common = (importlib.import_module(name) for name in ("attribution", "common"))
    report = common.Report(common.arguments("doc", ["--json", str(tmp_path / "out.json")]))
    case = bench.Case(CONTEXT, QUESTION, ANSWER)
    bench.measure_completeness(report, tiny, [case])
    bench.measure_speed(report, tiny, [case])
    bench.measure_truth(report, tiny, [case, case], units=60)
    assert report.figures["completeness_error"] < 0.01
    assert report.figures["speedup_vs_reference"] > 1
    assert {f"spearman_{name}" for name in SCORES} < set(report.figures)
    assert report.figures["default_score"] in range(1, len(SCORES) + 1)
    assert report.figures["deletion_ig"] < report.figures["deletion_random"]
    assert report.figures["insertion_ig"] > report.figures["insertion_random"]


def test_random_units_are_those_of_the_same_layers(slow):
    bench = importlib.import_module("attribution")
    scores = torch.rand(3, 20)
    told = bench.shuffled(scores, seed=0)
    assert not torch.equal(told, scores)
    assert torch.equal(told.sort(1).values, scores.sort(1).values)


def test_the_benchmark_takes_rows_as_questions(slow, tmp_path):
    bench = importlib.import_module("attribution")
    row = {"id": "a", "question": "Who?", "answers": ["x"], "docs": [{"title": "t", "text": "x", "relevant": True}]}
    (tmp_path / f"{bench.STEM}.jsonl").write_text(json.dumps(row) + "\n")
    (asked,) = bench.questions(tmp_path, 5)
    assert asked.passages[0].relevant
    assert asked.answers == ("x",)


def test_the_page_shows_scores_best_first(slow):
    tables = importlib.import_module("tables")
    figures = {f"{what}_{name}": 0.5 for what in tables.CURVES for name in ("ig", "relp", "random")}
    meta = {"by_spearman": ["relp", "ig"], "default": "ig", "score_seconds": {"ig": 2.0, "relp": 0.1}}
    told = importlib.import_module("sheets").lines(
        "attribution", figures | {"default_score": 2.0, "completeness_error": 0.002}, meta
    )
    assert [line.split("|")[1].strip() for line in told[2:4]] == ["`relp`", "`ig` (default)"]
    assert "missed" in next(line for line in told if "default_score" in line)
    assert "reached" in next(line for line in told if "completeness_error" in line)
