import locale
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from scipy.spatial.transform import Rotation

from l2reg.checkpoints import storage
from l2reg.config.build import build
from l2reg.config.presets import config_dir, load_preset
from l2reg.data.dataset import Dataset
from l2reg.data.intensity import Window
from l2reg.data.task import Task
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.volume_change import VolumeChange
from l2reg.io.files import temporary_path
from l2reg.io.headers import Placement
from l2reg.phantom import tissues
from l2reg.phantom.make import make_phantom
from l2reg.registration.transform_scans import TransformScans
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.world_transform import AffineMap, DisplacementMap

Composed = Callable[..., dict[str, Any]]

TINY = (12, 10, 14)  # voxels: even, and no two alike


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in a folder of its own: nothing is left in the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def no_data_by_accident(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tests marked ``data`` see the real scans."""
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("L2REG_DATA", raising=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, variable in (
        ("data", "L2REG_DATA"),
        ("golden", "L2REG_GOLDEN"),
        ("published", "L2REG_PUBLISHED"),
    ):
        reason = f"{variable} does not name a folder"
        if not Path(os.environ.get(variable, "-")).is_dir():
            for item in items:
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.skip(reason=reason))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def real_data() -> Path:
    return Path(os.environ["L2REG_DATA"])


@pytest.fixture
def golden() -> Path:
    return Path(os.environ["L2REG_GOLDEN"])


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small phantom data set of each flavour; read only."""
    root = tmp_path_factory.mktemp("phantoms")
    for flavour in ("lung", "abdomen", "oasis"):
        make_phantom(flavour, root / flavour, n_pairs=3, size="small", seed=0)
    return {flavour: root / flavour for flavour in ("lung", "abdomen", "oasis")}


@pytest.fixture
def half_labelled_brains(phantoms: dict[str, Path], tmp_path: Path) -> Path:
    """Phantom brains of which scan 2 has lost its labels; those and all others lie in ``given``."""
    root = tmp_path / "brains"
    shutil.copytree(phantoms["oasis"], root)
    folder = root / "task_03"
    for labels in folder.rglob("*seg*.nii.gz"):
        image = labels.with_name(labels.name.replace("seg35", "norm").replace("seg", "img"))
        target = tmp_path / "given" / image.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(labels, target)
    for labels in folder.rglob("*0002_MR1/aligned_seg35.nii.gz"):
        labels.unlink()
    return root


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make the disk full for one file: its temporary file is a link to a full device."""

    def full(name: str) -> None:
        def linked(path: Path) -> Path:
            temporary = temporary_path(path)
            if path.name == name:
                temporary.symlink_to("/dev/full")
            return temporary

        monkeypatch.setattr("l2reg.io.files.temporary_path", linked)

    return full


def write_volume(
    path: Path,
    array: np.ndarray,
    spacing: tuple[float, float, float] = (1.75, 1.25, 1.75),
) -> Path:
    """Write a NIfTI volume and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0])), path)
    return path


@pytest.fixture
def volume() -> Callable[..., Path]:
    return write_volume


def tiny(name: str, **changes: Any) -> Task:
    """Return a task as its YAML describes it, on a grid of a few voxels."""
    task: Task = build(load_preset("task", name))
    return replace(task, shape=TINY, **changes)


@pytest.fixture
def tiny_task() -> Callable[..., Task]:
    return tiny


@pytest.fixture
def open_data() -> Callable[..., Dataset]:
    """Build a data set as ``configs/data/default.yaml`` does, with changes by dotted key."""

    def opened(task: Task, root: Path | None = None, **changes: Any) -> Dataset:
        node: dict[str, Any] = yaml.safe_load((config_dir() / "data/default.yaml").read_text())
        node |= {"root": root, "cache": None}
        for key, value in changes.items():
            if isinstance(value, Mapping):
                node[key] = {**node[key], **value}
            else:
                node[key] = value
        data: Dataset = build(node, task=task)
        return data

    return opened


