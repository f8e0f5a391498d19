"""Kinds of files that l2reg reads, and tiny data to read them with."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from benchmarks.faults import mutations as m
from l2reg.config.presets import config_dir

SHAPE = (12, 10, 14)
OVERRIDES = [
    "task=lung", f"task.shape={list(SHAPE)}", "model.encoder=[4,6]", "model.decoder=[6]",
    "model.final=[4]", "device=cpu", "data.cache=null", "trainer.max_steps=1",
    "trainer.validate_every=0", "run_dir=run",
]  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """Kind of file.

    Attributes:
        name: Name of the kind.
        file: Name of a sound file.
        content: Its bytes.
        read: Function that reads a file, and returns a digest of what it holds.
        mutations: Mutations of the content that fit the format.
        is_checked: Whether the format has checksums: what is read is right, or an error.
        named: Text that a clear error contains in place of ``file``.
        share: How often the kind is drawn, beside others.
    """

    name: str
    file: str
    content: bytes
    read: Callable[[Path], str]
    mutations: Sequence[m.Mutation] = m.BYTES
    is_checked: bool = False
    named: str = ""
    share: int = 3

    @property
    def name_in_errors(self) -> str:
        """Text that a clear error contains."""
        return self.named or self.file


def digest(*values: Any) -> str:
    """Return a hash of arrays, tensors and other values."""
    sha = hashlib.sha256()
    for value in values:
        array = value.numpy() if isinstance(value, torch.Tensor) else value
        sha.update(array.tobytes() if isinstance(array, np.ndarray) else repr(value).encode())
    return sha.hexdigest()[:16]


def tiny_config(*overrides: str, script: str = "train") -> dict[str, Any]:
    """Return the config of a script for the tiny data."""
    own = OVERRIDES if script == "train" else ["task=lung", "device=cpu", "run_dir=unused"]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = compose(script, overrides=[*own, *overrides])
    config: Any = OmegaConf.to_container(composed, resolve=True)
    return dict(config)


def write_tiny_data(root: Path) -> Path:
    """Write two pairs of the lung task, and return the folder of the task."""
    rng = np.random.default_rng(0)
    folder = root / "task_02"
    for name in ("training/scans", "training/lungMasks", "keypoints", "training/lms"):
        (folder / name).mkdir(parents=True)
    for case in (1, 2, 3):
        for side in ("exp", "insp"):
            name = f"case_{case:03}_{side}.nii.gz"
            scan = rng.integers(-1000, 200, SHAPE).astype(np.int16)
            mask = np.zeros(SHAPE, np.uint8)
            mask[2:-2, 2:-2, 3:-3] = 1
            for place, array in (("scans", scan), ("lungMasks", mask)):
                image = nib.Nifti1Image(array, np.diag([1.75, 1.25, 1.75, 1]))
                nib.save(image, folder / "training" / place / name)
        points = rng.uniform(2, 7, (20, 6))
        np.savetxt(folder / f"keypoints/case_{case:03}.csv", points, fmt="%.3f", delimiter=",")
    np.savetxt(folder / "training/lms/case_001.txt", points, fmt="%.3f", delimiter=",")
    (folder / "pairs_val.csv").write_text("fixed, moving\n1, 1\n", encoding="utf-8")
    return folder
