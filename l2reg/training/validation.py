"""Validation: score the validation pairs during training."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from l2reg.data.pairs import Pair
from l2reg.evaluation.aggregate import aggregate, label_means
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_field import has_ground_truth, load_ground_truth, score_field
from l2reg.inference.predictor import Predictor
from l2reg.reporting.figures import pair_figure
from l2reg.reporting.registered_pair import registered_pair
from l2reg.submission.fields import to_submission
from l2reg.submission.half_resolution import upsample
from l2reg.submission.rules import RULES
from l2reg.training.distributed import gather, share

_RULES = RULES["2021"]


class Validation:
    """Scores pairs as the official evaluation does, without HD95, which takes too long.

    Args:
        predictor: The predictor of the model in training.
        pairs: The validation pairs.
        objective: The loss, which is the score where a pair has neither labels nor landmarks.
    """

    def __init__(self, predictor: Predictor, pairs: Sequence[Pair], objective: nn.Module) -> None:
        self.predictor = predictor
        self.pairs = pairs
        self.objective = objective
        self.with_ground_truth = all(
            has_ground_truth(pair, predictor.reader.task) for pair in pairs
        )

    def score(self) -> tuple[dict[str, float], float]:
        """Return the means over the pairs, and the quality, which is larger for a better model.

        The means are ``val/<metric>`` and, where there are labels, ``val_dsc/<label>``. Ranks share
        the work, and all return the same.

        The quality is the Dice where there are labels, else minus the TRE, else minus the loss; nan
        if no pair has a label that is in both scans.
        """
        if not self.with_ground_truth:
            loss = float(np.mean(gather([self._loss(pair) for pair in share(self.pairs)])))
            return {"val/loss": loss}, -loss
        pair_scores = gather([self._pair_scores(p) for p in share(self.pairs)])
        means = aggregate(pair_scores, _RULES)
        scores = {f"val/{name}": values["mean"] for name, values in means.items()}
        names = self.predictor.reader.task.labels
        by_label = label_means(pair_scores)
        scores |= {f"val_dsc/{names.get(label, label)}": mean for label, mean in by_label.items()}
        if "dsc" in means:
            return scores, means["dsc"]["mean"]
        return scores, -means["tre_mm"]["mean"] if "tre_mm" in means else math.nan

    def draw(self) -> Figure:
        """Return a figure of the first pair on the working grid."""
        pair = self.pairs[0]
        disp = self.predictor.register(pair)[0].cpu().numpy()
        return pair_figure(registered_pair(pair, self.predictor.reader, disp), pair.name)

    def _pair_scores(self, pair: Pair) -> PairScores:
        task = self.predictor.reader.task
        (half,) = to_submission(self.predictor.register(pair), task.shape)
        truth = load_ground_truth(pair, task, _RULES)
        return score_field(pair.name, upsample(half), truth, task, slow_metrics=False)

    def _loss(self, pair: Pair) -> float:
        batch = self.predictor.batch(pair)
        was_training = self.objective.training
        terms = self.objective.eval()(self.predictor.predict(batch), batch)
        self.objective.train(was_training)
        return float(sum(term.item() for term in terms.values()))
