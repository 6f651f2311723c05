"""What is fixed once per backbone: the key space, the yardstick of surprise, and the neurons' input space.

All of it comes from small neutral texts that ship with the package (`neutral/`), never from a
bank, so a document's score does not depend on the other documents. Not here: scoring (hyper_layer/routing.py)
and training (encoder.py).

    >>> calibration = load_calibration(backbone)         # doctest: +SKIP
    >>> calibration.project(hidden).shape                # [T, D] -> [T, key_width]  # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..backbone import Backbone, cache_folder, processor_format
from ..config import NeuragError
from ..files import swapped
from ..hooks import read_input, read_output
from ..prompts import Prompt, render
from .asking import asked_directions, read_units
from .chance import Yardstick
from .folder import CALIBRATION

KEY_WIDTH = 128
NEUTRAL_KEYS = 16_384
FORMAT = "4"
TENSORS = ("mean", "whiten", "neutral", "unit_mean", "unit_scale", "asked", "asked_mean")


@dataclass(frozen=True)
class Calibration:
    """The constants of one backbone (about 9 MB for the default one)."""

    layer: int
    """rho, the routing layer: keys and queries are its output."""
    mean: Tensor
    """[D] mean of the neutral states."""
    whiten: Tensor
    """[D, key_width] whitening onto the leading principal axes."""
    neutral: Tensor
    """[n, key_width] neutral keys, in text order: what chance matches look like."""
    unit_mean: Tensor
    """[depth, ffn_width] mean input of every down projection while answering."""
    unit_scale: Tensor
    """[depth, ffn_width] standard deviation of the same."""
    asked: Tensor
    """[depth, ASKED, ffn_width] directions that tell what a question asks for (asking.py); [depth, 0, ffn_width] for a
    model that was taught to do without (tasks/matching.py)."""
    asked_mean: Tensor
    """[depth, ffn_width] mean input of every down projection at the end of a question."""
    version: str
    """Hash of all of the above: two machines that round differently have different versions."""

    def project(self, hidden: Tensor) -> Tensor:
        """[T, D] states of the routing layer -> [T, key_width] unit vectors: norm(P w(h))."""
        return torch.nn.functional.normalize((hidden.float() - self.mean) @ self.whiten, dim=-1)

    def salience(self, queries: Tensor) -> Tensor:
        """g: how surprising an exact match of each token would be, in deviations. [T, key_width] -> [T]."""
        return Yardstick.of(queries.to(self.neutral) @ self.neutral.T).salience


def load_calibration(backbone: Backbone) -> Calibration:
    """The backbone's calibration, computed on first use (about 20 s on two cores) and then cached."""
    text, questions = neutral_texts()
    key = hashlib.sha256(f"{FORMAT}{backbone.fingerprint}{KEY_WIDTH}{text}{questions}".encode()).hexdigest()[:16]
    path = cache_folder() / "calibration" / f"{key}.safetensors"
    if not path.exists():
        save_calibration(path, calibrate(backbone, text, questions))
    return read_calibration(path, backbone)


def neutral_texts() -> tuple[str, str]:
    """The texts that ship: lines of topic, tab, paragraph; and lines of wordings of one question, tabs between."""
    folder = files("neurag.knowledge").joinpath("neutral")
    text, questions = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("neutral.tsv", "questions.tsv"))
    return text, questions


def bank_calibration(bank: str | Path, backbone: Backbone) -> Calibration:
    """The calibration a bank was made with. It travels with the bank: the same backbone calibrated on another
    machine, or by another version of this package, differs a little, and the bank's neurons and keys would not fit.
    """
    path = Path(bank) / CALIBRATION
    return read_calibration(path, backbone) if path.exists() else load_calibration(backbone)


def read_calibration(path: Path, backbone: Backbone) -> Calibration:
    """Read what `save_calibration` wrote. Raises NeuragError for a damaged file."""
    try:
        with safe_open(str(path), framework="pt", device=str(backbone.device)) as stored:
            tensors = {name: stored.get_tensor(name).float() for name in TENSORS}
            told = stored.metadata()
    except (OSError, SafetensorError) as error:
        raise NeuragError(f"{path} cannot be read ({error}): restore it from a copy") from error
    tensors["neutral"] = tensors["neutral"].to("cpu", processor_format())
    return Calibration(layer=int(told["layer"]), version=told["version"], **tensors)


def save_calibration(path: Path, made: Calibration) -> None:
    """Write aside, then swap in; the neutral keys, most of the bytes, as float16."""
    tensors = {name: getattr(made, name).cpu().contiguous() for name in TENSORS}
    tensors["neutral"] = tensors["neutral"].half()
    with swapped(path) as aside:
        save_file(tensors, aside, metadata={"layer": str(made.layer), "version": made.version})


