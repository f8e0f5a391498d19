"""Preconditioned conjugate gradients (Hestenes and Stiefel 1952) for systems of fields."""

from collections.abc import Callable

import torch
from torch import Tensor

from l2reg.shapes import Field


def conjugate_gradients(
    matrix: Callable[[Field], Field],
    target: Field,
    diagonal: Field,
    max_iterations: int,
    tolerance: float,
) -> Field:
    """Return the field that ``matrix`` maps to ``target``, for each pair.

    Args:
        matrix: Function that applies a symmetric, positive definite matrix.
        target: Right-hand side.
        diagonal: Approximate diagonal of the matrix, above 0, as the preconditioner.
        max_iterations: Largest number of iterations.
        tolerance: The last iteration leaves less than this fraction of the residual's norm, in the
            metric of the preconditioner.
    """

    def dot(a: Field, b: Field) -> Tensor:
        return (a * b).sum(dim=(1, 2, 3, 4), keepdim=True)

    solution, residual = torch.zeros_like(target), target.clone()
    scaled = residual / diagonal
    direction, residual_norm = scaled, dot(residual, scaled)
    small_enough = residual_norm * tolerance**2
    for _ in range(max_iterations):
        if bool((residual_norm <= small_enough).all()):
            break
        applied = matrix(direction)
        length = residual_norm / dot(direction, applied).clamp(min=1e-30)
        solution.addcmul_(length, direction)
        residual.addcmul_(length, applied, value=-1)
        scaled = residual / diagonal
        previous_norm, residual_norm = residual_norm, dot(residual, scaled)
        direction.mul_(residual_norm / previous_norm.clamp(min=1e-30)).add_(scaled)
    return solution
