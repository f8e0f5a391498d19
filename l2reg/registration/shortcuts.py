"""What ``import l2reg`` offers for files of any origin, besides ``register``."""

from pathlib import Path

from l2reg.registration.annotations import Scores, read_annotations
from l2reg.registration.result import Registration
from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.transform_reader import read_transform
from l2reg.registration.transform_scans import TransformScans, read_scans_of
from l2reg.transforms.world_transform import WorldTransform


def read(
    transform: str | Path,
    *,
    fixed: str | Path | None = None,
    moving: str | Path | None = None,
) -> WorldTransform:
    """Read a transform from fixed to moving positions, in the form of any tool.

    The result is called with positions in RAS mm, ``(3, n)``, and has an ``inverse``.

    Args:
        transform: File, or ``FORM:FILE`` where its content does not tell the form:
            ``greedy:a.mat``, ``fsl:a.mat``.
        fixed: The fixed scan, which forms in voxels need.
        moving: The moving scan, which forms in voxels need.

    Raises:
        InputError: If the file is missing, unreadable or of no known form, or needs a scan.
    """
    paths = (None if path is None else Path(path) for path in (fixed, moving))
    return read_transform(transform, read_scans_of(*paths))


def evaluate(
    transform: WorldTransform | Registration | str | Path, fixed: ScanFiles, moving: ScanFiles
) -> dict[str, Scores]:
    """Return the scores of a transform by labels and landmarks.

    Args:
        transform: Map from fixed to moving positions, a registration, or a file as of ``read``.
        fixed: The fixed scan with labels, landmarks or both.
        moving: The same of the moving scan.

    Returns:
        Scores ``before``, by the headers alone, and ``after`` the transform: the Dice coefficient
        of each label and the target registration error of each landmark in mm.

    Raises:
        InputError: If a file is unreadable or does not belong to its scan, or one scan has what the
            other one lacks.
    """
    annotations = read_annotations(fixed, moving)
    if isinstance(transform, str | Path):
        transform = read_transform(transform, TransformScans(*annotations.grids))
    if isinstance(transform, Registration):
        transform = transform.transform
    return annotations.scores(transform)
