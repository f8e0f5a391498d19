"""What is fixed about a registration task before anyone trains on it: one YAML file each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from l2reg.data.intensity import Intensity
from l2reg.shapes import Shape3, Spacing


@dataclass(frozen=True, kw_only=True)
class ScanFiles:
    """Where the files of one kind of scan lie.

    A pattern is the end of a path, with ``{id:03}`` where the zero-padded id stands and ``?`` for
    any one character; it is found in any folder below the task's.

    Attributes:
        modality: Key into ``Task.intensity``.
        image: Pattern of the scan.
        labels: Pattern of its segmentation, if the task has any.
        mask: Pattern of its region of interest, if the task has any.
        except_ids: Ids that this pattern matches but that must not be used.
    """

    modality: str
    image: str
    labels: str | None = None
    mask: str | None = None
    except_ids: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one release of a task lies on disk.

    Attributes:
        folder: The task's folder below the data root.
        fixed: Files of the fixed scans.
        moving: Files of the moving scans.
        unpaired: Further scans that may be trained on, of one patient each.
        keypoints: Pattern of training correspondences: one file of six columns, or two of three.
        landmarks: Pattern of scoring correspondences, likewise.
        val: Official validation pairs, ids of this layout; ``pairs_val.csv`` in the folder wins.
        test: Official test pairs, likewise (``pairs_test.csv``).
        held_out_folders: Names of folders whose scans are never trained on.
        dataset_json: Name of the later releases' description, whose pair lists win over ``val``
            and ``test`` but not over the CSV files.
        shape: Grid of this release where it differs from ``Task.shape``.
        official_ids: Rows ``(first, last, official, step)``: ids first..last of this layout were
            numbered official, official + step, ... in 2021, and are so in a submission.
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


@dataclass(frozen=True, kw_only=True)
class Task:
    """One registration task.

    Attributes:
        name: As in ``task=<name>``.
        number: Its folder in a submission is ``task_0<number>``.
        shape: Grid shared by all scans, in voxels along i, j, k.
        spacing_mm: Voxel size along i, j, k.
        intra_patient: Whether fixed and moving scan show the same patient.
        labels: Names of the labels that are scored, by value.
        sdlogj_masked: Rules (``2021``, ``current``) that take SDlogJ inside the fixed mask alone.
        intensity: How each modality is normalised.
        layouts: Releases of the data, by name (``2021``, ``current``).
        download: Where the data can be had.
        root: Folder of data that the task made itself (phantom); overrides ``data.root``.
    """

    name: str
    number: int
    shape: Shape3
    spacing_mm: Spacing
    intra_patient: bool
    labels: Mapping[int, str]
    sdlogj_masked: Sequence[str]
    intensity: Mapping[str, Intensity]
    layouts: Mapping[str, Layout]
    download: str
    root: Path | None = None

    def __post_init__(self) -> None:
        for what, values in (("shape", self.shape), ("spacing_mm", self.spacing_mm)):
            if min(values) <= 0:
                raise ValueError(f"task {self.name}: {what} must be positive, got {list(values)}")
        for name, layout in self.layouts.items():
            kinds = {files.modality for files in (layout.fixed, layout.moving, *layout.unpaired)}
            if unknown := kinds - set(self.intensity):
                raise ValueError(
                    f"task {self.name}, layout {name}: modalities {sorted(unknown)} have no "
                    f"intensity, known are {sorted(self.intensity)}"
                )

    @property
    def folder(self) -> str:
        """Folder of this task in a submission."""
        return f"task_{self.number:02}"
