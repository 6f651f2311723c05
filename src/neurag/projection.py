"""The routing projection: which space the routing layer's states are compared in.

Keys and queries are norm((h - mean) @ matrix). Without training it is a whitening (knowledge/calibration.py); where a
trained one lies beside a backbone's adapter, that is taken (loading.py). Not here: training it (tasks/routing.py).

    >>> Projection.load(folder / "routing.safetensors").matrix.shape      # [D, key_width]  # doctest: +SKIP
    torch.Size([576, 96])
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .config import NeuragError
from .files import swapped


def leading_axes(keys: Tensor, width: int) -> Tensor:
    """[W, width] the orthogonal axes that hold most of keys [n, W], in falling order."""
    axes: Tensor = torch.linalg.eigh(keys.T @ keys).eigenvectors
    return axes.flip(1)[:, :width]


@dataclass(frozen=True)
class Projection:
    """From states [T, D] behind a layer to unit vectors [T, key_width]."""

    layer: int
    """rho: behind how many layers states are taken."""
    mean: Tensor
    """[D], float32."""
    matrix: Tensor
    """[D, key_width], float32."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """norm(P w(h)), w the centring."""
        return torch.nn.functional.normalize((hidden.float() - self.mean) @ self.matrix, dim=-1)

    @property
    def fingerprint(self) -> str:
        """Hash of all its numbers."""
        digest = hashlib.sha256(str(self.layer).encode())
        for tensor in (self.mean, self.matrix):
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write a safetensors file aside and swap it in."""
        from safetensors.torch import save_file

        tensors = {"mean": self.mean.contiguous(), "matrix": self.matrix.contiguous()}
        with swapped(path) as aside:
            save_file(tensors, aside, metadata={"layer": str(self.layer)})

    @classmethod
    def load(cls, path: Path, device: torch.device | None = None) -> Projection:
        """Read what `save` wrote. Raises NeuragError for a file that is damaged or something else."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="pt", device=str(device or "cpu")) as stored:
                mean, matrix = (stored.get_tensor(name).float() for name in ("mean", "matrix"))
                told = stored.metadata()
            return cls(int(told["layer"]), mean, matrix)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise NeuragError(f"{path} cannot be read ({error}): restore it, or train routing again") from None
