import torch

from l2reg.batch import Batch
from l2reg.inference.method import Method
from l2reg.inference.prepare import task_refinement
from l2reg.models.zero import Zero
from l2reg.shapes import Shape3


def pair(shape: Shape3, rng: torch.Generator) -> Batch:
    ones = torch.ones(1, 1, *shape)
    return {
        "fixed": torch.rand(1, 1, *shape, generator=rng),
        "moving": torch.rand(1, 1, *shape, generator=rng),
        "fixed_mask": ones,
        "moving_mask": ones,
        "spacing_mm": torch.tensor([[1.0, 1.5, 2.0]]),
        "prealign": torch.eye(4)[None, :3] + 1.0,
    }


def test_the_field_is_the_models_and_the_initial_map_is_left_out(rng: torch.Generator) -> None:
    method = Method(Zero("half"))
    assert method.grids == ["half"]
    disp = method.solve([pair((8, 9, 10), rng)])
    assert torch.equal(disp, torch.zeros(1, 3, 8, 9, 10))


def test_a_refinement_gets_the_field_of_the_model_on_a_grid_of_its_own(
    rng: torch.Generator,
) -> None:
    refinement = task_refinement("lung")
    method = Method(Zero("half"), refinement)
    assert method.grids == ["half", "full"]
    coarse, fine = pair((10, 11, 12), rng), pair((20, 21, 22), rng)
    disp = method.solve([coarse, fine])
    assert torch.equal(disp, refinement(fine, torch.zeros(1, 3, 10, 11, 12)))
