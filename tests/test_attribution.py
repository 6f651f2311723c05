"""Attribution: one-token rows say what full passes with a hook say, scores add up, cheaper scores are what they claim."""

from __future__ import annotations

import pytest
import torch

from conftest import make_tiny
from neurag.config import MineOptions, NeuragError, UsageError
from neurag.loading import load_backbone
from neurag.robust.attribution import integrated_gradients, pieces, rule_of
from neurag.robust.probe import Probe, Target

CONTEXT, QUESTION, ANSWER = tuple(range(5, 69)), tuple(range(40, 69)), (70, 71, 72)


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen2"])
def family(request, tmp_path_factory):
    """A tiny random model of each shape, in float32."""
    folder = make_tiny(tmp_path_factory.mktemp(request.param), request.param, layers=4)
    return load_backbone(str(folder), device="cpu", dtype="float32")


def probe_of(backbone, whole=False, **options):
    return Probe.of(backbone, CONTEXT, QUESTION, Target(ANSWER, whole), MineOptions(**options))


def full_pass(backbone, target, edits):
    """What is watched, by the model's own pass over everything; `edits`: layer -> units at the row's positions."""
    ids = torch.tensor([[*CONTEXT, *target.said[:-1]]])
    count = len(target.said)

    def hook(wanted):
        return lambda _, inputs: (torch.cat([inputs[0][:, :-count], wanted[None]], 1),)

    handles = [backbone.down_projection(n).register_forward_pre_hook(hook(z)) for n, z in edits.items()]
    try:
        logits = backbone.model(ids, use_cache=False).logits[0, -count:]
    finally:
        for handle in handles:
            handle.remove()
    told = logits.log_softmax(-1).gather(1, torch.tensor(target.said)[:, None])
    return told.sum() if target.whole else told.exp().sum()


def reference(backbone, probe, steps):
    """One layer at a time, one forward and one backward pass over the whole prompt a step."""
    out = torch.zeros(len(probe.units), probe.units.shape[2])
    for layer, (high, low) in enumerate(zip(probe.units, probe.baseline, strict=True)):
        for alpha in rule_of("midpoint", steps)[0]:
            moved = (low + alpha * (high - low)).requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(full_pass(backbone, probe.target, {layer: moved}), [moved])
            out[layer] += ((high - low) * slope).sum(0) / steps
    return out


@pytest.mark.parametrize("whole", [False, True])
def test_rows_say_what_full_passes_say(family, whole):
    probe = probe_of(family, whole, steps=4)
    assert probe.value == pytest.approx(float(full_pass(family, probe.target, {})), rel=1e-4)
    found, wanted = integrated_gradients(probe, MineOptions(steps=4)).units, reference(family, probe, 4)
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


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
