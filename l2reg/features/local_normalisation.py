"""Local normalisation of feature maps, which makes their squared difference a local correlation."""

from dataclasses import dataclass

from l2reg.geometry.filters import box_mean, box_mean_
from l2reg.shapes import Maps, Mask


@dataclass(frozen=True)
class LocalNormalisation:
    """Feature maps minus their local mean, divided by their local standard deviation.

    Both are taken channel by channel over a cube around the voxel, of the voxels that count.

    Attributes:
        radius: Radius of the cube, in voxels.
        flat: Variance added to that of the cube; a cube of a much smaller variance counts as flat.
    """

    radius: int
    flat: float

    def __post_init__(self) -> None:
        if self.radius < 1:
            raise ValueError(f"radius must be 1 or more, got {self.radius}")

    def __call__(self, maps: Maps, mask: Mask) -> Maps:
        """Return the normalised maps, which are 0 where no voxel of the cube counts.

        Args:
            maps: Feature maps of a scan, of order 1.
            mask: Weights of its voxels, in [0, 1].
        """
        window = 2 * self.radius + 1
        weight = box_mean(mask, window)
        share = (weight > 0) / weight.clamp(min=1e-6)
        mean = box_mean_(maps * mask, window).mul_(share)
        variance = box_mean_(maps.square().mul_(mask), window).mul_(share)
        variance.addcmul_(mean, mean, value=-1).clamp_(min=0)
        return (maps - mean).mul_(weight > 0).div_(variance.add_(self.flat).sqrt_())
