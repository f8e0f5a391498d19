"""One sound submission, field and cache entry of every kind, and how each is read."""

import gzip
import io
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.faults import mutations as m
from benchmarks.faults.kinds import SHAPE, Kind, digest
from l2reg.data.cache import Cache
from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Pair
from l2reg.evaluation.score_submissions import submitted_field
from l2reg.problems import raise_if_any
from l2reg.submission.bundle import join_bundles, open_submission
from l2reg.submission.fields import read_field, read_full_field
from l2reg.submission.format_check import check_submission
from l2reg.submission.numbering import pair_names
from l2reg.submission.rules import RULES


def submissions(pair: Pair, dataset: Dataset) -> list[Kind]:
    """Return the kinds of files of submissions; ``pair`` is of the data set."""
    task, rules = dataset.release.task, RULES["2021"]
    half = np.random.default_rng(1).normal(0, 1, (3, 6, 5, 7)).astype(np.float16)
    full = np.zeros((*SHAPE, 3), np.float32)
    file = io.BytesIO()
    np.savez(file, half)
    npz = file.getvalue()
    nifti = nib.Nifti1Image(full, np.eye(4)).to_bytes()
    packed = gzip.compress(nifti, mtime=0)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("submission/dummy.txt", "dummy file\n")
        archive.writestr(f"submission/task_02/disp_{pair.name}.npz", npz)
    zipped = file.getvalue()

    def scored_zip(path: Path) -> str:
        opened = open_submission(path, task, [pair], rules)
        return digest(submitted_field(opened, pair, task, rules), opened.notes())

    def checked_zip(path: Path) -> str:
        raise_if_any(check_submission(path, task, pair_names([pair], task, rules), rules).faults)
        joined = join_bundles([path], path.with_name("joined.zip"))
        return digest(joined)

    def timings(path: Path) -> str:
        shape_zip = path.with_name("task_02.zip")
        shape_zip.write_bytes(zipped)
        opened = open_submission(shape_zip, task, [pair], rules)
        return digest(opened.seconds(), opened.notes())

    def array(path: Path) -> str:
        entry = Cache(path.parent / "cache")
        source = path.with_name("source")
        source.write_bytes(b"voxels")
        entry.get(source, {}, lambda: half)
        (cached,) = (path.parent / "cache").iterdir()
        cached.write_bytes(path.read_bytes())
        return digest(entry.get(source, {}, lambda: half).shape)

    file = io.BytesIO()
    np.save(file, half)
    npy = file.getvalue()
    pack = (*m.BYTES, *[m.change_npz] * 4)

    def full_field(path: Path) -> str:
        return digest(read_full_field(path.read_bytes(), str(path), SHAPE))

    return [
        Kind("field, npz", "disp_0001_0001.npz", npz,
             lambda p: digest(read_field(p.read_bytes(), str(p), SHAPE)), pack, is_checked=True),
        Kind("field, full, npz", "disp_0001_0001.npz", _full_npz(full), full_field, pack, True),
        Kind("field, NIfTI", "disp_0001_0001.nii.gz", packed, full_field,
             (*m.BYTES, *[m.change_nifti] * 4), is_checked=True),
        Kind("submission, zip", "task_02.zip", zipped, scored_zip,
             (*m.BYTES, *[m.change_zip_of_npz] * 4), is_checked=True),
        Kind("submission checked and joined", "task_02.zip", zipped, checked_zip,
             (*m.BYTES, *[m.change_zip_of_npz] * 4)),
        Kind("runtimes, CSV", "timings.csv", f"pair,seconds\n{pair.name},0.5\n".encode(), timings,
             (*m.BYTES, *[m.change_words] * 4)),
        Kind("notes", "score_notes.txt", b"a note\nanother\n", timings,
             (*m.BYTES, *[m.change_words] * 2)),
        Kind("cache entry, npy", "entry.npy", npy, array, (*m.BYTES, *[m.change_npy] * 4)),
    ]  # fmt: skip


def _full_npz(full: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, full)
    return file.getvalue()