@pytest.fixture
def lung_2021(tmp_path: Path) -> Path:
    """A data root with three tiny lung pairs in the 2021 layout; pair 1 is for validation."""
    random = np.random.default_rng(1)
    folder = tmp_path / "root/task_02"
    for case in (1, 2, 3):
        for side in ("exp", "insp"):
            name = f"case_{case:03}_{side}.nii.gz"
            scan = random.integers(-1000, 200, TINY).astype(np.int16)
            write_volume(folder / "training/scans" / name, scan)
            mask = np.zeros(TINY, np.uint8)
            mask[2:-2, 2:-2, 3:-3] = 1
            write_volume(folder / "training/lungMasks" / name, mask)
        points = random.uniform(2, 7, (20, 6))
        kind = folder / (
            "training/lms/case_001.txt" if case == 1 else f"keypoints/case_{case:03}.csv"
        )
        kind.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(kind, points, fmt="%.3f", delimiter=",")
    (folder / "pairs_val.csv").write_text("fixed, moving\n1, 1\n")
    return tmp_path / "root"


@pytest.fixture
def pair_scores() -> Callable[..., PairScores]:
    """Make scores: of two landmarks 1 and 3 mm off, unless told otherwise."""

    def made(pair: str = "0001_0001", **changes: Any) -> PairScores:
        change = {"sdlogj": 0.1, "sd_log_det": 0.4, "folds": 0.0, "det_min": 0.5, "det_max": 1.5,
                  "folded_volume": 0.0}  # fmt: skip
        change = {name: changes.pop(name, value) for name, value in change.items()}
        values: dict[str, Any] = {
            "dsc": {}, "hd95_voxels": {}, "hd95_mm": {}, "assd_mm": {}, "tre_mm": [1.0, 3.0],
            "tre_keypoints_mm": [], "outside": 0.0, **changes,
        }  # fmt: skip
        return PairScores(pair=pair, change=VolumeChange(**change), **values)

    return made


@pytest.fixture
def composed(phantoms: dict[str, Path]) -> Composed:
    """Compose a script's config for a tiny network on the phantoms that all tests share."""

    def made(script: str, *overrides: str, flavour: str = "lung") -> dict[str, Any]:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose(
                script, overrides=[*overrides, "run_dir=run"], return_hydra_config=True
            )
        HydraConfig.instance().set_config(config)  # which init_from may ask for what was chosen
        own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
        plain: dict[str, Any] = OmegaConf.to_container(own, resolve=True)  # type: ignore[assignment]
        if (plain.get("task") or {}).get("flavour"):
            plain["task"] |= {"flavour": flavour, "pairs": 3, "root": str(phantoms[flavour])}
        return plain

    return made


@pytest.fixture
def mixed_run(tiny_run: Composed) -> Composed:
    """Compose a run of mixed phantoms, ``mixed.tasks`` named as their flavours."""

    def made(
        *overrides: str, flavours: Sequence[str] = ("lung", "abdomen", "oasis")
    ) -> dict[str, Any]:
        config = tiny_run(*overrides)
        alone = {flavour: tiny_run(*overrides, flavour=flavour) for flavour in flavours}
        tasks = {name: {k: node.pop(k) for k in ("task", "data", "loss")}
                 for name, node in alone.items()}  # fmt: skip
        own = {key: value for key, value in config.items() if key not in ("task", "data", "loss")}
        return {**own, "mixed": {"only": list(flavours), "tasks": tasks}}

    return made


@pytest.fixture
def tiny_run(composed: Composed) -> Composed:
    def made(*overrides: str, flavour: str = "lung") -> dict[str, Any]:
        small = ["model.encoder=[4,6]", "model.decoder=[6]", "model.final=[4]", "device=cpu"]
        few = ["trainer.max_steps=3", "trainer.validate_every=2", "trainer.picture_every=3"]
        return composed("train", *small, *few, *overrides, flavour=flavour)

    return made


@pytest.fixture
def descriptor_run(tmp_path: Path) -> Path:
    """A run folder of tiny descriptors that were not trained."""
    node = {"_target_": "l2reg.models.descriptors.DescriptorNetwork",
            "widths": [4, 6, 6], "channels": 5, "levels": 1}  # fmt: skip
    torch.manual_seed(0)
    state = {"step": 0, "model": build(node).state_dict(), "trained_on": {}, "l2reg": "0.1.0"}
    run = tmp_path / "descriptors"
    run.mkdir()
    storage.save(run / storage.BEST, {**state, "config": {"model": node, "task": None}})
    return run


