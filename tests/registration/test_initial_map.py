import re
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.optimisation.rigid_search import RigidSearch
from l2reg.registration.initial_map import InitialMap, InitialMapSearch, Prealignment
from l2reg.registration.small_scans import SmallScans, shrink_scans
from l2reg.registration.start import Start
from l2reg.shapes import Affine

SHAPE = (36, 44, 30)
SPACING_MM = np.array([2.5, 2.0, 3.0])
PRESET: InitialMapSearch = build(load_preset("register", "default"))["initial_map"]
SEARCH = replace(
    PRESET,
    max_size=30,
    rigid_search=replace(PRESET.rigid_search, max_size=18),
    block_matching=replace(PRESET.block_matching, max_size=30),
)


def blobs(seed: int) -> torch.Tensor:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 2.5)
    tissue = 0.3 + 0.4 * (noise > 0) + 0.2 * (noise > 0.05)
    return torch.from_numpy(gaussian_filter(tissue, 0.7))[None, None].float()


def headers(angle: float, shift_mm: tuple[float, float, float]) -> Affine:
    """Return the map of headers that are turned and shifted, though the voxels are the same."""
    turn = Rotation.from_euler("z", angle, degrees=True).as_matrix()
    linear = np.diag(1 / SPACING_MM) @ turn @ np.diag(SPACING_MM)
    centre = (np.array(SHAPE) - 1) / 2
    return torch.from_numpy(
        np.c_[linear, centre - linear @ centre + np.array(shift_mm) / SPACING_MM]
    )[None].float()


def small(fixed: torch.Tensor, moving: torch.Tensor, header_map: Affine) -> SmallScans:
    masks = (torch.ones_like(fixed), torch.ones_like(moving))
    spacing = tuple(SPACING_MM.tolist())
    return shrink_scans((fixed, moving), masks, header_map, spacing, SEARCH.max_size)


def error_mm(found: InitialMap) -> float:
    """Return the largest distance, at the corners, from the map that the voxels have: identity."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(SHAPE) - 1)
    matrix = found.matrix[0].numpy()
    away = corners @ matrix[:, :3].T + matrix[:, 3] - corners
    return float(np.linalg.norm(away * SPACING_MM, axis=1).max())


@pytest.mark.parametrize(
    ("prealign", "angle", "shift_mm"),
    [
        ("auto", 18.0, (0.0, 0.0, 0.0)),
        ("auto", -30.0, (60.0, -40.0, 150.0)),
        ("translation", 0.0, (45.0, 20.0, -30.0)),
        ("affine", 10.0, (20.0, 0.0, 0.0)),
    ],
)
def test_headers_that_place_a_scan_elsewhere_are_put_right(
    prealign: Prealignment, angle: float, shift_mm: tuple[float, float, float]
) -> None:
    image, header_map = blobs(0), headers(angle, shift_mm)
    found = SEARCH(small(image, 1 - image, header_map), header_map, prealign)
    assert found.source == ("rigid" if prealign == "auto" else prealign)
    assert found.similarity > 0.9 > found.header_similarity + 0.1
    assert error_mm(found) < 2.5
    assert found.rotation_deg == pytest.approx(abs(angle), abs=1.5)
    assert found.flags == ()


def test_headers_that_are_right_are_followed_exactly() -> None:
    image, header_map = blobs(0), headers(0.0, (0.0, 0.0, 0.0))
    found = SEARCH(small(image, image, header_map), header_map, "auto")
    assert found.source == "headers"
    assert torch.equal(found.matrix, header_map)
    assert found.similarity == found.header_similarity > 0.99


def test_headers_are_followed_without_a_search_if_so_wished() -> None:
    image, header_map = blobs(0), headers(18.0, (30.0, 0.0, 0.0))
    with patch.object(RigidSearch, "__call__", side_effect=AssertionError("searched")):
        found = SEARCH(small(image, image, header_map), header_map, "none")
    assert found.source == "headers"
    assert torch.equal(found.matrix, header_map)


def test_a_small_gain_moves_no_scan_unless_a_map_is_asked_for() -> None:
    """The scans of different bodies are alike nowhere, so that many maps fit equally badly."""
    header_map = headers(0.0, (0.0, 0.0, 0.0))
    scans = small(blobs(0), blobs(1), header_map)
    strict = replace(
        SEARCH, min_gain=0.5, rigid_search=replace(SEARCH.rigid_search, angles_deg=[0, 25])
    )
    by_headers, asked = (strict(scans, header_map, way) for way in ("auto", "rigid"))
    assert by_headers.source == "headers"
    assert by_headers.flags == ()
    assert asked.source == "rigid"
    assert asked.header_similarity < asked.similarity < asked.header_similarity + 0.5
    weak, uncertain = asked.flags
    assert weak.startswith("weak start: the best rigid map has a similarity of 0.")
    assert re.fullmatch(r"uncertain start: another map, \d+ mm away, fits as well", uncertain)


def test_maps_that_leave_hardly_any_overlap_are_not_taken() -> None:
    image, header_map = blobs(0), headers(0.0, (80.0, 0.0, 0.0))
    found = SEARCH(small(image, image, header_map), header_map, "none")
    assert found.similarity == -1.0


def test_a_given_start_that_fits_worse_than_the_headers_is_flagged() -> None:
    image, header_map = blobs(0), headers(0.0, (0.0, 0.0, 0.0))
    scans = small(image, image, header_map)
    wrong = header_map.clone()
    wrong[0, 0, 3] += 4  # voxels
    assert SEARCH.from_file(scans, header_map, Start(header_map)).flags == ()
    (flag,) = SEARCH.from_file(scans, header_map, Start(wrong)).flags
    assert flag.startswith("bad start: the similarity is 0.")


def test_what_was_found_is_told_in_a_line() -> None:
    found = InitialMap(torch.eye(3, 4)[None], "rigid", 0.954, 0.412, 45.04, 20.56)
    assert str(found) == (
        "first aligned by a rigid map, 45.0 mm and 20.6 degrees away from the headers "
        "(similarity 0.41 -> 0.95)"
    )
