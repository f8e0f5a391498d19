"""Inverse of a displacement field at any positions, found point by point."""

import torch
from jaxtyping import Float64
from torch import Tensor

from l2reg.geometry.warp import from_torch_grid, sample_in_torch_units, to_torch_grid

Positions = Float64[Tensor, "3 n"]  # one a column

_CHUNK = 2**15  # positions whose temporaries stay in the cache of a CPU
_SHRINK = 0.8  # of the positions of a chunk; when fewer are left, the others are put aside
_N_PLAIN = 3  # iterations before the secant pays
_TINY = 1e-30


class PointInverse:
    """Solves ``p + disp(p) = q`` for each of many positions ``q``.

    The iteration ``p <- p - step * error`` of Chen et al. 2008, accelerated by the secant through
    the last two iterates (Anderson 1965, with a memory of one). Where the error would grow, the
    step is halved and the secant forgotten: where the field folds there is no inverse, and the best
    position that was found is returned.

    Args:
        disp: Field in voxels; beyond its grid it has the value of the nearest edge.
        to_mm: Map from voxels to mm, without translation, by which errors are measured.
        tolerance_mm: Error that is small enough.
        max_iterations: Largest number of iterations.
    """

    def __init__(
        self,
        disp: Float64[Tensor, "1 3 i j k"],
        to_mm: Float64[Tensor, "3 3"],
        tolerance_mm: float,
        max_iterations: int,
    ) -> None:
        # Everything is computed in the positions of torch, so that no sampling converts any
        self.shape = tuple(disp.shape[2:])
        self.volume = (to_torch_grid(disp, self.shape) + 1).movedim(-1, 1).contiguous()
        corners = torch.cat([disp.new_zeros(1, 3), torch.eye(3, dtype=disp.dtype)])
        steps = self._to_voxels(corners.T)
        self.to_mm = to_mm @ (steps[:, 1:] - steps[:, :1])
        self.tolerance_mm = tolerance_mm
        self.max_iterations = max_iterations

    def __call__(self, targets: Positions) -> Positions:
        """Return the positions that the field moves to ``targets``, in voxels."""
        found = torch.empty_like(targets)
        for start in range(0, targets.shape[1], _CHUNK):
            chunk = slice(start, start + _CHUNK)
            coords = targets[:, chunk].reshape(1, 3, -1, 1, 1)
            target = to_torch_grid(coords, self.shape)[0, :, 0, 0].T.contiguous()
            found[:, chunk] = self._to_voxels(self._solve(target))
        return found

    def _to_voxels(self, positions: Positions) -> Positions:
        grid = positions.T[None, :, None, None]
        return from_torch_grid(grid, self.shape)[0, :, :, 0, 0]

    def _error(self, position: Positions, target: Positions) -> Positions:
        return sample_in_torch_units(self.volume, position).add_(position).sub_(target)

    def _square_mm(self, error: Positions) -> Float64[Tensor, " n"]:
        return (self.to_mm @ error).square_().sum(dim=0)

    def _solve(self, target: Positions) -> Positions:
        position = target - sample_in_torch_units(self.volume, target)
        error = self._error(position, target)
        square = self._square_mm(error)
        step = torch.ones_like(position[:1])
        last_move: Positions | None = None
        last_change: Positions | None = None
        result, left = position.clone(), torch.arange(target.shape[1])
        for iteration in range(self.max_iterations):
            active = square > self.tolerance_mm**2
            if not bool(active.any()):
                break
            if active.sum() < _SHRINK * len(active):
                result[:, left] = position
                kept = active.nonzero()[:, 0]
                left, square = left[kept], square[kept]
                position, error, target, step = (
                    each[:, kept] for each in (position, error, target, step)
                )
                if last_move is not None and last_change is not None:
                    last_move, last_change = last_move[:, kept], last_change[:, kept]
            move = step * -error
            if last_move is not None and last_change is not None:
                share = (error * last_change).sum(0) / (last_change.square().sum(0) + _TINY)
                move += share * (step * last_change - last_move)
            candidate = position + move
            candidate_error = self._error(candidate, target)
            candidate_square = self._square_mm(candidate_error)
            better = candidate_square < square
            if not bool(better.all()):
                step = torch.where(better, step, step / 2)
                move = torch.where(better, move, 0.0)
                candidate = torch.where(better, candidate, position)
                candidate_error = torch.where(better, candidate_error, error)
                candidate_square = torch.minimum(candidate_square, square)
            if iteration >= _N_PLAIN:
                last_move, last_change = move, candidate_error - error
            position, error, square = candidate, candidate_error, candidate_square
        result[:, left] = position
        return result
