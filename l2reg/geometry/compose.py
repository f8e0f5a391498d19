"""Chain, integrate and invert displacement fields."""

from l2reg.geometry.warp import warp
from l2reg.shapes import Field


def compose(outer: Field, inner: Field) -> Field:
    """Return the field of ``p -> q + outer(q)`` with ``q = p + inner(p)``: first inner.

    Outside the grid ``outer`` keeps the value of its nearest edge voxel.
    """
    return inner + warp(outer, inner)


def integrate(velocity: Field, *, squarings: int) -> Field:
    """Return the flow of a stationary velocity field after unit time.

    Scaling and squaring (Arsigny et al. 2006): halve the velocity ``squarings`` times, then
    compose the small field with itself as often. ``integrate(-velocity)`` is the inverse.

    Args:
        velocity: Voxels per unit time.
        squarings: 7 keeps the error below a hundredth of a voxel for velocities of about ten.
    """
    disp = velocity / 2.0**squarings
    for _ in range(squarings):
        disp = compose(disp, disp)
    return disp


def invert(disp: Field, *, tolerance: float = 1e-3, max_iterations: int = 100) -> Field:
    """Return ``inverse`` with ``compose(disp, inverse)`` close to zero.

    Fixed-point iteration ``inverse(p) = -disp(p + inverse(p))`` (Chen et al. 2008). It converges
    where the displacement changes by less than one voxel per voxel; elsewhere the last iterate
    is returned, and ``compose(disp, inverse)`` shows how far it is off.

    Args:
        disp: Field in voxels.
        tolerance: Stop when no voxel moves by more than this, in voxels.
        max_iterations: Stop here at the latest.
    """
    inverse = -disp
    for _ in range(max_iterations):
        previous = inverse
        inverse = -warp(disp, previous)
        if (inverse - previous).abs().max() < tolerance:
            break
    return inverse
