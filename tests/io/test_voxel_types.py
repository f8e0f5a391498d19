import numpy as np
import pytest

from l2reg.io.voxel_types import VoxelType


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", ">i2", "u2", "i4", "u4", "i8", "u8"])
def test_integers_are_rounded_to_the_nearest_that_the_type_has(dtype: str) -> None:
    kind, limits = np.dtype(dtype), np.iinfo(dtype)
    values = np.array([[-1e20, -130.5, -0.6, 0.4], [0.6, 2.5, 100.49, 1e20]], np.float32)
    stored = VoxelType(kind).encode(values)
    assert stored.dtype == kind.newbyteorder("=")
    for number, value in zip(stored.ravel().tolist(), values.ravel().tolist(), strict=True):
        if abs(value) < 1e9:
            near = [n for n in range(-140, 141) if limits.min <= n <= limits.max]
            assert abs(number - value) == min(abs(n - value) for n in near)
        else:  # the end of the type, or where float64 has its gaps
            assert abs(number) >= min(2**53, limits.max) or number == 0
            assert number * value >= 0


@pytest.mark.parametrize(("slope", "intercept"), [(0.5, -3.0), (2.5, 1000.0), (-0.1, 0.0)])
def test_a_scaling_is_undone_to_half_a_step(
    slope: float, intercept: float, random: np.random.Generator
) -> None:
    kind = VoxelType(np.dtype(np.int16), slope, intercept)
    values = random.uniform(-900, 2000, (3, 4, 5)).astype(np.float32)
    numbers = kind.encode(values).astype(np.float64)
    assert np.abs(numbers * slope + intercept - values).max() <= abs(slope) / 2 + 1e-3
    assert kind.nearest(float(values[1, 2, 3])) == numbers[1, 2, 3] * slope + intercept


@pytest.mark.parametrize(("dtype", "stored"), [("f2", "f4"), ("f4", "f4"), (">f8", "f8")])
def test_floats_keep_their_values_in_32_or_64_bits(dtype: str, stored: str) -> None:
    values = np.array([0.1, -1024.0, 3e30], np.float32)
    encoded = VoxelType(np.dtype(dtype)).encode(values)
    assert encoded.dtype == np.dtype(stored)
    np.testing.assert_array_equal(encoded, values)
    assert VoxelType(np.dtype(dtype)).nearest(-1024.0) == -1024
