import io
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from l2reg.reporting.figures import COLUMNS, LEGEND, determinant_figure, pair_figure
from l2reg.reporting.registered_pair import RegisteredPair

SHAPE = (16, 18, 20)


def pixels(figure: Figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    buffer.seek(0)
    return matplotlib.image.imread(buffer)


@pytest.fixture
def pair(random: np.random.Generator) -> RegisteredPair:
    labels = np.zeros(SHAPE, np.int16)
    labels[4:9, 5:12, 6:13] = 3
    return RegisteredPair(
        fixed=random.random(SHAPE),
        moving=random.random(SHAPE),
        warped=random.random(SHAPE),
        disp=random.normal(0, 0.1, (3, *SHAPE)).astype(np.float32),
        fixed_labels=labels,
        warped_labels=np.roll(labels, 1, axis=1),
        spacing_mm=(1.0, 2.0, 5.0),
    )


def test_a_pair_is_shown_in_three_planes_with_all_columns(pair: RegisteredPair) -> None:
    figure = pair_figure(pair, "0001_0002")
    cells = figure.get_axes()
    assert len(cells) == 3 * len(COLUMNS)
    assert [cell.get_title() for cell in cells[: len(COLUMNS)]] == list(COLUMNS)
    assert pixels(figure).std() > 0.1


def test_the_title_says_what_the_colours_mean_and_the_overlay_bears_it_out(
    pair: RegisteredPair,
) -> None:
    dark = np.zeros_like(pair.fixed)
    figure = pair_figure(replace(pair, fixed=np.ones_like(dark), moving=dark), "0001_0002")
    assert figure.get_suptitle() == f"0001_0002\n{LEGEND}"
    assert "fixed magenta, moving or warped green" in LEGEND
    colours = figure.get_axes()[3].images[0].get_array()
    np.testing.assert_array_equal(colours[0, 0], [1, 0, 1])


def test_every_plane_is_drawn_in_millimetres(pair: RegisteredPair) -> None:
    figure = pair_figure(pair, "x")
    pixels(figure)
    sides_mm = np.array(SHAPE) * pair.spacing_mm
    for number, cell in enumerate(figure.get_axes()):
        across, up = (axis for axis in range(3) if axis != number // len(COLUMNS))
        if number % len(COLUMNS) == 5:  # the deformed grid ends where its lines do
            assert cell.get_aspect() == pair.spacing_mm[up] / pair.spacing_mm[across]
            continue
        drawn = cell.get_window_extent()
        assert drawn.width / drawn.height == pytest.approx(sides_mm[across] / sides_mm[up])


def test_the_overlay_is_grey_where_scans_agree_and_coloured_where_they_do_not(
    pair: RegisteredPair,
) -> None:
    figure = pair_figure(replace(pair, warped=pair.fixed), "x")
    before, after = (figure.get_axes()[column].images[0].get_array() for column in (3, 4))
    assert np.ptp(after, axis=-1).max() == 0
    assert np.ptp(before, axis=-1).max() > 0.5


def test_folds_are_marked_black_and_counted(pair: RegisteredPair) -> None:
    pair.disp[0, 8] = -5.0
    folded = pair_figure(pair, "x").get_axes()[len(COLUMNS) * 2 + 6]
    assert np.isfinite(folded.images[1].get_array()).any()
    (cell,) = determinant_figure(pair.disp).get_axes()
    assert "0.000 % folds" not in cell.get_title()
    (still,) = determinant_figure(np.zeros_like(pair.disp)).get_axes()
    assert still.get_title().startswith("0.000 % folds, from 1.00 to 1.00")


def test_a_moved_grid_line_lies_where_the_field_says(pair: RegisteredPair) -> None:
    pair.disp[:] = np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1)
    cell = pair_figure(pair, "x").get_axes()[5]  # plane of the second and third axis
    first = cell.lines[0]
    np.testing.assert_allclose(first.get_xdata(), np.arange(18) + 2)
    np.testing.assert_allclose(first.get_ydata(), 3)
