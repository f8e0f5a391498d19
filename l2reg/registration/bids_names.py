"""BIDS names of transforms: which scan is fixed and which moves in ``from-A_to-B_mode-image_xfm``.

The names are those that fMRIPrep writes (BIDS extension proposal 14, a draft). With ``mode-image``
the transform brings images of A onto the grid of B, with ``mode-points`` points of A into B. Both
say where the content goes; a file of ITK maps positions of the fixed to positions of the moving
scan, so that B is the fixed scan of ``mode-image``, and A that of ``mode-points``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from l2reg.problems import Problem, raise_if_any

_SUFFIX = "xfm"
_AS_ACQUIRED = ("orig", "scanner", "native")  # the space of a scan whatever its suffix
_FORM = "from-A_to-B_mode-image_xfm, or mode-points; labels of letters and digits"


@dataclass(frozen=True)
class Spaces:
    """Labels of the two spaces that a transform connects.

    Attributes:
        fixed: Where the positions lie that it maps; images of the moving space arrive there.
        moving: Where it maps them to.
    """

    fixed: str
    moving: str

    @property
    def swapped(self) -> "Spaces":
        """The spaces of the inverse."""
        return Spaces(self.moving, self.fixed)

    def __str__(self) -> str:
        return (
            f"brings images of {self.moving} onto the grid of {self.fixed}, "
            f"and points of {self.fixed} into {self.moving}"
        )


def transform_spaces(path: Path) -> Spaces | None:
    """Return the spaces that the BIDS name of a transform tells; none if it has no such name."""
    entities = _entities(path)
    start, end, mode = (entities.get(key, "") for key in ("from", "to", "mode"))
    if not _is_transform(path) or not (start.isalnum() and end.isalnum()):
        return None
    return {"image": Spaces(end, start), "points": Spaces(start, end)}.get(mode)


def scan_space(path: Path) -> str:
    """Return the label of the space of a scan by its BIDS name: ``space-``, ``tpl-`` or suffix."""
    entities = _entities(path)
    return entities.get("space") or entities.get("tpl") or _parts(path)[-1]


def check_chain(transforms: Sequence[Path], fixed: Path | None, moving: Path | None) -> None:
    """Raise ``InputError`` if names of transforms contradict each other, or those of the scans.

    Args:
        transforms: Files in the order in which a fixed position passes through them.
        fixed: The scan whose positions are mapped, if it is known.
        moving: The scan that they are mapped to, if it is known.
    """
    named = [(path, transform_spaces(path)) for path in transforms]
    problems = [
        Problem(
            where=str(second),
            what="does not follow the transform before it",
            expected=f"one that brings images onto the grid of {before.moving}",
            found=f"it {after}",
            remedy="name them in the order in which antsApplyTransforms takes them, the one onto "
            "the reference first; `l2reg invert` turns one around",
        )
        for (_, before), (second, after) in pairwise(named)
        if before and after and before.moving != after.fixed
    ]
    labels = {label for _, spaces in named if spaces for label in (spaces.fixed, spaces.moving)}
    if named and (first := named[0][1]):
        problems += _scan_problems(named[0][0], first, fixed, first.fixed, labels)
    if named and (last := named[-1][1]):
        problems += _scan_problems(named[-1][0], last, moving, last.moving, labels)
    raise_if_any(problems)


def check_result(
    transform: Path, out: Path, fixed: Path | None, moving: Path | None, *, inverse: bool
) -> Spaces | None:
    """Return the spaces that the BIDS name of an output tells, or none.

    Args:
        transform: The transform that is converted or inverted.
        out: File that is written.
        fixed: Fixed scan of ``transform``, if it is known.
        moving: Its moving scan, if it is known.
        inverse: Whether the inverse is written.

    Raises:
        InputError: If the name is an incomplete one of BIDS, or says another direction than that of
            what is written, by the names of the transform and the scans.
    """
    check_chain([transform], fixed, moving)
    written, read = transform_spaces(out), transform_spaces(transform)
    if written is None:
        raise_if_any(_form_problems(out))
        return None
    check_chain([out], *((moving, fixed) if inverse else (fixed, moving)))
    expected = read.swapped if read and inverse else read
    if expected and written != expected:
        turned = written == expected.swapped
        command = "convert" if inverse else "invert"
        raise_if_any([
            Problem(
                where=str(out),
                what="has a name that says something else than what is written",
                expected=f"from-{expected.moving}_to-{expected.fixed}_mode-image_{_SUFFIX}: "
                f"it {expected}",
                found=f"{out.name}: it {written}",
                remedy=f"l2reg {command} writes that one" if turned else "change the name of --out",
            )
        ])  # fmt: skip
    return written


def _scan_problems(
    path: Path, spaces: Spaces, scan: Path | None, expected: str, labels: set[str]
) -> list[Problem]:
    """Return what is wrong if a scan is of a space at another end of the transforms."""
    if scan is None or expected in _AS_ACQUIRED:
        return []
    found = scan_space(scan)
    if found == expected or found not in labels:
        return []
    return [
        Problem(
            where=str(path),
            what=f"does not match {scan.name}",
            expected=f"a scan of {expected}: the transform {spaces}",
            found=f"{scan.name}, of {found}",
            remedy="swap the two scans, or use the inverse: `l2reg warp --inverse`, `l2reg invert`",
        )
    ]


def _form_problems(out: Path) -> list[Problem]:
    """Return what is wrong with a name that is meant to be one of BIDS."""
    if not _is_transform(out):
        return []
    entities = _entities(out)
    start, end = (entities.get(key, letter) for key, letter in (("from", "A"), ("to", "B")))
    _, dot, extension = out.name.partition(".")
    name = f"from-{start}_to-{end}_mode-image_{_SUFFIX}{dot}{extension}"
    return [
        Problem(
            where=str(out),
            what="is an incomplete BIDS name of a transform",
            expected=_FORM,
            found=out.name,
            remedy=f"such as --out {out.with_name(name)}, or a name without _{_SUFFIX}",
        )
    ]


def _is_transform(path: Path) -> bool:
    parts = _parts(path)
    return parts[-1] == _SUFFIX and len(parts) > 1


def _entities(path: Path) -> dict[str, str]:
    pairs = (part.partition("-") for part in _parts(path)[:-1])
    return {key: label for key, _, label in pairs}


def _parts(path: Path) -> list[str]:
    return path.name.partition(".")[0].split("_")
