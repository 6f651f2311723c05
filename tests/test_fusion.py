"""Fusion rules: what each makes of several neurons, and that an option chooses among them."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from neurag.config import AnswerOptions, EncodeOptions, Fusion, RouteOptions, UsageError
from neurag.evaluation.fusing import fuse_means
from neurag.hyper_layer.fusion import RULES, rule
from neurag.knowledge.pipeline import encode
from neurag.lora import Lora
from neurag.model import Model

A, B, C = torch.randn(3, 2, 3, 4, generator=torch.Generator().manual_seed(3))
WEIGHTS = (1.0, 0.3, 0.1)
X = torch.randn(5, 3, generator=torch.Generator().manual_seed(4))


def test_fusing_neurons_is_fusing_their_outputs():
    fused = rule("unit_scale")([A, B], (1.0, 0.3))
    torch.testing.assert_close(X @ fused[0], X @ A[0] + 0.3 * (X @ B[0]))


def test_each_rule_gives_the_weights_it_says():
    neurons = [A, B, C]
    torch.testing.assert_close(rule("sum")(neurons, WEIGHTS), A + B + C)
    torch.testing.assert_close(rule("mean")(neurons, WEIGHTS), (A + B + C) / 3)
    torch.testing.assert_close(rule("top1")(neurons, (0.2, 0.5, 0.1)), 0.5 * B)


def test_dyprag_is_the_fusion_that_evaluation_has_for_adapters_with_one_shared_a():
    shared = torch.randn(3, 6)
    fused = fuse_means([Lora({"0.mlp.down_proj": shared}, {"0.mlp.down_proj": b[0].T}) for b in (A, B, C)])
    ours = rule("dyprag")([A, B, C], WEIGHTS)
    torch.testing.assert_close(fused.up["0.mlp.down_proj"] @ fused.down["0.mlp.down_proj"], ours[0].T @ shared)


def test_orthogonalised_leaves_the_strongest_whole_and_the_others_without_their_part_along_it():
    weights = (0.3, 1.0, 0.1)  # B is the strongest
    fused = rule("orthogonalised")([A, B, C], weights)
    for layer in range(2):
        rest = (fused - B)[layer].flatten()
        assert abs(float(rest @ B[layer].flatten())) < 1e-4
        assert float(rest.norm()) > 0.1
    torch.testing.assert_close(rule("orthogonalised")([A, A], (1.0, 0.9)), A)  # said twice is said once
    apart = [torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)]
    apart[0][0, 0, 0], apart[1][0, 1, 1] = 2.0, 3.0  # nothing in common, so nothing is lost
    torch.testing.assert_close(rule("orthogonalised")(apart, (1.0, 0.5)), apart[0] + 0.5 * apart[1])


@pytest.mark.parametrize("name", list(RULES))
def test_rules_leave_the_neurons_as_they_are(name):
    kept = [A.clone(), B.clone()]
    rule(name)(kept, (1.0, 0.5)).add_(1.0)
    assert torch.equal(kept[0], A)
    assert torch.equal(kept[1], B)


def test_every_rule_is_an_option_and_an_unknown_one_is_refused():
    assert get_args(Fusion) == tuple(RULES)
    with pytest.raises(UsageError, match=r"no fusion rule 'product': choose among unit_scale, sum"):
        rule("product")


def test_the_option_reaches_the_forward_pass(tmp_path, tiny, tiny_calibration):
    documents = ["The mill in Oskerby is run by Ada Brindle.", "The inn on Saltpan Lane belongs to Bo Hask."]
    encode(documents, tmp_path / "bank", options=EncodeOptions(steps=2, rank=4, batch=2), backbone=tiny)
    model = Model.load(bank=tmp_path / "bank", backbone=tiny)
    fused = {}
    for name in ("unit_scale", "mean", "top1"):
        options = AnswerOptions(route=RouteOptions(fusion=name, null=-1.0, temperature=5.0), max_new_tokens=1)
        reply = model._reply("Who runs the mill?", options)
        list(model._write([reply]))
        assert len(reply.firing.held) == 2
        fused[name] = reply.firing.fused
    assert not torch.equal(fused["unit_scale"], fused["mean"])
    assert not torch.equal(fused["unit_scale"], fused["top1"])
    with pytest.raises(UsageError, match="no fusion rule"):
        model.answer("Who?", AnswerOptions(route=RouteOptions(fusion="product")))
