import pytest

from l2reg.shapes import working_shape


@pytest.mark.parametrize(
    ("grid", "expected"),
    [("full", (192, 160, 193)), ("half", (96, 80, 97)), ([64, 64, 48], (64, 64, 48))],
)
def test_working_grids(grid: object, expected: tuple[int, ...]) -> None:
    assert working_shape((192, 160, 193), grid) == expected  # type: ignore[arg-type]
