import pytest

from l2reg.own_data.dataset import OwnDataset
from l2reg.own_data.recognise import is_own_data, refuse_own_data
from l2reg.problems import InputError

OWN = {"ckpt": None, "data": {"_target_": f"{OwnDataset.__module__}.{OwnDataset.__name__}"}}
CHALLENGE = {"ckpt": None, "data": {"_target_": "l2reg.data.dataset.Dataset"}}


def test_a_run_without_a_checkpoint_works_on_the_data_of_its_task() -> None:
    assert is_own_data(OWN)
    assert not is_own_data(CHALLENGE)


def test_evaluate_says_where_the_scores_of_own_pairs_are() -> None:
    refuse_own_data(CHALLENGE)
    with pytest.raises(
        InputError, match=r"(?s)has no submission to score.*results.csv of `l2reg predict`"
    ):
        refuse_own_data(OWN)
