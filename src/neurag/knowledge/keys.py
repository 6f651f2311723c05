"""The keys of a chunk: its tokens in the routing layer's calibrated space, the most telling ones first.

A chunk is read twice, as it is written and in lower case, and of the second reading the words that have capitals
are kept: people ask for "washington redskins", and the tokens of a lower-case name are others than those of the
name as documents write it (docs/routing.md). Keys are ordered by salience so that a coarse search can read the
first few only; `positions` remembers where each token stood. Not here: scoring (hyper_layer/routing.py).

    >>> told = [("The mill", "It stands in Oskerby.")]
    >>> [(keys, positions)] = chunk_keys(backbone, calibration, told)  # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..backbone import Backbone
from ..prompts import Prompt, render
from .calibration import Calibration
from .key_codes import pack, unpack
from .states import span_states

KEYS = "as written, lower case, four bits"
"""The readings; changes when the keys of the same text do."""


def keys_version(calibration: Calibration) -> str:
    """Names how a bank's keys were made: keys of another version cannot be compared."""
    return hashlib.sha256(f"{calibration.version} {KEYS}".encode()).hexdigest()[:16]


def chunk_keys(
    backbone: Backbone, calibration: Calibration, chunks: Sequence[tuple[str, str]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Keys and positions, as of `keys_of`, of each chunk, (title, text)."""
    for states, positions in read_chunks(backbone, calibration.layer, chunks):
        yield keys_of(calibration, states, positions)


def read_chunks(backbone: Backbone, layer: int, chunks: Sequence[tuple[str, str]]) -> Iterator[tuple[Tensor, Tensor]]:
    """[n, D] states of each chunk, (title, text), behind `layer` layers, and the positions [n] of the tokens.

    Positions count the tokens of the first reading and then those of the second.
    """
    shown = [f"{title}\n{text}" if title else text for title, text in chunks]
    written, lowered = ([render(backbone, text) for text in told] for told in (shown, map(lower_case, shown)))
    readings = [prompt for pair in zip(written, lowered, strict=True) for prompt in pair]
    states = span_states(backbone, readings, layer)
    for text, prompt in zip(shown, lowered, strict=True):
        first, second = next(states), next(states)
        kept = torch.tensor(_had_capitals(text, prompt), dtype=torch.long, device=first.device)
        positions = torch.cat([torch.arange(len(first), device=first.device), len(first) + kept])
        yield torch.cat([first, second[kept]]), positions


@torch.no_grad()
def keys_of(calibration: Calibration, states: Tensor, positions: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """float16 [n, key_width] unit vectors and uint16 [n] token positions, by falling salience.

    Keys are as precise as a bank keeps them, so what is measured on them holds for banks.
    """
    keys = calibration.project(states)
    order = calibration.salience(keys).to(keys.device).argsort(descending=True, stable=True)
    stored = unpack(pack(keys[order].float().cpu().numpy()), keys.shape[1])
    return stored, positions[order].to(torch.int32).cpu().numpy().astype(np.uint16)


def lower_case(text: str) -> str:
    """The text in lower case, as many characters long as before: the few letters that would grow stay."""
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)


def _had_capitals(shown: str, lowered: Prompt) -> list[int]:
    """Which tokens of the reading in lower case belong to words that have capitals in the text itself."""
    capital = np.zeros(len(shown), bool)
    for word in re.finditer(r"\w+", shown):
        capital[word.start() : word.end()] = word.group() != lower_case(word.group())
    return [place for place, (a, b) in enumerate(lowered.offsets) if capital[a:b].any()]
