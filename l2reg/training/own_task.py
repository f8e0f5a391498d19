"""Training on one's own data: its checks, and its validation on the working grid."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn
from tqdm import tqdm

from l2reg.batch import first_channel, to_device
from l2reg.data.pairs import Pair
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_field import GroundTruth, score_field
from l2reg.geometry.warp import warp_with_fill
from l2reg.inference.method import CPU
from l2reg.inference.predictor import Predictor
from l2reg.own_data.check import duplicate_images, own_problems, own_warnings
from l2reg.own_data.dataset import OwnDataset
from l2reg.own_data.own_table import OwnRow
from l2reg.problems import Problem, group_by_kind
from l2reg.registration.outputs import registered_pair
from l2reg.reporting.figures import pair_figure
from l2reg.training.task_of_run import PairTask
from l2reg.training.validation import Validation


@dataclass(frozen=True)
class OwnTask(PairTask):
    """A task of one's own data."""

    data: OwnDataset

    def describe(self) -> None:
        """Print the splits and the grid, and warnings about the pairs."""
        data, splits = self.data, self.data.splits
        counts = ", ".join(f"{len(rows)} {name}" for name, rows in splits.rows.items() if rows)
        what = "pairs" if data.table.paired else "single scans, paired across people"
        size = " x ".join(map(str, data.task.shape))
        spacing = " x ".join(f"{mm:g}" for mm in data.task.spacing_mm)
        tqdm.write(
            f"{data.table.path}: {what}: {counts}; on grids of {size} voxels of {spacing} mm"
        )
        for line in splits.said:
            tqdm.write(line)
        for warning in group_by_kind(own_warnings(data, self._rows())):
            tqdm.write(f"warning: {warning}")

    def problems(self) -> list[Problem]:
        """Return the problems of the files that are trained on and validated with."""
        return [*own_problems(self.data, self._rows()), *duplicate_images(self.data)]

    def validation(self, model: nn.Module, device: torch.device, precision: str) -> Validation:
        """Return the validation on the working grid."""
        return OwnValidation(self.predictor(model, device, precision), self.val, self.objective)

    def _rows(self) -> list[OwnRow]:
        return [*self.data.splits.rows["train"], *(self.data.pair_rows("val") if self.val else [])]


class OwnValidation(Validation):
    """Scores pairs on the working grid, by their labels and points where they have some.

    ``l2reg predict`` scores on the grid of the fixed scan instead.

    Args:
        predictor: The predictor of the model in training.
        pairs: The validation pairs.
        objective: The loss, which is the score where a pair has neither labels nor points.
    """

    def __init__(self, predictor: Predictor, pairs: Sequence[Pair], objective: nn.Module) -> None:
        super().__init__(predictor, pairs, objective)
        self.with_ground_truth = all(
            pair.landmarks is not None or None not in (pair.fixed.labels, pair.moving.labels)
            for pair in pairs
        )

    def draw(self) -> Figure:
        """Return a figure of the first pair on the working grid."""
        pair = self.pairs[0]
        batch = self.predictor.batch(pair)
        disp = self.predictor.predict(batch).disp.float()
        batch = first_channel(to_device(batch, CPU))
        warped = warp_with_fill(batch["moving"], disp.cpu(), 0.0)
        return pair_figure(registered_pair(batch, disp.cpu(), warped), pair.name)

    def _pair_scores(self, pair: Pair) -> PairScores:
        batch = self.predictor.batch(pair)
        disp = self.predictor.predict(batch).disp[0].float().cpu().numpy()
        batch = to_device(batch, CPU)
        fixed, moving = (
            each[0, 0].numpy() for each in (batch["fixed_labels"], batch["moving_labels"])
        )
        points = [
            each[0].double().numpy() for each in (batch["fixed_points"], batch["moving_points"])
        ]
        common = sorted((set(np.unique(fixed)) & set(np.unique(moving))) - {0})
        labelled = None not in (pair.fixed.labels, pair.moving.labels)
        truth = GroundTruth(
            labels=(fixed, moving) if labelled else None,
            landmarks=None if pair.landmarks is None else (points[0], points[1]),
            keypoints=None,
            mask=None,
        )
        i_mm, j_mm, k_mm = self.predictor.reader.spacing_mm
        task = replace(
            self.predictor.reader.task,
            spacing_mm=(i_mm, j_mm, k_mm),
            labels={int(label): str(label) for label in common},
        )
        return score_field(pair.name, disp, truth, task, slow_metrics=False)
