"""The keys of a chunk: its tokens in the routing layer's calibrated space, the most telling ones first.

Keys are ordered by salience so that a coarse search can read the first few only; `positions` remembers where
each token stood. Not here: scoring (hyper_layer/routing.py).

    >>> keys, positions = chunk_keys(backbone, calibration, "The mill", "It stands in Oskerby.")  # doctest: +SKIP
"""

from __future__ import annotations

import numpy as np
import torch

from ..backbone import Backbone
from .calibration import Calibration, routing_states


@torch.no_grad()
def chunk_keys(backbone: Backbone, calibration: Calibration, title: str, text: str) -> tuple[np.ndarray, np.ndarray]:
    """float16 [n, key_width] unit vectors and uint16 [n] token positions, by falling salience."""
    shown = f"{title}\n{text}" if title else text
    keys = calibration.project(routing_states(backbone, shown, calibration.layer))
    order = calibration.salience(keys).argsort(descending=True, stable=True)
    return keys[order].half().cpu().numpy(), order.to(torch.int32).cpu().numpy().astype(np.uint16)
