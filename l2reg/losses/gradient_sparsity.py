"""Gradient sparsity: distance of predicted spatial gradients from no motion (Estienne et al.)."""

from torch import nn

from l2reg.losses.objective import Aligned
from l2reg.problems import InputError, Problem
from l2reg.shapes import Field, PerPair


def gradient_sparsity(gradient: Field) -> PerPair:
    """Return the mean distance, in [0, 0.5], of ``gradient`` from 0.5, which is no motion."""
    return (gradient - 0.5).abs().mean(dim=(1, 2, 3, 4))


class GradientSparsity(nn.Module):
    """``gradient_sparsity`` of the prediction of a network with ``head=gradient``."""

    def forward(self, aligned: Aligned) -> PerPair:
        """Penalise stretching and compression along each axis.

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
                    found="a network that predicts none",
                    remedy="set model.head=gradient, or choose another smoothness term",
                )
            )
        return gradient_sparsity(gradient)