@torch.no_grad()
def calibrate(backbone: Backbone, text: str, questions: str) -> Calibration:
    """Read the neutral text once as documents and once as answers, and the neutral questions."""
    lines = _topics(text)
    layer = max(1, round(backbone.depth / 3))
    states = torch.cat(list(_document_states(backbone, [body for _, body in lines], layer)))
    mean = states.mean(0)
    values, axes = torch.linalg.eigh(torch.cov((states - mean).T))
    width = min(KEY_WIDTH, backbone.width)
    values, axes = values.flip(0)[:width], axes.flip(1)[:, :width]
    whiten = axes / torch.sqrt(values + 1e-3 * values.mean())
    neutral = torch.nn.functional.normalize((states - mean) @ whiten, dim=-1)[:NEUTRAL_KEYS]
    tensors = (mean, whiten, neutral, *calibrate_units(backbone, text, questions))
    digest = hashlib.sha256(str(layer).encode())
    for tensor in tensors:
        digest.update(tensor.float().cpu().numpy().tobytes())
    return Calibration(layer, *tensors, version=digest.hexdigest()[:16])


@torch.no_grad()
def calibrate_units(backbone: Backbone, text: str, questions: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """unit_mean, unit_scale, asked and asked_mean of a Calibration."""
    unit_mean, unit_scale = unit_statistics(backbone, text)
    if backbone.reading:  # a model that is only asked was taught to tell questions apart in the drawn directions
        none = unit_mean.new_zeros(backbone.depth, 0, backbone.ffn_width)
        return unit_mean, unit_scale, none, torch.zeros_like(unit_mean)
    return unit_mean, unit_scale, *asked_directions(backbone, questions.strip().split("\n"), unit_scale)


def _topics(text: str) -> list[list[str]]:
    return [line.split("\t", 1) for line in text.splitlines() if "\t" in line]


def _document_states(backbone: Backbone, texts: list[str], layer: int) -> Iterator[Tensor]:
    for text in texts:
        yield routing_states(backbone, text, layer)


@torch.no_grad()
def routing_states(backbone: Backbone, text: str, layer: int) -> Tensor:
    """[T, D] outputs of layer `layer` (1 = after the first) for the tokens of a text inside a user message.

    Living inside the chat template puts keys where queries live, and keeps attention sinks off the text.
    """
    return prompt_states(backbone, render(backbone, text), layer)


@torch.no_grad()
def prompt_states(backbone: Backbone, prompt: Prompt, layer: int) -> Tensor:
    """[T, D] outputs of layer `layer` for the tokens of a prompt's span."""
    ids = torch.tensor([prompt.ids], device=backbone.device)
    kept: list[Tensor] = []
    with read_output(backbone.layers[layer - 1], kept.append):
        run_layers(backbone, ids, layer)
    return kept[0][0, prompt.span[0] : prompt.span[1]].float()


class _Enough(Exception):
    """Raised by a hook to leave a forward pass whose upper layers are not needed."""


def run_layers(backbone: Backbone, ids: Tensor, layers: int) -> None:
    """Run the first `layers` layers only; hooks on them see what they need. `ids` is [1, T]."""

    def stop(_: Tensor) -> None:
        raise _Enough

    if layers >= backbone.depth:
        backbone.model(input_ids=ids, use_cache=False, logits_to_keep=1)
        return
    try:
        with read_input(backbone.layers[layers], stop):
            backbone.model(input_ids=ids, use_cache=False)
    except _Enough:
        pass


@torch.no_grad()
def unit_statistics(backbone: Backbone, text: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each unit, [depth, F], over the last prompt token and the first 24 answer tokens of every
    third neutral topic."""
    total = torch.zeros(backbone.depth, backbone.ffn_width, device=backbone.device)
    square, count = torch.zeros_like(total), 0
    for topic, body in _topics(text)[::3]:
        prompt = render(backbone, f"Tell me about {topic}.").ids
        answer = backbone.tokenizer(body, add_special_tokens=False).input_ids[:24]
        ids = torch.tensor([[*prompt, *answer]], device=backbone.device)
        units = torch.stack([x[0, len(prompt) - 1 :] for x in read_units(backbone, ids)]).float()  # [depth, T, F]
        total += units.sum(1)
        square += (units**2).sum(1)
        count += units.shape[1]
    mean = total / count
    return mean, (square / count - mean**2).clamp(min=0).sqrt()
