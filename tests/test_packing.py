"""Packed weights change the time of a pass and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from neurag import packing
from neurag.packing import PackedLinear, PackedMatrix, pack


def linear(dtype=torch.float32, bias=False):
    torch.manual_seed(3)
    return nn.Linear(96, 40, bias=bias, dtype=dtype).requires_grad_(False)


@pytest.fixture
def supported():
    if not packing._supported(torch.zeros(2, 2)):
        pytest.skip("this torch has no oneDNN operators: weights stay as they are")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_packed_outputs_are_the_plain_ones(supported, dtype, bias):
    if not packing._supported(torch.zeros(2, 2, dtype=dtype)):
        pytest.skip("this processor does not multiply the format itself: weights stay as they are")
    layer, x = linear(dtype, bias), torch.randn(2, 5, 96).to(dtype)
    plain, names = layer(x), set(layer.state_dict())
    assert pack(layer)
    assert isinstance(layer, PackedLinear)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), plain, rtol=1e-6 if dtype == torch.float32 else 0, atol=1e-6)
    assert set(layer.state_dict()) == names


def test_gradients_still_flow(supported):
    layer, x = linear(), torch.randn(3, 96, requires_grad=True)
    pack(layer)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad[0], layer.weight.sum(0))


def test_changed_weights_are_used(supported):
    layer, x = linear(), torch.randn(3, 96)
    pack(layer)
    with torch.no_grad():
        before = layer(x)
        layer.weight.mul_(2)
        torch.testing.assert_close(layer(x), 2 * before)


def test_replaced_and_copied_weights(supported):
    layer, x = linear(), torch.randn(3, 96)
    pack(layer)
    twin = copy.deepcopy(layer)
    layer.weight = nn.Parameter(torch.ones(40, 96), requires_grad=False)
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[:, 0], x.sum(1))
        torch.testing.assert_close(twin(x), nn.functional.linear(x, twin.weight))


def test_large_models_and_other_formats_are_left_alone(monkeypatch):
    assert not pack(linear(torch.float64))
    monkeypatch.setattr(packing, "LARGEST", 100)
    layer = linear()
    assert not pack(layer)
    assert type(layer) is nn.Linear


def test_the_backbone_is_the_model_transformers_loads(plain):
    from transformers import AutoModelForCausalLM

    from neurag.loading import default_folder

    loaded = AutoModelForCausalLM.from_pretrained(default_folder(), dtype=plain.dtype, attn_implementation="eager")
    ids = torch.tensor([plain.tokenizer("The mill in Oskerby is run by Ilse Maranth.").input_ids])
    exact = plain.dtype == torch.bfloat16  # float32 products differ in rounding
    with torch.no_grad():
        made, expected = plain.model(ids).logits, loaded.eval()(ids).logits
    torch.testing.assert_close(made, expected, rtol=0 if exact else 1e-4, atol=0 if exact else 1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("able", [True, False])
def test_products_with_rows_are_the_plain_ones(dtype, able, monkeypatch):
    if not able:
        monkeypatch.setattr(packing, "_supported", lambda _: False)
    torch.manual_seed(3)
    matrix, vectors = torch.randn(70, 32).to(dtype), torch.randn(5, 32)
    torch.testing.assert_close(PackedMatrix(matrix)(vectors), vectors.to(dtype) @ matrix.T)
    assert PackedMatrix(matrix[:0])(vectors).shape == (5, 0)
