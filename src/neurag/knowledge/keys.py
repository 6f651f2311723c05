"""The keys of a chunk: its tokens in the routing layer's calibrated space, the most telling ones first.

A chunk is read twice, as it is written and in lower case, and of the second reading the words that have capitals
are kept: people ask for "washington redskins", and the tokens of a lower-case name are others than those of the
name as documents write it (docs/fidelity.md). Keys are ordered by salience so that a coarse search can read the
first few only; `positions` remembers where each token stood. Not here: scoring (hyper_layer/routing.py).

    >>> keys, positions = chunk_keys(backbone, calibration, "The mill", "It stands in Oskerby.")  # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
import torch

from ..backbone import Backbone
from ..prompts import Prompt, render
from .calibration import Calibration, prompt_states, routing_states

KEYS = "as written, lower case"
"""The readings; changes when the keys of the same text do."""


def keys_version(calibration: Calibration) -> str:
    """Names how a bank's keys were made: keys of another version cannot be compared."""
    return hashlib.sha256(f"{calibration.version} {KEYS}".encode()).hexdigest()[:16]


@torch.no_grad()
def chunk_keys(backbone: Backbone, calibration: Calibration, title: str, text: str) -> tuple[np.ndarray, np.ndarray]:
    """float16 [n, key_width] unit vectors and uint16 [n] token positions, by falling salience.

    Positions count the tokens of the first reading and then those of the second.
    """
    shown = f"{title}\n{text}" if title else text
    keys = calibration.project(routing_states(backbone, shown, calibration.layer))
    positions = torch.arange(len(keys), device=keys.device)
    lowered = render(backbone, lower_case(shown))
    if kept := _had_capitals(shown, lowered):
        places = torch.tensor(kept, device=keys.device)
        positions = torch.cat([positions, len(keys) + places])
        keys = torch.cat([keys, calibration.project(prompt_states(backbone, lowered, calibration.layer))[places]])
    order = calibration.salience(keys).to(keys.device).argsort(descending=True, stable=True)
    return keys[order].half().cpu().numpy(), positions[order].to(torch.int32).cpu().numpy().astype(np.uint16)


def lower_case(text: str) -> str:
    """The text in lower case, as many characters long as before: the few letters that would grow stay."""
    return "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)


def _had_capitals(shown: str, lowered: Prompt) -> list[int]:
    """Which tokens of the reading in lower case belong to words that have capitals in the text itself."""
    capital = np.zeros(len(shown), bool)
    for word in re.finditer(r"\w+", shown):
        capital[word.start() : word.end()] = word.group() != lower_case(word.group())
    return [place for place, (a, b) in enumerate(lowered.offsets) if capital[a:b].any()]
