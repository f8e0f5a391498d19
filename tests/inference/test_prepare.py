import pytest

from l2reg.inference.prepare import task_refinement
from l2reg.problems import InputError


def test_every_task_has_a_refinement_of_its_own() -> None:
    assert task_refinement("lung").grid == "full"
    assert task_refinement("abdomen").grid == "half"


def test_an_unknown_task_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(InputError, match=r"(?s)lnug.*lung_gauss_newton"):
        task_refinement("lnug")
