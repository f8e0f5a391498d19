from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from l2reg.batch import Batch
from l2reg.checkpoints import storage
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.dataset import Dataset
from l2reg.data.intensity import Window
from l2reg.data.task import Task
from l2reg.geometry.resize import resize_field
from l2reg.inference.method import Method
from l2reg.inference.predictor import Predictor
from l2reg.io.scan_source import ScanSource
from l2reg.models.prediction import Prediction
from l2reg.models.unet import UNet
from l2reg.problems import InputError
from l2reg.registration.channels import read_channels
from l2reg.registration.network import TrainedNetwork, default_preset, load_network
from l2reg.registration.register import register
from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.scan_pair import ScanPair, read_scans
from l2reg.registration.start import Start

PRESETS = build(load_preset("register", "default"))["intensity"]
CPU = torch.device("cpu")


def read(fixed: Path, moving: Path, preset: str = "lung") -> ScanPair:
    return read_scans((ScanSource(fixed), ScanSource(moving)), preset, PRESETS)


class Shift(nn.Module):
    """Predicts the same displacement everywhere, and keeps what it saw."""

    grid = "full"

    def forward(self, batch: Batch) -> Prediction:
        self.seen = batch
        shift = torch.tensor([2.0, -1.0, 0.5]).view(1, 3, 1, 1, 1)
        return Prediction(shift.expand(1, 3, *batch["fixed"].shape[2:]))


def test_scans_of_the_task_get_the_field_of_the_predictor(
    lung_2021: Path, tiny_task: Callable[..., Task], open_data: Callable[..., Dataset]
) -> None:
    torch.manual_seed(0)
    model = UNet([4, 6], [6], [], "displacement", "half")
    nn.init.normal_(model.head.conv.weight, std=2.0)
    data = open_data(tiny_task("lung"), lung_2021)
    (pair,) = data.split_pairs("val")
    expected = Predictor(Method(model), data.reader).register(pair)
    scans = read(pair.fixed.image, pair.moving.image)
    network = TrainedNetwork(Path("x.pt"), Method(model), data.task)
    found = network.predict(scans, Start(scans.header_map), scans.shape)
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(found, resize_field(expected, scans.shape), atol=1e-4, rtol=1e-4)
    assert network.flags(scans) == []


def ramp(positions: np.ndarray) -> np.ndarray:
    """Return intensities in HU that grow with each coordinate in mm."""
    hu: np.ndarray = -500 + np.tensordot([3.0, -2.0, 4.0], positions, axes=1)
    return hu


def test_any_grid_is_resampled_to_that_of_the_network_and_the_field_comes_back(
    tiny_task: Callable[..., Task],
) -> None:
    """Positions are in mm from the middle of the fixed scan; the moving one lies 6 mm aside."""
    paths, spacings = (
        (Path("fixed.nii.gz"), Path("moving.nii.gz")),
        ((1.4, 1.6, 2.0), (2, 1.5, 1.5)),
    )
    for path, spacing, shape in zip(paths, spacings, ((20, 22, 18), (26, 24, 28)), strict=True):
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = -(np.array(shape) - 1) / 2 * spacing
        voxels = np.indices(shape).reshape(3, -1)
        world = nib.affines.apply_affine(affine, voxels.T).T.reshape(3, *shape)
        nib.save(nib.Nifti1Image(ramp(world).astype("f4"), affine), path)
    task = replace(tiny_task("lung"), spacing_mm=(2.0, 2.5, 1.5))
    scans, model = read(*paths), Shift()
    mm = (np.array(task.shape) - 1) / 2 * task.spacing_mm
    at = np.stack(np.meshgrid(*[np.linspace(-e, e, n) for e, n in zip(mm, task.shape, strict=True)],
                              indexing="ij"))  # fmt: skip
    matrix = scans.header_map
    matrix[0, 0, 3] += 3.0  # voxels of 2 mm
    network = TrainedNetwork(Path("x.pt"), Method(model), task)
    as_field = Start(matrix, Start(matrix).field(scans.shape))
    for start in (Start(matrix), as_field):
        disp = network.predict(scans, start, (10, 11, 9))
        hu = 1200 * torch.cat([model.seen["fixed"], model.seen["moving"]])[:, 0].numpy() - 1000
        inside = (slice(None), *[slice(2, -2)] * 3)
        expected = np.stack([ramp(at), ramp(at + np.array([6, 0, 0]).reshape(3, 1, 1, 1))])
        np.testing.assert_allclose(hu[inside], expected[inside], atol=0.5)
        steps = np.array([1.4 * 19 / 9, 1.6 * 21 / 10, 2.0 * 17 / 8])  # mm of the result's voxels
        shift = np.array([2.0, -1.0, 0.5]) * [2.0, 2.5, 1.5] / steps
        np.testing.assert_allclose(disp[0, :, 4, 5, 3], shift, rtol=1e-4)
    assert "works on 24 x 25 x 21 mm, 28 %" in network.flags(scans)[-1]


