"""What somebody has to know of a registered pair before trusting it."""

import math
from collections.abc import Iterable, Mapping

from l2reg.evaluation.pair_scores import PairScores

_MUCH_OUTSIDE = 0.05  # of the voxels; the rim of a volume always leaves it a little


def flags(score: PairScores, initial: PairScores, names: Mapping[int, str]) -> list[str]:
    """Return warnings about one pair, most serious first.

    Args:
        score: Of the submission.
        initial: Of the zero field.
        names: Of the labels.
    """
    found = []
    before, after = initial.values(), score.values()
    worse = [
        name
        for metric, name, sign in (("dsc", "Dice", -1), ("tre_mm", "landmark error", 1))
        if metric in after and sign * (after[metric] - before[metric]) > 0
    ]
    if worse:
        found.append(f"worse than the zero field: {' and '.join(worse)}")
    vanished = [label for label, value in score.hd95_voxels.items() if math.isinf(value)]
    if vanished:
        found.append(f"vanished when warped: {_listed(names.get(n, str(n)) for n in vanished)}")
    if score.change.folds > 0:
        found.append(
            f"folds: {100 * score.change.folds:.4f} % of the voxels, determinants down to "
            f"{score.change.det_min:.2f}"
        )
    if score.outside > _MUCH_OUTSIDE:
        found.append(f"leaves the volume: {100 * score.outside:.1f} % of the voxels")
    return found


def _listed(words: Iterable[str], most: int = 5) -> str:
    words = list(words)
    rest = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + rest
