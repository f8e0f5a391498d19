import pytest

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.models.prediction import StagedTraining, grid_of


@pytest.mark.parametrize("grid", ["half", "full", [64, 64, 48]])
@pytest.mark.parametrize(
    "name", ["unet", "pyramid", "siamese_unet", "lapirn", "vfa", "sitreg", "zero"]
)
def test_every_model_knows_its_working_grid(name: str, grid: object) -> None:
    assert grid_of(build({**load_preset("model", name), "grid": grid})) == grid


def test_lapirn_is_trained_in_stages_and_a_unet_is_not() -> None:
    assert isinstance(build(load_preset("model", "lapirn")), StagedTraining)
    assert not isinstance(build(load_preset("model", "unet")), StagedTraining)
