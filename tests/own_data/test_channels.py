"""Several channels of one's own scans, from the table to the network and the search."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.intensity import Window
from l2reg.data.prealign import Prealign
from l2reg.features.channel_features import ChannelFeatures
from l2reg.inference.method import Method
from l2reg.inference.predictor import Predictor
from l2reg.inference.prepare import task_refinement
from l2reg.own_data import pair_outputs
from l2reg.own_data.channels import channel_problems, compare_all_channels
from l2reg.own_data.check import own_problems
from l2reg.own_data.dataset import OwnDataset
from l2reg.problems import InputError
from l2reg.registration.result import output_files
from l2reg.registration.verdict import Outcome, Verdict

Own = SimpleNamespace
TABLE = "fixed,moving,fixed_channel,moving_channel\nf.nii.gz,m.nii.gz,g.nii.gz,m.nii.gz\n"
COARSE = (16, 18, 12)


@pytest.fixture
def data(own: Own, two_headers: None) -> OwnDataset:
    """A pair of two channels, the fixed one's on a grid of its own that ends earlier."""
    del two_headers
    own.write("g.nii.gz", COARSE, own.header(COARSE, (2.0, 2.0, 2.0), "RAS"))
    image = nib.load("g.nii.gz")
    nib.save(nib.Nifti1Image(-np.asarray(image.dataobj), image.affine), "g.nii.gz")
    task = own.task()
    windows = {**task.intensity, "fixed_channel_1": Window(low=-600.0, high=1000.0)}
    windows["moving_channel_1"] = Window(low=-1000.0, high=200.0)
    given: OwnDataset = own.data(TABLE, own.task(), val_fraction=0.0)
    return given.__class__(**{**vars(given), "task": task.__class__(**{
        **vars(task), "intensity": windows})})  # fmt: skip


def test_each_channel_is_read_where_it_lies_and_compared_where_all_of_them_show_something(
    data: OwnDataset,
) -> None:
    assert own_problems(data, data.table.rows) == []
    (pair,) = data.split_pairs("train")
    batch = data.reader("full").read(pair)
    assert batch["fixed"].shape == batch["moving"].shape == (1, 2, 16, 18, 14)
    grid, _ = data.reader("full").full_grids(pair)
    channel = nib.load("g.nii.gz")
    voxels = np.linalg.inv(channel.affine) @ grid.place.affine
    positions = nib.affines.apply_affine(voxels, np.indices(grid.shape).reshape(3, -1).T).T
    last = np.array(COARSE)[:, None] - 1
    within = ((positions > 0) & (positions < last)).all(axis=0)
    beyond = ((positions < -0.6) | (positions > last + 0.6)).any(axis=0)
    assert 0.2 < beyond.mean() < 0.8
    assert not batch["fixed_mask"].flatten()[torch.from_numpy(beyond)].any()
    assert batch["moving_mask"].mean() > batch["fixed_mask"].mean()
    sampled = map_coordinates(channel.get_fdata(), positions, order=1)
    expected = np.clip((sampled[within] + 600) / 1600, 0, 1)
    found = batch["fixed"][0, 1].flatten().numpy()[within]
    np.testing.assert_allclose(found, expected, atol=0.03)  # the network's grid is coarser
    wide, narrow = batch["moving"][0].flatten(1).double()  # one file in two windows
    seen = (wide > 0.05) & (wide < 0.6)
    torch.testing.assert_close(narrow[seen], wide[seen] * 1600 / 1200, atol=0.03, rtol=0)
    alone = data.reader("full")
    first = alone.image(pair.fixed.each_channel[0], None, grid)
    torch.testing.assert_close(batch["fixed"][:, :1], first)


def test_the_channels_of_single_scans_have_windows_of_their_own(own: Own, data: OwnDataset) -> None:
    del data
    single = own.data("scan,channel\nf.nii.gz,g.nii.gz\nm.nii.gz,f.nii.gz\n", val_fraction=0.0)
    reader = single.reader("half")
    assert reader.n_channels == single.table.n_channels == 2
    with pytest.raises(InputError, match=r"task\.intensity\.scan_channel_1: is missing"):
        reader.image(single.training_set.scans[0])