def test_a_network_of_own_data_sees_scans_from_left_to_right_however_they_are_turned(
    own_folder: None,
) -> None:
    """Positions are in RAS mm; the axes of the fixed scan run to the bottom, left and front."""
    axes = np.array([[0, -2.0, 0], [0, 0, 1.5], [-2.5, 0, 0]])
    shapes = {"fixed": (16, 18, 20), "moving": (26, 24, 28)}
    for name, linear in (("fixed", axes), ("moving", np.diag([-1.5, 1.5, 1.5]))):
        middle = (np.array(shapes[name]) - 1) / 2
        affine = nib.affines.from_matvec(linear, -linear @ middle)
        voxels = np.indices(shapes[name]).reshape(3, -1).T
        hu = ramp(nib.affines.apply_affine(affine, voxels).T.reshape(3, *shapes[name]))
        nib.save(nib.Nifti1Image(hu.astype("f4"), affine), f"{name}.nii.gz")
    intensity = dict.fromkeys(("fixed", "moving", "scan"), Window(low=-1000.0, high=200.0))
    task = Task(name="own", shape=(12, 10, 14), spacing_mm=(2.0, 3.0, 1.5), intensity=intensity)
    model, scans = Shift(), read(Path("fixed.nii.gz"), Path("moving.nii.gz"))
    network = TrainedNetwork(Path("x.pt"), Method(model), task)
    disp = network.predict(scans, Start(scans.header_map), scans.shape)
    for side in ("fixed", "moving"):
        hu = 1200 * model.seen[side][0, 0].numpy() - 1000  # type: ignore[literal-required]
        for axis, step in enumerate((3.0 * 2.0, -2.0 * 3.0, 4.0 * 1.5)):
            inside = np.diff(hu, axis=axis)[2:-2, 2:-2, 2:-2]
            np.testing.assert_allclose(inside, step, atol=0.05)
    np.testing.assert_allclose(axes @ disp[0, :, 8, 9, 10].numpy(), [4.0, -3.0, 0.75], rtol=1e-4)
    flags = network.flags(scans)
    assert flags[0].endswith("on CT as fixed scan; fixed.nii.gz is no CT in Hounsfield units")
    assert "24 x 30 x 21 mm" in flags[2]


def test_scans_unlike_those_of_the_training_are_flagged(
    lung_2021: Path, tiny_task: Callable[..., Task]
) -> None:
    folder = lung_2021 / "task_02/training/scans"
    scans = read(folder / "case_001_exp.nii.gz", folder / "case_001_insp.nii.gz")
    assert scans.modalities == ("CT", "CT")
    network = TrainedNetwork(Path("x.pt"), Method(Shift()), tiny_task("abdomen"))
    flags = network.flags(scans)
    assert flags[0] == "x.pt was trained for abdomen, not lung"
    assert flags[1].startswith("x.pt was trained on MR as fixed scan; ")
    assert flags[1].endswith("case_001_exp.nii.gz is a CT")
    assert default_preset(network) == default_preset(None) == "abdomen"
    assert default_preset(replace(network, task=tiny_task("lung"))) == "lung"


@pytest.fixture
def checkpoint() -> Path:
    """A run of a network without weights, the search, trained on phantoms of the lung."""
    task = {"_target_": "l2reg.phantom.make.phantom_task", "name": "phantom", "flavour": "lung",
            "size": "small", "seed": 0, "pairs": 1, "root": "made"}  # fmt: skip
    config = {"model": load_preset("model", "convex"), "task": task, "data": {}}
    state = {"config": config, "model": {}, "trained_on": {}}
    storage.save(Path("run/best.pt"), state)
    return Path("run")


