"""Rules: the differences between the 2021 and the current generation of the evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass

from l2reg.problems import InputError, Problem, suggest


@dataclass(frozen=True)
class Rules:
    """One generation of the official evaluation.

    SDlogJ itself is computed with a ddof of 0 in both. ``Task.sdlogj_masked`` lists the rules under
    which the SDlogJ of a task is computed inside the fixed mask.

    Attributes:
        name: ``2021`` or ``current``.
        ddof: Delta degrees of freedom of the standard deviation over pairs.
        quantiles: Quantile of the pair values that the entry "30" of each metric holds, in [0, 1].
        keypoints: Whether the TRE of keypoints is scored beside that of landmarks.
        full_resolution: Whether fields are submitted on the full grid, as NIfTI volumes.
    """

    name: str
    ddof: int
    quantiles: Mapping[str, float]
    keypoints: bool
    full_resolution: bool


# Low values are bad for the Dice but good for HD95: both generations take the 0.3 quantile of both.
_COMMON_QUANTILES = {"dsc": 0.3, "hd95_voxels": 0.3}
RULES = {
    "2021": Rules("2021", 1, {**_COMMON_QUANTILES, "tre_mm": 0.3, "sdlogj": 0.3}, False, False),
    "current": Rules(
        "current",
        0,
        {**_COMMON_QUANTILES, "tre_mm": 0.7, "tre_keypoints_mm": 0.7, "sdlogj": 0.7},
        True,
        True,
    ),
}


def rules_by_name(name: object, option: str = "rules") -> Rules:
    """Return the rules called ``name``.

    Args:
        name: Name of the rules; the number 2021, as which YAML may read it, is accepted.
        option: Option that the name comes from, for the message.

    Raises:
        InputError: If no rules have this name.
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
