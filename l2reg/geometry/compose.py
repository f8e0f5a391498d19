"""Composition, integration (scaling and squaring) and inversion of displacement fields."""

from l2reg.geometry.warp import warp
from l2reg.shapes import Field


def compose(outer: Field, inner: Field) -> Field:
    """Return the field of ``p -> q + outer(q)`` with ``q = p + inner(p)``: ``inner`` acts first.

    Outside its grid ``outer`` has the value of the nearest edge voxel.
    """
    return inner + warp(outer, inner)


def integrate(velocity: Field, *, squarings: int) -> Field:
    """Return the displacement field of a stationary velocity field after unit time.

    Scaling and squaring (Arsigny et al. 2006): the velocity is halved ``squarings`` times, and the
    small field is composed with itself as many times. ``integrate(-velocity)`` is the inverse.

    Args:
        velocity: Velocity field, in voxels per unit time.
        squarings: Number of squarings; 7 keep the error below a hundredth of a voxel for velocities
            of about ten.
    """
    disp = velocity / 2.0**squarings
    for _ in range(squarings):
        disp = compose(disp, disp)
    return disp


def invert(disp: Field, *, tolerance: float = 1e-3, max_iterations: int = 100) -> Field:
    """Return ``inverse`` with ``compose(disp, inverse)`` close to zero.

    Fixed-point iteration ``inverse(p) = -disp(p + inverse(p))`` (Chen et al. 2008). It converges
    where the displacement changes by less than one voxel per voxel. Elsewhere the last iterate is
    returned, and ``compose(disp, inverse)`` is its error.

    Args:
        disp: Field in voxels.
        tolerance: Change of every component, in voxels, below which the iteration stops.
        max_iterations: Largest number of iterations.
    """
    inverse = -disp
    for _ in range(max_iterations):
        previous = inverse
        inverse = -warp(disp, previous)
        if (inverse - previous).abs().max() < tolerance:
            break
    return inverse
