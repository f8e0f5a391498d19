from types import SimpleNamespace

import pytest
import torch
import yaml

from l2reg.config.presets import config_dir
from l2reg.problems import InputError

Own = SimpleNamespace
CPU = torch.device("cpu")


def test_what_own_and_other_data_share_has_the_same_settings() -> None:
    own, default = (
        yaml.safe_load((config_dir() / f"data/{name}.yaml").read_text())
        for name in ("own", "default")
    )
    shared = (set(own) & set(default)) - {"_target_"}
    assert shared >= {"prealign", "prealign_search", "sampling", "augment", "cache"}
    assert {key: own[key] for key in shared} == {key: default[key] for key in shared}


def test_batches_are_a_pure_function_of_the_step_and_of_training_pairs_only(
    own: Own, two_headers: None
) -> None:
    del two_headers
    text = "fixed,moving,split\nf.nii.gz,m.nii.gz,train\nnone.nii.gz,no.nii.gz,val\n"
    data = own.data(text)
    batches = [data.batches("half", items=range(1), seed=3, device=CPU) for _ in range(2)]
    first, again = (each[5] for each in batches)
    assert first["fixed"].shape == (1, 1, 8, 9, 7)
    assert torch.equal(first["fixed"], again["fixed"])
    assert not torch.equal(first["fixed"], batches[0][6]["fixed"])


def test_single_scans_are_paired_with_those_of_somebody_else(own: Own) -> None:
    text = "scan,subject,split\n" + "".join(f"{n},p{n // 2},train\n" for n in range(6))
    data = own.data(text + "x,q,val\ny,r,val\n")
    training = data.training_set
    assert training.intra_patient == []
    assert len(training.scans) == 6
    names = [pair.name for pair in data.split_pairs("val")]
    assert names == ["scan_007_scan_008", "scan_008_scan_007"]
    draw = data.batches("full", items=range(1), seed=0, device=CPU).draw
    for step in range(20):
        pair = draw(step, 0)
        assert pair.fixed.subject != pair.moving.subject
    alone = own.data("scan,subject\na,1\nb,1\n", val_fraction=0.0)
    with pytest.raises(InputError, match="has nothing to train on"):
        alone.batches("full", items=range(1), seed=0, device=CPU)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"val_fraction": 1.0}, r"data.val_fraction must be in \[0, 1\), got 1.0"),
        ({"prealign": "moments"}, "data.prealign must be one of none, mask_centre"),
        ({"seed": -1}, "seed=-1: is no random seed"),
    ],
)
def test_values_out_of_range_are_refused(own: Own, changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        own.data("scan\na\n", **changes)
