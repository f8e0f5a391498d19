"""Limits of the system: the real cause is shown, and nothing half-written is left."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from benchmarks.faults.guard import CLEAR, guarded
from l2reg.checkpoints import storage
from l2reg.data.cache import Cache
from l2reg.io.headers import Placement
from l2reg.io.volumes import read_volume, write_volume
from l2reg.phantom.make import make_phantom
from l2reg.submission.bundle import write_bundle
from l2reg.submission.fields import write_field

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # fork
NOBODY = 65534
NOISE = np.random.default_rng(0).normal(0, 1, (3, 24, 20, 28)).astype(np.float16)


def save_volume(path: Path) -> None:
    write_volume(path.with_name("x.nii.gz"), NOISE[0].astype(np.float32), Placement(np.eye(4)))


def save_checkpoint(path: Path) -> None:
    storage.save(path, {"model": {"a": torch.from_numpy(NOISE)}})


def save_cache(path: Path) -> None:
    Cache(path.parent).get(Path(__file__), {}, lambda: NOISE)


def save_field(path: Path) -> None:
    write_field(path.parent, path.name, NOISE)


def save_phantom(path: Path) -> None:
    make_phantom("lung", path, n_pairs=1, size="small", seed=0)


def save_bundle(path: Path) -> None:
    write_bundle(path.parent.parent / "fields", "task_02", path)


WRITERS = [save_volume, save_checkpoint, save_cache, save_field, save_bundle, save_phantom]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("benchmarks.faults.guard.SECONDS", 120)  # to write, not to read, a file
    write_field(tmp_path / "fields/task_02", "0001_0001", NOISE)
    (tmp_path / "fields/dummy.txt").touch()
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_cannot_grow_is_named_and_leaves_nothing(
    write: Callable[[Path], None], folder: Path
) -> None:
    def limited() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
        write(folder / "x")
        return ""

    found = guarded(limited, str(folder))
    assert found.kind == CLEAR, found.text
    assert "too large for the disk or a limit" in found.text
    assert not list(folder.iterdir())


@pytest.mark.parametrize("write", WRITERS)
def test_a_folder_without_permission_is_named(write: Callable[[Path], None], folder: Path) -> None:
    folder.chmod(0o555)

    def unprivileged() -> str:
        if os.geteuid() == 0:
            os.setuid(NOBODY)
        write(folder / "x")
        return ""

    found = guarded(unprivileged, str(folder.parent))
    assert found.kind == CLEAR, found.text
    assert "ermission" in found.text
    assert not list(folder.iterdir())


@pytest.mark.parametrize("read", [read_volume, storage.load])
def test_too_many_open_files_are_told_as_such(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    volume, checkpoint = tmp_path / "a.nii.gz", tmp_path / "a.pt"
    nib.save(nib.Nifti1Image(NOISE[0].astype(np.float32), np.eye(4)), volume)
    storage.save(checkpoint, {"step": 1})
    path = volume if read is read_volume else checkpoint

    def limited() -> str:
        opened = os.open(os.devnull, os.O_RDONLY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened, opened))
        read(path)
        return ""

    found = guarded(limited, path.name)
    assert found.kind == CLEAR, found.text
    assert "too many files are open" in found.text
