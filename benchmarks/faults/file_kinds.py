"""One sound scan, table and label map of every kind, and how each is read."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813

from benchmarks.faults import mutations as m
from benchmarks.faults.kinds import SHAPE, Kind, digest
from l2reg.data.cache import Cache
from l2reg.data.check import check_pairs
from l2reg.data.dataset import Dataset
from l2reg.data.pair_lists import read_csv, read_json
from l2reg.data.pairs import Pair
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_files import write_scores
from l2reg.evaluation.score_submissions import ZERO_FIELD, SubmissionScores, _read_scores
from l2reg.evaluation.volume_change import VolumeChange
from l2reg.io.points import read_points
from l2reg.io.volumes import read_header, read_labels, read_mask, read_volume
from l2reg.own_data.own_table import read_own_table
from l2reg.phantom.make import read_manifest
from l2reg.problems import raise_if_any
from l2reg.ranking.rank import rank
from l2reg.ranking.team_scores import read_tasks
from l2reg.registration.pair_table import read_pair_table
from l2reg.submission.rules import RULES


def volumes(dataset: Dataset, pair: Pair) -> list[Kind]:
    """Return the kinds of volumes; ``pair`` is of the data set."""
    scan, mask = pair.fixed.image, pair.fixed.mask
    image = nib.Nifti1Image.from_filename(scan)
    array = np.asarray(image.dataobj)
    vectors = np.zeros((*SHAPE, 1, 3), np.float32)
    warp = nib.Nifti1Image(vectors, image.affine)
    warp.header.set_intent(1007)
    slope = nib.Nifti1Image(array, image.affine)
    slope.header.set_slope_inter(0.5, -3.0)
    scaled = slope.to_bytes()

    def volume(path: Path) -> str:
        read = read_volume(path)
        return digest(read.array, read.affine, read.voxel_type, read_header(path))

    def in_data_set(path: Path) -> str:
        mutated = replace(pair, fixed=replace(pair.fixed, image=path))
        problems = check_pairs([mutated], dataset.release.task, Cache(None))
        raise_if_any(problems)
        return digest(*dataset.reader("half").read(mutated).values())

    nifti = (*m.BYTES, *[m.change_nifti] * 6)
    assert mask is not None
    return [
        Kind("NIfTI, plain", "scan.nii", scaled, volume, nifti),
        Kind("NIfTI, compressed", "scan.nii.gz", scan.read_bytes(), volume, nifti, is_checked=True),
        Kind("NIfTI-2", "scan.nii", nib.Nifti2Image(array, image.affine).to_bytes(), volume, nifti),
        Kind("scan of a data set", "scan.nii.gz", scan.read_bytes(), in_data_set, nifti, True),
        Kind("label map", "seg.nii.gz", mask.read_bytes(), lambda p: digest(read_labels(p)), nifti,
             is_checked=True),
        Kind("mask", "mask.nii.gz", mask.read_bytes(), lambda p: digest(read_mask(p)), nifti,
             is_checked=True),
        Kind("NRRD", "scan.nrrd", nrrd(array), volume, (*m.BYTES, *[m.change_words] * 4)),
        Kind("ITK transform for a scan", "warp.nii", warp.to_bytes(), volume, nifti),
        Kind("ITK affine for a scan", "affine.mat", b"#Insight Transform File V1.0\n", volume),
    ]  # fmt: skip


def nrrd(array: np.ndarray) -> bytes:
    """Return a scan as a compressed NRRD file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scan.nrrd"
        sitk.WriteImage(sitk.GetImageFromArray(array.T), str(path), useCompression=True)
        return path.read_bytes()


def tables(data: Path, dataset: Dataset) -> list[Kind]:
    """Return the kinds of tables; ``data`` is the folder of the task."""
    points = (data / "keypoints/case_001.csv").read_bytes()
    pairs = b"fixed, moving\n1, 1\n2, 2\n10, 11\n"
    name = "./imagesTr/LungCT_0001_000{}.nii.gz"
    entry = {"fixed": name.format(0), "moving": name.format(1)}
    json_text = json.dumps({"name": "LungCT", "registration_val": [entry] * 3}).encode()
    manifest = b'{"flavour": "lung", "size": "small", "seed": 0, "pairs": 3}'
    change = VolumeChange(sdlogj=0.1, sd_log_det=0.4, folds=0.0, det_min=0.5, det_max=1.5,
                          folded_volume=0.0)  # fmt: skip
    pair_scores = [
        PairScores(pair=f"000{n}_000{n}", dsc={1: 0.5}, hd95_voxels={1: 3.0}, hd95_mm={1: 4.0},
                   assd_mm={1: 1.0}, tre_mm=[1.0, 3.0], tre_keypoints_mm=[], outside=0.0,
                   change=change)
        for n in (1, 2)
    ]  # fmt: skip
    scores = {name: SubmissionScores(pair_scores) for name in (ZERO_FIELD, "team")}
    scores_path = data.parent / "scores.json"
    write_scores(scores_path, dataset.task, RULES["2021"], scores)
    scored = json.dumps(pair_scores[0].to_json()).encode()

    def ranking(path: Path) -> str:
        return digest(rank(read_tasks([path]), "official", resamples=2))

    def cached_scores(path: Path) -> str:
        return digest(_read_scores(path))

    words = (*m.BYTES, *[m.change_words] * 4)
    values = (*m.BYTES, *[m.change_json] * 6)
    return [
        Kind("pair list, CSV", "pairs_val.csv", pairs, lambda p: digest(read_csv(p)), words),
        Kind("pair table, CSV", "pairs.csv", b"fixed,moving,name\na.nii,b.nii,x\nc.nii,d.nii,\n",
             lambda p: digest(read_pair_table(p, None)), words),
        Kind("table of one's own, CSV", "own.csv",
             b"scan,labels,subject\na.nii,s.nii,x\nc.nii,,y\n",
             lambda p: digest(read_own_table(p, None)), words),
        Kind("point file, CSV", "case_001.csv", points, lambda p: digest(*read_points([p])), words),
        Kind("data set, JSON", "LungCT_dataset.json", json_text,
             lambda p: digest(read_json(p, "registration_val")), values),
        Kind("phantom, JSON", "phantom.json", manifest,
             lambda p: digest(read_manifest(p.parent)), values),
        Kind("scores, JSON", "scores.json", scores_path.read_bytes(), ranking, values),
        Kind("cached scores, JSON", "scores.json", scored, cached_scores, values),
    ]  # fmt: skip
