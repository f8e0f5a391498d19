import pytest

from l2reg.shapes import as_working_grid, working_shape


@pytest.mark.parametrize(
    ("grid", "expected"),
    [("full", (192, 160, 193)), ("half", (96, 80, 97)), ([64, 64, 48], (64, 64, 48))],
)
def test_working_grids(grid: object, expected: tuple[int, ...]) -> None:
    assert working_shape((192, 160, 193), grid) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("grid", [[], [8, 9], [8, 9, 1], (8, 9, 10, 11)])
def test_a_working_grid_has_a_name_or_three_sizes(grid: object) -> None:
    with pytest.raises(ValueError, match="half, full or three sizes of 2 voxels or more, got"):
        as_working_grid(grid)  # type: ignore[arg-type]
    assert as_working_grid((2, 9, 3)) == [2, 9, 3]
    assert as_working_grid("full") == "full"
