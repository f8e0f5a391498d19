"""The two generations of the organisers' rules, where they differ."""

from collections.abc import Mapping
from dataclasses import dataclass

from l2reg.problems import InputError, Problem, suggest


@dataclass(frozen=True)
class Rules:
    """One generation of the official evaluation.

    SDlogJ itself is a ddof 0 in both; ``Task.sdlogj_masked`` says for which rules a task's SDlogJ
    is taken inside the fixed mask.

    Attributes:
        name: ``2021`` or ``current``.
        ddof: Of the standard deviation over pairs.
        quantiles: Which quantile of the pair values the entry "30" of a metric is.
        keypoints: Whether the TRE of keypoints is scored beside that of landmarks.
        full_resolution: Whether fields are submitted on the full grid, as NIfTI volumes.
    """

    name: str
    ddof: int
    quantiles: Mapping[str, float]
    keypoints: bool
    full_resolution: bool


_GOOD_TAIL = {"dsc": 0.3, "hd95_voxels": 0.3}  # of HD95 the better one, in both
RULES = {
    "2021": Rules("2021", 1, {**_GOOD_TAIL, "tre_mm": 0.3, "sdlogj": 0.3}, False, False),
    "current": Rules(
        "current",
        0,
        {**_GOOD_TAIL, "tre_mm": 0.7, "tre_keypoints_mm": 0.7, "sdlogj": 0.7},
        True,
        True,
    ),
}


def rules_named(name: object, option: str = "rules") -> Rules:
    """Return the rules of that name, which ``option`` gave; YAML may read 2021 as a number.

    Raises:
        InputError: If there are none.
    """
    if str(name) not in RULES:
        remedy = suggest(str(name), RULES)
        problem = Problem(
            where=f"{option}={name}",
            what="are unknown",
            expected=", ".join(RULES),
            found=str(name),
            remedy=remedy,
        )
        raise InputError(problem)
    return RULES[str(name)]
