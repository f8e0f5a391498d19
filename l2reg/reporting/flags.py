"""Flags: warnings about one registered pair, such as folds or labels lost in warping."""

import math
from collections.abc import Iterable, Mapping

from l2reg.evaluation.pair_scores import PairScores

_MAX_OUTSIDE = 0.05  # fraction of the voxels; at the rim some positions are always outside


def flags(score: PairScores, initial: PairScores, names: Mapping[int, str]) -> list[str]:
    """Return warnings about one pair, the most serious first.

    Args:
        score: Scores of the submission.
        initial: Scores of the zero field.
        names: Names of the labels.
    """
    warnings = []
    before, after = initial.values(), score.values()
    worse = [
        name
        for metric, name, sign in (("dsc", "Dice", -1), ("tre_mm", "landmark error", 1))
        if metric in before and metric in after and sign * (after[metric] - before[metric]) > 0
    ]
    if worse:
        warnings.append(f"worse than the zero field: {' and '.join(worse)}")
    vanished = [label for label, value in score.hd95_voxels.items() if math.isinf(value)]
    if vanished:
        warnings.append(
            f"vanished when warped: {_join_words(names.get(n, str(n)) for n in vanished)}"
        )
    if score.change.folds > 0:
        warnings.append(
            f"folds: {100 * score.change.folds:.4f} % of the voxels, determinants down to "
            f"{score.change.det_min:.2f}"
        )
    if score.outside > _MAX_OUTSIDE:
        warnings.append(
            f"maps outside the moving volume: {100 * score.outside:.1f} % of the voxels"
        )
    return warnings


def _join_words(words: Iterable[str], max_words: int = 5) -> str:
    words = list(words)
    rest = f" and {len(words) - max_words} more" if len(words) > max_words else ""
    return ", ".join(words[:max_words]) + rest
