"""Registration tasks: the fixed facts of a data set, one YAML file for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from l2reg.data.intensity import Intensity
from l2reg.shapes import Shape3, Spacing


@dataclass(frozen=True, kw_only=True)
class ScanFiles:
    """File patterns of one kind of scan.

    A pattern is the end of a path, with ``{id:03}`` in place of the zero-padded id and ``?`` for
    any single character. It is matched in every folder below that of the task.

    Attributes:
        modality: Modality, a key of ``Task.intensity``.
        image: Pattern of the images.
        labels: Pattern of the segmentations, if the task has any.
        mask: Pattern of the regions of interest, if the task has any.
        except_ids: Ids that the pattern matches but that must not be used.
    """

    modality: str
    image: str
    labels: str | None = None
    mask: str | None = None
    except_ids: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Files and pairs of one release of a task.

    Attributes:
        folder: Name of the task's folder below the data root.
        fixed: Files of the fixed scans.
        moving: Files of the moving scans.
        unpaired: Further scans for training, each of its own patient.
        keypoints: Patterns of the correspondences for training: one file of six columns, or two of
            three columns.
        landmarks: Patterns of the correspondences for scoring: one file of six columns, or two of
            three columns.
        val: Official validation pairs, as ids of this layout. They are replaced by a
            ``pairs_val.csv`` in the folder.
        test: Official test pairs, as ids of this layout. They are replaced by a ``pairs_test.csv``
            in the folder.
        held_out_folders: Names of folders whose scans are never trained on.
        dataset_json: Name of the JSON description that later releases have. Its pair lists replace
            ``val`` and ``test``, but not the CSV files.
        shape: Shape of the grid, where it differs from ``Task.shape``.
        official_ids: Rows ``(first, last, official, step)``: the ids first..last of this layout
            have the numbers official, official + step, ... in a 2021 submission.
    """

    folder: str
    fixed: ScanFiles
    moving: ScanFiles
    unpaired: Sequence[ScanFiles] = ()
    keypoints: Sequence[str] = ()
    landmarks: Sequence[str] = ()
    val: Sequence[Sequence[int]] = ()
    test: Sequence[Sequence[int]] = ()
    held_out_folders: Sequence[str] = ()
    dataset_json: str | None = None
    shape: Shape3 | None = None
    official_ids: Sequence[Sequence[int]] = ()

    def official_id(self, scan_id: int) -> int:
        """Return the number that ``scan_id`` has in a 2021 submission."""
        for first, last, official, step in self.official_ids:
            if first <= scan_id <= last:
                return official + (scan_id - first) * step
        return scan_id

    def id_of_official(self, official_id: int) -> int:
        """Return the number in this layout of a scan of a 2021 submission."""
        for first, last, official, step in self.official_ids:
            scan_id, rest = divmod(official_id - official, step)
            if rest == 0 and first <= first + scan_id <= last:
                return first + scan_id
        return official_id


@dataclass(frozen=True, kw_only=True)
class Task:
    """Registration task.

    Attributes:
        name: Name of the task, as in ``task=<name>``.
        number: Official number; the task's folder in a submission is ``task_0<number>``. 0 for
            one's own data, which have no ``layouts`` either.
        shape: Shape of the grid of all scans, in voxels along i, j, k.
        spacing_mm: Voxel size along i, j, k.
        intra_patient: Whether fixed and moving scan show the same patient.
        labels: Names of the labels that are scored, by value.
        sdlogj_masked: Rules (``2021``, ``current``) that compute SDlogJ inside the fixed mask only.
        intensity: Normalisation of each modality.
        layouts: Releases of the data, by name (``2021``, ``current``).
        download: Address from which the data can be downloaded.
        root: Data root of a task that generates its data (phantom), where ``data.root`` is null.
    """

    name: str
    number: int = 0
    shape: Shape3
    spacing_mm: Spacing
    intra_patient: bool = False
    labels: Mapping[int, str] = field(default_factory=dict)
    sdlogj_masked: Sequence[str] = ()
    intensity: Mapping[str, Intensity]
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    download: str = ""
    root: Path | None = None

    def __post_init__(self) -> None:
        for name, values in (("shape", self.shape), ("spacing_mm", self.spacing_mm)):
            if min(values) <= 0:
                raise ValueError(f"task {self.name}: {name} must be positive, got {list(values)}")
        for name, layout in self.layouts.items():
            kinds = {files.modality for files in (layout.fixed, layout.moving, *layout.unpaired)}
            if unknown := kinds - set(self.intensity):
                raise ValueError(
                    f"task {self.name}, layout {name}: modalities {sorted(unknown)} have no "
                    f"intensity; those with one are {sorted(self.intensity)}"
                )

    @property
    def folder(self) -> str:
        """Name of the task's folder in a submission."""
        return f"task_{self.number:02}"