def test_faulty_channels_are_told_before_anything_is_read(own: Own, data: OwnDataset) -> None:
    image = nib.load("g.nii.gz")
    shift = nib.affines.from_matvec(np.eye(3), [90, 0, 0])
    nib.save(nib.Nifti1Image(image.dataobj, shift @ image.affine), "far.nii.gz")
    nib.save(nib.Nifti1Image(image.dataobj[:, 8:9], image.affine), "thin.nii.gz")
    for name, message in (
        ("none.nii.gz", "is missing"),
        ("far.nii.gz", "hardly overlaps"),
        ("thin.nii.gz", "hardly overlaps"),
    ):
        faulty = own.data(TABLE.replace("g.nii.gz", name), data.task, val_fraction=0.0)
        (problem,) = own_problems(faulty, faulty.table.rows)
        assert problem.where == str(Path(name).absolute())
        assert message in problem.what


def test_a_network_of_another_number_of_channels_is_refused(data: OwnDataset) -> None:
    node = load_preset("model", "unet")
    (problem,) = channel_problems(data.table, node)
    assert problem.expected == "1 channel of each scan for model=unet"
    assert "model.scan_channels=2" in problem.remedy
    assert channel_problems(data.table, node | {"scan_channels": 2}) == []
    assert len(channel_problems(data.table, load_preset("model", "vfa"))) == 1


def test_every_channel_has_its_say_without_training(data: OwnDataset) -> None:
    (pair,) = data.split_pairs("train")
    method = Method(build(load_preset("model", "convex")), task_refinement("abdomen"))
    assert compare_all_channels(method, 1) is method
    both = compare_all_channels(method, 2)
    assert both.refinement is not None
    found: list[Any] = [both.refinement.features, both.model.features]
    for features in found:
        assert isinstance(features, ChannelFeatures)
        assert len(features.extractors) == 2
    batch = data.reader("full").read(pair)
    maps, _ = found[0](batch["fixed"], batch["moving"])
    changed = batch["fixed"].clone()
    changed[:, 1] = changed[:, 1].flip(2)
    others, _ = found[0](changed, batch["moving"])
    half = maps.shape[1] // 2
    assert torch.equal(maps[:, :half], others[:, :half])
    assert not torch.equal(maps[:, half:], others[:, half:])


def test_a_prealignment_is_found_anew_for_other_grids_volumes_and_channels(
    own: Own, data: OwnDataset
) -> None:
    searches = []

    def search(batch: Any, motion: str, start: torch.Tensor) -> torch.Tensor:
        searches.append(batch["fixed"].shape)
        return start

    def read(text: str, **changes: Any) -> int:
        """Return the number of searches for the first pair of a table."""
        before = len(searches)
        Path("own.csv").write_text(text)
        (pair,) = replace(data, **changes).split_pairs("train")
        reader = replace(data, cache="cache", **changes).reader("full")
        reader.prealign = Prealign("rigid", search)
        reader.read(pair)
        return len(searches) - before

    single = "fixed,moving\nf.nii.gz,m.nii.gz\n"
    volumes = np.stack([np.asarray(nib.load("f.nii.gz").dataobj)] * 2, axis=-1)
    nib.save(nib.Nifti1Image(volumes, nib.load("f.nii.gz").affine), "v.nii.gz")
    of_volume = "fixed,moving,fixed_volume\nv.nii.gz,m.nii.gz,{}\n"
    larger = replace(data.task, shape=(17, 18, 15))
    for text, changes in (
        (single, {}),
        (single, {"start": "centres"}),
        (single, {"task": larger}),
        (TABLE, {}),
        (TABLE.replace("g.nii.gz", "f.nii.gz"), {}),
        (of_volume.format(0), {}),
        (of_volume.format(1), {}),
    ):
        assert [read(text, **changes), read(text, **changes)] == [1, 0]


def test_a_result_is_judged_by_the_first_channel(
    data: OwnDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[Outcome] = []
    monkeypatch.setattr(
        pair_outputs,
        "_judge",
        lambda scans, outcome, settings: judged.append(outcome) or Verdict(
            *[0.0] * 9, unsuited=False, flags=()
        ),
    )  # fmt: skip
    monkeypatch.setattr(pair_outputs, "draw_picture", lambda *_: None)
    method = Method(build(load_preset("model", "zero")), None, torch.device("cpu"), "float32")
    (row,) = data.pair_rows("train")
    pair, files = data.pair(row), output_files(Path(), [])
    predictor, reader = Predictor(method, data.reader), data.reader("full")
    pair_outputs.write_pair(predictor, reader, row, pair, files, {})
    batch = data.reader("half").read(pair)
    (outcome,) = judged
    for side in ("fixed", "moving"):
        torch.testing.assert_close(outcome.working[side], batch[side][:, :1])  # type: ignore[literal-required]
    assert batch["fixed"].shape[1] == 2
