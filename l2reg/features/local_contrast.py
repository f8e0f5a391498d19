"""Local contrast: intensities normalised by their local mean and standard deviation."""

from dataclasses import dataclass

from l2reg.geometry.filters import box_mean
from l2reg.shapes import Image, Maps


@dataclass(frozen=True)
class LocalContrast:
    """Intensities minus their local mean, divided by their local standard deviation.

    Local gain and offset have no influence. The mean squared difference of two such maps is twice
    one minus the local correlation, so that least squares optimise the local NCC.

    Attributes:
        radius: Radius of the cube around a voxel, in voxels.
        flat: Variance added to that of the cube; a cube of a much smaller variance counts as flat.
    """

    radius: int
    flat: float

    def __post_init__(self) -> None:
        if self.radius < 1:
            raise ValueError(f"radius must be 1 or more, got {self.radius}")

    @property
    def reach(self) -> int:
        """Distance in voxels up to which the features of a voxel depend on others."""
        return self.radius

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return the local contrast of both images, one channel each."""
        return self._normalise(fixed), self._normalise(moving)

    def _normalise(self, image: Image) -> Image:
        window = 2 * self.radius + 1
        exact = image.double()  # the squares of a large offset lose all digits in float32
        mean = box_mean(exact, window)
        variance = box_mean(exact.square(), window).addcmul_(mean, mean, value=-1)
        deviation = variance.clamp_(min=0).add_(self.flat).sqrt_()
        return (exact - mean).div_(deviation).to(image.dtype)
