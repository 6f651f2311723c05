"""Keys in four bits: directions come back nearly as they were, lengths too, and packing twice changes nothing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neurag.knowledge.key_codes import LEVELS, code_bytes, pack, unpack

KEYS = st.integers(1, 33).flatmap(
    lambda width: arrays.arrays(np.float16, (3, width), elements=st.floats(-1, 1, width=16, allow_subnormal=False))
)


@given(KEYS)
def test_no_number_is_further_off_than_half_a_step(keys):
    codes = pack(keys)
    assert codes.shape == (3, code_bytes(keys.shape[1]))
    wide, told = keys.astype(np.float32), unpack(codes, keys.shape[1]).astype(np.float32)
    longest = np.linalg.norm(wide, axis=1)
    assert np.allclose(np.linalg.norm(told, axis=1), longest, rtol=2e-3, atol=1e-4)
    for key, other, largest in zip(wide, told, np.abs(wide).max(1), strict=True):
        if largest > 1e-2:  # smaller ones are lost in float16's own steps
            whole = np.rint(other * LEVELS / np.abs(other).max())
            assert np.abs(whole * largest / LEVELS - key).max() <= 0.501 * largest / LEVELS


@given(KEYS)
def test_packing_again_changes_no_code(keys):
    once = pack(keys)
    again = pack(unpack(once, keys.shape[1]))
    kept = np.abs(keys.astype(np.float32)).max(1) > 1e-2  # smaller ones are lost in float16's own steps
    assert np.array_equal(once[kept, 2:], again[kept, 2:])


def test_unit_vectors_keep_length_and_direction():
    drawn = np.random.default_rng(0).standard_normal((1000, 128))
    keys = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)
    told = unpack(pack(keys), 128).astype(np.float64)
    assert np.abs(np.linalg.norm(told, axis=1) - 1).max() < 1e-3
    assert (told * keys).sum(1).min() > 0.98
    assert pack(keys).nbytes == 1000 * 66


def test_keys_of_zeros_and_no_keys_at_all():
    assert not unpack(pack(np.zeros((2, 5), np.float16)), 5).any()
    assert pack(np.zeros((0, 6), np.float16)).shape == (0, 5)
    assert unpack(np.zeros((0, 5), np.uint8), 6).shape == (0, 6)