@pytest.fixture
def small_tissues(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Phantoms of few voxels for synthetic views."""
    tissues.tissue_map.cache_clear()
    grids = dict.fromkeys(tissues.FLAVOURS, ((14, 12, 13), 25.0))
    monkeypatch.setattr(tissues, "_GRIDS", grids)
    yield
    tissues.tissue_map.cache_clear()


@pytest.fixture(params=product([False, True], repeat=2), ids=str)
def oblique_scans(request: pytest.FixtureRequest) -> TransformScans:
    """Two oblique, anisotropic grids, each right- or left-handed."""
    fixed_flip, moving_flip = request.param
    return TransformScans(
        oblique_grid((14, 18, 16), (1.5, 1.0, 2.0), fixed_flip),
        oblique_grid((20, 12, 22), (1.2, 1.4, 1.1), moving_flip),
    )


def oblique_grid(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], flip: bool
) -> ImageGrid:
    """A grid whose middle lies at (5, -7, 3) mm."""
    affine = np.eye(4)
    turn = Rotation.from_euler("zxy", [20, -12, 8], degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.diag(spacing) @ np.diag([-1.0 if flip else 1.0, 1, 1])
    affine[:3, 3] = [5, -7, 3] - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return ImageGrid(shape, Placement(affine))


@pytest.fixture
def smooth_field(oblique_scans: TransformScans) -> DisplacementMap:
    """A smooth field of up to 2 mm on the fixed grid, different along each axis."""
    assert oblique_scans.fixed is not None
    i, j, k = np.indices(oblique_scans.fixed.shape) / 7.0
    disp = np.stack([np.sin(i + j), 1.5 * np.cos(j - k) + 0.3, 2 * np.sin(k) * np.cos(i)])
    return DisplacementMap(disp, oblique_scans.fixed.place)


@pytest.fixture
def affine_map(random: np.random.Generator) -> AffineMap:
    matrix = np.eye(4)
    matrix[:3] += 0.05 * random.normal(size=(3, 4))
    matrix[:3, 3] = (2.0, -1.0, 0.5)
    return AffineMap(matrix)


@pytest.fixture
def points(random: np.random.Generator) -> Callable[[ImageGrid], np.ndarray]:
    """Random positions in RAS mm inside a grid, between its voxels."""

    def inside(grid: ImageGrid) -> np.ndarray:
        voxels = random.uniform(1, np.array(grid.shape) - 2, (40, 3))
        moved: np.ndarray = nib.affines.apply_affine(grid.place.affine, voxels).T
        return moved

    return inside


BALLS = np.array([[-10.0, 4.0, 6.0], [9.0, -8.0, -5.0], [2.0, 10.0, -9.0], [-6.0, -9.0, 8.0]])


def balls(points: np.ndarray) -> np.ndarray:
    """Return HU at positions in RAS mm, one a column: four balls of soft edges in air."""
    distances = np.linalg.norm(points[:, None] - BALLS.T[:, :, None], axis=0)
    heights = np.array([1100.0, 1250.0, 1150.0, 1200.0])[:, None]
    bright = heights / (1 + np.exp((distances - 7.5) / 1.5))
    return bright.sum(axis=0) - 1000.0


def header(
    shape: Sequence[int],
    spacing: Sequence[float],
    axes: str = "RAS",
    euler_deg: Sequence[float] = (0, 0, 0),
    centre: Sequence[float] = (0, 0, 0),
) -> np.ndarray:
    """Return the affine of a grid with axes near to those named, turned, with its middle there."""
    codes = ["RAS".find(a) if a in "RAS" else "LPI".find(a) for a in axes]
    signs = [1.0 if a in "RAS" else -1.0 for a in axes]
    linear = np.zeros((3, 3))
    for column, (row, sign, mm) in enumerate(zip(codes, signs, spacing, strict=True)):
        linear[row, column] = sign * mm
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", euler_deg, degrees=True).as_matrix() @ linear
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def world_positions(shape: Sequence[int], affine: np.ndarray) -> np.ndarray:
    return affine[:3, :3] @ np.indices(shape).reshape(3, -1) + affine[:3, 3:]


def write_scan(
    name: str,
    shape: Sequence[int],
    affine: np.ndarray,
    moved: Callable[[np.ndarray], np.ndarray] = lambda points: points,
) -> Path:
    """Write the anatomy on a grid, and its label map beside it: 1 to 4, the balls."""
    points = moved(world_positions(shape, affine))
    image = balls(points).reshape(shape).astype(np.float32)
    nib.save(nib.Nifti1Image(image, affine), name)
    distances = np.linalg.norm(points[:, None] - BALLS.T[:, :, None], axis=0)
    labels = np.where(distances.min(axis=0) < 6, distances.argmin(axis=0) + 1, 0).reshape(shape)
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), affine), f"seg_{name}")
    return Path(name)


def own_task(**changes: Any) -> Task:
    window = Window(low=-1000.0, high=600.0)
    settings: dict[str, Any] = {"shape": (16, 18, 14), "spacing_mm": (2.0, 2.0, 3.0)} | changes
    return Task(
        name="own", intensity={"fixed": window, "moving": window, "scan": window}, **settings
    )


def own_data(text: str, task: Task | None = None, **changes: Any) -> Any:
    """Return the data set of a table."""
    Path("own.csv").write_text(text)
    node = load_preset("data", "own") | {"seed": 0, "cache": None, "pairs": "own.csv"} | changes
    return build(node, task=task or own_task())


OWN_FIXED = ((34, 36, 20), header((34, 36, 20), (1.0, 1.0, 2.0), "LPS", (3, -4, 5)))
OWN_MOVING = (
    (18, 24, 26),
    header((18, 24, 26), (2.0, 1.5, 1.5), "ASR", (-6, 2, 8), (2.0, 1.0, -3.0)),
)


@pytest.fixture
def own() -> SimpleNamespace:
    """Data of one's own: scans of one anatomy on any grids, and tables of them."""
    return SimpleNamespace(
        anatomy=balls, balls=BALLS, data=own_data, fixed=OWN_FIXED, header=header,
        moving=OWN_MOVING, positions=world_positions, task=own_task, write=write_scan,
    )  # fmt: skip


@pytest.fixture
def two_headers() -> None:
    """One anatomy on two unlike grids, with labels and points at the same places of the world."""
    for name, (shape, affine) in (("f.nii.gz", OWN_FIXED), ("m.nii.gz", OWN_MOVING)):
        write_scan(name, shape, affine)
        np.savetxt(f"{name[0]}.csv", BALLS, delimiter=",", header="x,y,z", comments="")


@pytest.fixture
def own_run() -> Composed:
    """Compose a script's config for a tiny network on one's own data in ``own.csv``."""

    def made(script: str, *overrides: str) -> dict[str, Any]:
        small = ["model.encoder=[4,6]", "model.decoder=[6]", "model.final=[4]"]
        few = ["trainer.max_steps=2", "trainer.validate_every=2", "trainer.picture_every=2"]
        shared = ["device=cpu", "task=own", "data.pairs=own.csv", "data.cache=null", "run_dir=run"]
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            chosen = [*shared, *(small + few if script == "train" else []), *overrides]
            config = compose(script, overrides=chosen, return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        kept = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
        plain: dict[str, Any] = OmegaConf.to_container(kept, resolve=True)  # type: ignore[assignment]
        window = {"_target_": "l2reg.data.intensity.Window", "low": -1000.0, "high": 600.0}
        plain["task"] |= {"shape": [16, 18, 14], "spacing_mm": [2.0, 2.0, 3.0]}
        plain["task"]["intensity"] = dict.fromkeys(("fixed", "moving", "scan"), window)
        return plain

    return made


@pytest.fixture
def write_series() -> Callable[..., None]:
    """Write an image of SimpleITK as a DICOM series."""

    def write(image: sitk.Image, folder: Path, uid: str = "1.2.3.4", shift_mm: float = 0.0) -> None:
        """Write a file for each slice, each shifted within its plane against the one below."""
        folder.mkdir(exist_ok=True)
        before = locale.setlocale(locale.LC_ALL)  # ITK leaves it at C when it writes DICOM
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        direction = np.reshape(image.GetDirection(), (3, 3))
        for k in range(image.GetDepth()):
            part = image[:, :, k]
            place = image.TransformIndexToPhysicalPoint((0, 0, k)) + k * shift_mm * direction[:, 1]
            for tag, value in {
                "0008|0060": "CT",
                "0020|000e": uid,
                "0020|0013": str(k + 1),
                "0020|0032": "\\".join(f"{x:.6f}" for x in place),
                "0020|0037": "\\".join(f"{x:.9f}" for x in direction[:, :2].T.ravel()),
            }.items():
                part.SetMetaData(tag, value)
            number = (5 * k) % image.GetDepth()  # not in the order of names
            writer.SetFileName(str(folder / f"{uid}_{number}.dcm"))
            writer.Execute(part)
        locale.setlocale(locale.LC_ALL, before)

    return write
