from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss

from l2reg.losses.objective import Aligned, Objective
from l2reg.losses.segmentation import Segmentation, segmentation_loss
from l2reg.models.prediction import Prediction
from l2reg.models.siamese_unet import SiameseUNet
from l2reg.problems import InputError

SHAPE = (8, 9, 10)


def labels_of(rng: torch.Generator, max_label: int, pairs: int = 1) -> torch.Tensor:
    return torch.randint(0, max_label + 1, (pairs, 1, *SHAPE), generator=rng)


def test_monai_agrees_where_all_labels_are_present(rng: torch.Generator) -> None:
    logits, labels = torch.randn(1, 4, *SHAPE, generator=rng), labels_of(rng, 3)
    monai = DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, squared_pred=True,
        smooth_nr=0.0, smooth_dr=0.0,
    )  # fmt: skip
    own = F.cross_entropy(logits, labels[:, 0])  # monai drops the background here too
    dice = monai.dice(logits, labels)
    torch.testing.assert_close(segmentation_loss(logits, labels)[0], dice + own)


def test_the_truth_costs_nothing(rng: torch.Generator) -> None:
    labels = labels_of(rng, 3)
    sure = 100 * F.one_hot(labels[:, 0], 4).movedim(-1, 1).float()
    assert segmentation_loss(sure, labels).item() < 1e-6


def test_a_label_that_a_scan_lacks_counts_as_background(rng: torch.Generator) -> None:
    """Whether the network takes background for that label or not costs the same."""
    labels = 2 * labels_of(rng, 1)
    sure = 100 * F.one_hot(labels[:, 0], 4).movedim(-1, 1).float()
    mistaken = sure[:, [1, 0, 2, 3]]  # label 1 wherever there is background
    assert segmentation_loss(mistaken, labels).item() < 1e-6
    assert segmentation_loss(sure[:, [2, 1, 0, 3]], labels).item() > 1


def segmented(
    aligned: Callable[..., Aligned], rng: torch.Generator, pairs: int, max_label: int
) -> tuple[Aligned, torch.Tensor]:
    image = torch.zeros(pairs, 1, *SHAPE)
    logits = torch.randn(pairs, 3, *SHAPE, generator=rng).requires_grad_()
    still = aligned(
        image, image, label_weight=torch.tensor([1.0, 0.0][:pairs]),
        fixed_labels=labels_of(rng, max_label, pairs),
        moving_labels=labels_of(rng, max_label, pairs),
    )  # fmt: skip
    prediction = replace(still.prediction, segmentations=(logits, logits))
    return replace(still, prediction=prediction), logits


def test_pairs_without_labels_count_with_0(
    aligned: Callable[..., Aligned], rng: torch.Generator
) -> None:
    """The label weight is 0, or the label maps are empty."""
    segmentations, logits = segmented(aligned, rng, pairs=2, max_label=2)
    cost = Segmentation()(segmentations)
    cost.sum().backward()
    assert cost[0] > 0
    assert cost[1] == 0
    assert logits.grad is not None
    assert logits.grad[0].any()
    assert not logits.grad[1].any()
    segmentations, logits = segmented(aligned, rng, pairs=1, max_label=0)
    Segmentation()(segmentations).sum().backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_too_few_channels_and_a_network_without_segmentations_are_refused(
    aligned: Callable[..., Aligned], rng: torch.Generator
) -> None:
    segmentations, _ = segmented(aligned, rng, pairs=1, max_label=4)
    with pytest.raises(InputError, match=r"(?s)model\.segmentation_labels=2.*label 4"):
        Segmentation()(segmentations)
    with pytest.raises(InputError, match=r"model\.segmentation_labels=N"):
        Segmentation()(replace(segmentations, prediction=Prediction(segmentations.prediction.disp)))


def test_a_network_learns_to_segment_one_pair(rng: torch.Generator) -> None:
    """Coarser levels have no segmentations and are left out."""
    torch.manual_seed(0)
    model = SiameseUNet([8, 12, 16], [1, 1], "subtract", 0.0, False, 1, "displacement", "half")
    labels = torch.zeros(1, 1, *SHAPE, dtype=torch.int16)
    labels[..., 2:6, 3:7, 2:8] = 1
    image = labels.float() + 0.1 * torch.rand(1, 1, *SHAPE, generator=rng)
    ones = torch.ones_like(image)
    batch = {
        "fixed": image, "moving": image, "fixed_mask": ones, "moving_mask": ones,
        "fixed_labels": labels, "moving_labels": labels, "label_weight": torch.ones(1),
        "fixed_points": torch.zeros(1, 0, 3), "moving_points": torch.zeros(1, 0, 3),
        "spacing_mm": torch.ones(1, 3),
    }  # fmt: skip
    objective = Objective(
        {"segmentation": Segmentation()}, {"segmentation": 2.0}, level_weights=[0.5, 0.25]
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = objective(model.train()(batch), batch)["segmentation"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
