import numpy as np
import torch
from scipy.interpolate import BSpline

from l2reg.phantom.appearance import Appearance, _band_limit, _thick_slices
from l2reg.phantom.random_shapes import N_CLASSES, random_shapes
from l2reg.phantom.smooth_noise import _spline, smooth_noise
from l2reg.phantom.tissues import FLAVOURS, tissue_map


def test_thick_slices_are_means_joined_by_lines(random: np.random.Generator) -> None:
    signal = random.normal(size=21)
    matrices = _thick_slices(21, torch.tensor([1.0, 3.0])).double().numpy()
    np.testing.assert_allclose(matrices[0], np.eye(21), atol=1e-6)
    centres = np.arange(1, 21, 3)
    expected = np.interp(np.arange(21), centres, signal.reshape(7, 3).mean(axis=1))
    np.testing.assert_allclose(matrices[1] @ signal, expected, atol=1e-5)


def test_a_band_limit_removes_the_highest_frequencies(random: np.random.Generator) -> None:
    signal = random.normal(size=21)
    matrices = _band_limit(21, torch.tensor([1.0, 0.5])).double().numpy()
    np.testing.assert_allclose(matrices[0], np.eye(21))
    spectrum = np.fft.fft(signal)
    spectrum[6:-5] = 0  # of ten frequencies the lowest five are left
    np.testing.assert_allclose(matrices[1] @ signal, np.fft.ifft(spectrum).real, atol=1e-5)


def test_smooth_noise_is_a_cubic_spline_of_deviation_1(rng: torch.Generator) -> None:
    knots = np.arange(-3.5, 12) + 2  # those of the basis function of number 2
    basis = BSpline.basis_element(knots[:5], extrapolate=False)(np.arange(21) / 4 + 1.5 - 2 + 0.5)
    np.testing.assert_allclose(_spline(21, 4.0, 9)[:, 2], np.nan_to_num(basis), atol=1e-12)
    noise = smooth_noise((2, 30), 21, grain=4.0, generator=rng)
    assert noise.shape == (2, 30, 21, 21, 21)
    assert 0.9 < float(noise.std()) < 1.1
    assert float((noise[..., 1:] - noise[..., :-1]).std()) < 0.45


def test_random_shapes_have_an_outside_and_several_classes(
    random: np.random.Generator, rng: torch.Generator
) -> None:
    classes = random_shapes(3, 25, random, rng)
    assert classes.shape == (3, 1, 25, 25, 25)
    assert 0 <= int(classes.min()) < int(classes.max()) < N_CLASSES
    assert all(len(pair.unique()) > 4 for pair in classes)


def test_a_patient_has_tissues_of_its_own_and_air_around(small_tissues: None) -> None:
    del small_tissues
    for number, flavour in enumerate(FLAVOURS):
        tissues = tissue_map(0, number)
        assert torch.equal(tissues, tissue_map(0, number)), flavour
        assert int(tissues.max()) >= 4
        assert float(tissues[0, 0, 0, 0, -1]) == 0
    assert not torch.equal(tissue_map(0, 0), tissue_map(1, 0))
    assert not torch.equal(tissue_map(0, 0), tissue_map(0, 3))


def test_two_scans_of_one_class_map_differ_and_neither_has_a_hole(rng: torch.Generator) -> None:
    classes = torch.arange(27).view(1, 1, 3, 3, 3).repeat_interleave(7, 2)
    classes = classes.repeat_interleave(7, 3).repeat_interleave(7, 4).expand(4, -1, -1, -1, -1)
    texture = smooth_noise((4, 1), 21, grain=3.0, generator=rng)
    look = Appearance(rng)
    first, second = look(classes, texture), look(classes, texture)
    assert torch.isfinite(first).all()
    assert not torch.allclose(first, second)
    assert all(float(scan.std()) > 0.02 for scan in (*first, *second))
