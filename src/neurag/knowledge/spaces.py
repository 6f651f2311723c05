"""The input space of a bank: drawn once for a new one, drawn again when it is opened, told in its manifest.

Not here: what an input space is (neurons.py), the bank (bank.py).

    >>> space = open_space(calibration, bank.manifest)         # doctest: +SKIP
"""

from __future__ import annotations

from ..backbone import Backbone
from ..config import EncodeOptions, NeuragError
from .calibration import Calibration
from .folder import Manifest
from .keys import keys_version
from .neurons import InputSpace, band_layers


def open_space(calibration: Calibration, manifest: Manifest) -> InputSpace:
    """The shared A of a bank, drawn again from what its manifest says. Raises NeuragError if it differs."""
    scale, seed = manifest.input_scale, manifest.seed
    space = InputSpace.draw(calibration, manifest.layers, manifest.rank, scale, seed)
    if space.version != manifest.input_version or keys_version(calibration) != manifest.keys_version:
        raise NeuragError(
            "the bank was made with another calibration of this backbone (an older neurag?): encode it again "
            f"(version {manifest.input_version}, here {space.version})"
        )
    return space


def new_space(backbone: Backbone, calibration: Calibration, options: EncodeOptions) -> InputSpace:
    """The shared A that the options ask for."""
    layers = band_layers(backbone.depth, options.band)
    return InputSpace.draw(calibration, layers, options.rank, options.input_scale, options.seed)


def manifest_of(backbone: Backbone, calibration: Calibration, space: InputSpace, options: EncodeOptions) -> Manifest:
    """What a new bank says about how it is made."""
    return Manifest(
        backbone=backbone.fingerprint,
        tokenizer=backbone.tokenizer_fingerprint,
        model=backbone.name,
        rank=options.rank,
        layers=space.layers,
        width=backbone.width,
        key_width=calibration.whiten.shape[1],
        keys_version=keys_version(calibration),
        input_version=space.version,
        input_scale=options.input_scale,
        seed=options.seed,
        precision=options.precision,
    )
