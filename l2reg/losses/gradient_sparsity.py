"""Regularity of Estienne et al.: how far the predicted spatial gradients are from no motion."""

from torch import nn

from l2reg.losses.objective import Aligned
from l2reg.problems import InputError, Problem
from l2reg.shapes import Field, PerPair


def gradient_sparsity(gradient: Field) -> PerPair:
    """Return the mean distance of ``gradient`` from 0.5, which is no motion: 0 to 0.5."""
    return (gradient - 0.5).abs().mean(dim=(1, 2, 3, 4))


class GradientSparsity(nn.Module):
    """``gradient_sparsity`` of what a network with ``head=gradient`` predicts."""

    def forward(self, aligned: Aligned) -> PerPair:
        """Penalise any stretch or squeeze along an axis.

        Raises:
            InputError: If the network predicts no gradient.
        """
        gradient = aligned.prediction.gradient
        if gradient is None:
            raise InputError(
                Problem(
                    where="loss term GradientSparsity",
                    what="needs a network that predicts spatial gradients",
                    expected="model.head=gradient",
                    found="a network without them",
                    remedy="set model.head=gradient, or take another smoothness term",
                )
            )
        return gradient_sparsity(gradient)
