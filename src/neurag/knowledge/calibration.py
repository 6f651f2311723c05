"""What is fixed once per backbone: the key space, the yardstick of surprise, and the neurons' input space.

All of it comes from small neutral texts that ship with the package (`neutral/`), never from a
bank, so a document's score does not depend on the other documents. Not here: scoring (hyper_layer/routing.py)
and training (encoder.py).

    >>> calibration = load_calibration(backbone)         # doctest: +SKIP
    >>> calibration.project(hidden).shape                # [T, D] -> [T, key_width]  # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
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
from ..projection import Projection
from ..prompts import render
from .asking import asked_directions
from .chance import Yardstick
from .folder import CALIBRATION
from .states import last_units, span_states

KEY_WIDTH = 96
"""Numbers of a key: with four bits each (key_codes.py), keys of a chunk take 7 to 8 KB (docs/routing.md)."""
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
    """[D, key_width] the trained projection, or a whitening onto the leading principal axes."""
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
        return Projection(self.layer, self.mean, self.whiten)(hidden)

    def salience(self, queries: Tensor) -> Tensor:
        """g: how surprising an exact match of each token would be, in deviations. [T, key_width] -> [T]."""
        return Yardstick.of(queries.to(self.neutral) @ self.neutral.T).salience


def load_calibration(backbone: Backbone) -> Calibration:
    """The backbone's calibration, computed on first use (about 20 s on two cores) and then cached."""
    text, questions = neutral_texts()
    trained = backbone.routing.fingerprint if backbone.routing else ""
    told = f"{FORMAT}{backbone.fingerprint}{KEY_WIDTH}{trained}{text}{questions}"
    key = hashlib.sha256(told.encode()).hexdigest()[:16]
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
    layer = backbone.routing.layer if backbone.routing else routing_layer(backbone)
    states = neutral_states(backbone, text, layer)
    found = backbone.routing or whitening(states, layer)
    tensors = (found.mean, found.matrix, found(states)[:NEUTRAL_KEYS], *calibrate_units(backbone, text, questions))
    digest = hashlib.sha256(str(layer).encode())
    for tensor in tensors:
        digest.update(tensor.float().cpu().numpy().tobytes())
    return Calibration(layer, *tensors, version=digest.hexdigest()[:16])


def routing_layer(backbone: Backbone) -> int:
    """rho where nothing was trained."""
    return max(1, round(backbone.depth / 3))


def neutral_states(backbone: Backbone, text: str, layer: int) -> Tensor:
    """[T, D] states of the neutral text, topic by topic."""
    return torch.cat(list(span_states(backbone, [render(backbone, body) for _, body in _topics(text)], layer)))


def whitening(states: Tensor, layer: int, width: int = KEY_WIDTH) -> Projection:
    """Onto the `width` leading principal axes of states [T, D], or as many as there are, each with unit spread."""
    mean = states.mean(0)
    values, axes = torch.linalg.eigh(torch.cov((states - mean).T))
    values, axes = values.flip(0)[:width], axes.flip(1)[:, :width]
    return Projection(layer, mean, axes / torch.sqrt(values + 1e-3 * values[:KEY_WIDTH].mean()))


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


@torch.no_grad()
def unit_statistics(backbone: Backbone, text: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each unit, [depth, F], over the last prompt token and the first 24 answer tokens of every
    third neutral topic."""
    total = torch.zeros(backbone.depth, backbone.ffn_width, device=backbone.device)
    square, count = torch.zeros_like(total), 0
    topics = _topics(text)[::3]
    prompts = [render(backbone, f"Tell me about {topic}.").ids for topic, _ in topics]
    answers = [backbone.tokenizer(body, add_special_tokens=False).input_ids[:24] for _, body in topics]
    said = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    for units in last_units(backbone, said, [1 + len(answer) for answer in answers]):  # [depth, n, F]
        total += units.sum(1)
        square += (units**2).sum(1)
        count += units.shape[1]
    mean = total / count
    return mean, (square / count - mean**2).clamp(min=0).sqrt()