@pytest.mark.slow
def test_a_network_registers_two_files_of_another_grid(
    checkpoint: Path, random: np.random.Generator
) -> None:
    """The moving scan is the fixed one, moved by four voxels."""
    body = gaussian_filter(random.normal(size=(48, 42, 40)), 3.0)
    hu = np.where(body > 0, 40, -700) + 400 * body / np.abs(body).max()
    affine = np.diag([-4.0, 4.0, 5.0, 1.0])
    for name, part in (("fixed", hu[:-4]), ("moving", hu[4:])):
        nib.save(nib.Nifti1Image(part.astype(np.int16), affine), f"{name}.nii.gz")
    arguments = {"prealign": "none", "device": "cpu", "ckpt": checkpoint}
    result = register("fixed.nii.gz", "moving.nii.gz", **arguments)
    moved = result.points(np.array([[-80.0, 80.0, 100.0], [-100.0, 90.0, 80.0]]))
    np.testing.assert_allclose(moved, [[-64, 80, 100], [-84, 90, 80]], atol=4)
    assert not Path("made").exists()  # nothing of the training data


def test_a_checkpoint_that_names_foreign_code_is_refused_before_the_work(checkpoint: Path) -> None:
    state = storage.load(checkpoint / "best.pt")
    state["config"]["model"] = {"_target_": "os.mkdir", "path": "evil"}
    storage.save(checkpoint / "best.pt", state)
    with pytest.raises(InputError, match=r"best\.pt.*os\.mkdir: cannot be built"):
        load_network(checkpoint, None, CPU, ())
    assert not Path("evil").exists()
    with pytest.raises(InputError, match=r"nothing/last\.pt: is missing"):
        load_network(Path("nothing/last.pt"), None, CPU, ())


def test_a_network_of_several_channels_takes_as_many_of_each_scan(checkpoint: Path) -> None:
    state = storage.load(checkpoint / "best.pt")
    narrow = {"encoder": [4, 6], "decoder": [6], "final": [], "scan_channels": 2}
    state["config"]["model"] = load_preset("model", "unet") | narrow
    state["model"] = build(state["config"]["model"]).state_dict()
    storage.save(checkpoint / "best.pt", state)
    network = load_network(checkpoint, None, CPU, ())
    one, two = ScanFiles("a.nii"), ScanFiles("a.nii", channels=["b.nii"])
    network.check_channels((two, two))
    for files, found in (
        ((one, two), "1 of the fixed and 2 of the moving"),
        ((two, one), "2 of the fixed and 1 of the moving"),
        ((one, one), "1 of the fixed and 1 of the moving"),
    ):
        with pytest.raises(InputError, match=rf"(?s)best\.pt: takes another number.*{found}"):
            network.check_channels(files)
    with pytest.raises(InputError, match=r"best\.pt: takes another number"):
        register("a.nii", "b.nii", ckpt=checkpoint, device="cpu")
    replace(network, n_channels=1).check_channels((two, two))  # the refinement uses the others


def test_a_network_of_several_channels_sees_what_the_reader_of_its_task_shows_it(
    own: SimpleNamespace, two_headers: None
) -> None:
    del two_headers
    own.write("g.nii.gz", (16, 18, 12), own.header((16, 18, 12), (2.0, 2.0, 2.0), "RAS"))
    image = nib.load("g.nii.gz")
    nib.save(nib.Nifti1Image(-np.asarray(image.dataobj), image.affine), "g.nii.gz")
    windows = {**own.task().intensity, "fixed_channel_1": Window(low=-600.0, high=1000.0),
               "moving_channel_1": Window(low=-1000.0, high=200.0)}  # fmt: skip
    task = replace(own.task(), intensity=windows)
    table = "fixed,moving,fixed_channel,moving_channel\nf.nii.gz,m.nii.gz,g.nii.gz,f.nii.gz\n"
    data = own.data(table, task, val_fraction=0.0)
    (pair,) = data.split_pairs("train")
    expected = data.reader("full").read(pair)

    files = (ScanFiles("f.nii.gz", channels=["g.nii.gz"]),
             ScanFiles("m.nii.gz", channels=["f.nii.gz"]))  # fmt: skip
    scans = read(Path("f.nii.gz"), Path("m.nii.gz"))
    scans = scans.with_channels(read_channels(files, scans.volumes, "lung", PRESETS))
    model = Shift()
    network = TrainedNetwork(Path("x.pt"), Method(model), task, 2)
    network.predict(scans, Start(scans.header_map), scans.shape)
    for side in ("fixed", "moving"):
        seen = model.seen[side]  # type: ignore[literal-required]
        assert seen.shape == (1, 2, *task.shape)
        inside = expected[f"{side}_mask"][0, 0].numpy() > 0  # type: ignore[literal-required]
        for found, shown in zip(seen[0].numpy(), expected[side][0].numpy(), strict=True):  # type: ignore[literal-required]
            assert np.corrcoef(found[inside], shown[inside])[0, 1] > 0.98
            assert np.abs(found - shown)[inside].mean() < 0.03
