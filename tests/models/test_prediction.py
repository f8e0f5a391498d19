import pytest

from l2reg.config import build, read_node
from l2reg.models.prediction import grid_of


@pytest.mark.parametrize("grid", ["half", "full", [64, 64, 48]])
@pytest.mark.parametrize("name", ["unet", "pyramid", "siamese_unet", "lapirn", "zero"])
def test_every_model_knows_its_working_grid(name: str, grid: object) -> None:
    assert grid_of(build({**read_node("model", name), "grid": grid})) == grid
