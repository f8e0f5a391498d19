import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from l2reg.features import mind
from l2reg.features.mind import EDGES, NEIGHBOURS, Mind, mind_ssc

SHAPE = (13, 14, 15)


def test_twelve_pairs_of_neighbours_none_of_them_opposite() -> None:
    assert len(EDGES) == 12
    for a, b in EDGES:
        assert NEIGHBOURS[a] != tuple(-x for x in NEIGHBOURS[b])


@pytest.mark.parametrize(("radius", "dilation"), [(1, 1), (1, 2), (2, 2)])
def test_a_naive_loop_agrees(radius: int, dilation: int, rng: torch.Generator) -> None:
    image = torch.rand(1, 1, *SHAPE, generator=rng)
    fast = mind_ssc(image, radius=radius, dilation=dilation)[0].numpy()
    padded = np.pad(image[0, 0].numpy().astype(np.float64), dilation, mode="edge")

    def at(offset: tuple[int, ...]) -> np.ndarray:
        i, j, k = (slice(dilation * (1 + o), dilation * (1 + o) + n) for o, n in
                   zip(offset, SHAPE, strict=True))  # fmt: skip
        return padded[i, j, k]

    distance = np.stack([
        uniform_filter((at(NEIGHBOURS[a]) - at(NEIGHBOURS[b])) ** 2, 2 * radius + 1)
        for a, b in EDGES
    ])  # fmt: skip
    distance -= distance.min(axis=0)
    expected = np.exp(-distance / (distance.mean(axis=0) + 1e-6))
    inner = (slice(None), *[slice(radius + 1, -radius - 1)] * 3)
    np.testing.assert_allclose(fast[inner], expected[inner], atol=1e-4)


def test_gradients_are_those_of_finite_differences(
    rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mind, "_SLAB_VALUES", 100)
    image = torch.rand(1, 1, 3, 4, 2, generator=rng, dtype=torch.float64)
    image[..., 0, 0, 0], image[..., 2, 3, 1] = 0, 1  # the range is no variable
    inner = image[..., 1:3, :].clone().requires_grad_()

    def descriptors(part: torch.Tensor) -> torch.Tensor:
        whole = torch.cat([image[..., :1, :], part, image[..., 3:, :]], dim=3)
        return mind_ssc(whole, radius=1, dilation=1)

    assert torch.autograd.gradcheck(descriptors, (inner,))


@pytest.mark.parametrize("radius", [1, 2])
def test_float32_and_autocast_keep_value_and_gradient_of_float64(
    radius: int, rng: torch.Generator
) -> None:
    image = torch.rand(2, 1, *SHAPE, generator=rng)
    image[..., :5] = 0  # background
    results = []
    for dtype in (torch.float64, torch.float32):
        copy = image.to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            descriptors = mind_ssc(copy, radius=radius, dilation=2)
        (gradient,) = torch.autograd.grad(descriptors.square().sum(), copy)
        assert torch.equal(descriptors, mind_ssc(image.to(dtype), radius=radius, dilation=2))
        results.append((descriptors.double(), gradient.double()))
    torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-4)


def test_descriptors_lie_between_0_and_1_and_one_of_them_is_1(rng: torch.Generator) -> None:
    descriptors = mind_ssc(torch.rand(1, 1, *SHAPE, generator=rng), radius=1, dilation=2)
    assert descriptors.shape == (1, 12, *SHAPE)
    assert descriptors.min() > 0
    torch.testing.assert_close(descriptors.amax(dim=1), torch.ones(1, *SHAPE))


@pytest.mark.parametrize(
    ("gain", "offset"), [(3.0, -7.0), (-2.0, 1.0), (1e-4, 0.0), (1e4, 0.0), (2.0, -1000.0)]
)
def test_gain_offset_and_inversion_change_nothing(
    gain: float, offset: float, rng: torch.Generator
) -> None:
    image = torch.rand(1, 1, *SHAPE, generator=rng)
    image[..., :7] *= 0.01  # faint structure, near the floor
    a, b = (mind_ssc(v, radius=1, dilation=2) for v in (image, gain * image + offset))
    torch.testing.assert_close(a, b, atol=2e-3, rtol=0)


def test_the_scale_of_one_pair_does_not_touch_another(rng: torch.Generator) -> None:
    images = torch.rand(2, 1, *SHAPE, generator=rng)
    images[1] *= 1000
    together = mind_ssc(images, radius=1, dilation=2)
    for n in (0, 1):
        alone = mind_ssc(images[n : n + 1], radius=1, dilation=2)
        torch.testing.assert_close(together[n : n + 1], alone)


def test_differences_of_a_millionth_of_the_range_are_no_structure(rng: torch.Generator) -> None:
    image = 1e-6 * torch.rand(1, 1, *SHAPE, generator=rng)
    image[..., -1] = 1
    for gain in (1.0, 500.0):
        descriptors = mind_ssc(gain * image, radius=1, dilation=2)
        assert descriptors[..., :-5].min() > 0.99


def test_rounding_of_a_constant_image_is_no_structure(rng: torch.Generator) -> None:
    digits = torch.randint(-1, 2, (1, 1, *SHAPE), generator=rng)
    image = 1000.3 * (1 + torch.finfo(torch.float32).eps * digits)
    assert image.max() > image.min()
    assert mind_ssc(image, radius=1, dilation=2).min() > 0.9


@pytest.mark.parametrize("value", [0.0, 0.5, -1000.0])
def test_a_constant_image_has_descriptors_of_1_and_no_gradient(value: float) -> None:
    image = torch.full((1, 1, *SHAPE), value, requires_grad=True)
    descriptors = mind_ssc(image, radius=1, dilation=2)
    descriptors.sum().backward()
    assert (descriptors == 1).all()
    assert image.grad is not None
    assert (image.grad == 0).all()


@pytest.mark.parametrize(("radius", "dilation"), [(0, 2), (1, 0)])
def test_impossible_patches_are_refused(radius: int, dilation: int) -> None:
    with pytest.raises(ValueError, match=f"1 or more, got {radius}, {dilation}"):
        Mind(radius, dilation)


def test_features_of_a_pair_are_the_descriptors_of_either_scan(rng: torch.Generator) -> None:
    fixed, moving = (torch.rand(2, 1, *SHAPE, generator=rng) for _ in range(2))
    maps = Mind(radius=1, dilation=2)(fixed, moving)
    for image, features in zip((fixed, moving), maps, strict=True):
        assert torch.equal(features, mind_ssc(image, radius=1, dilation=2))
