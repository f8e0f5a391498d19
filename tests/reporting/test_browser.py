"""The report in Chromium: its script runs, and draws on a phone and a screen, in light and dark."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from l2reg.reporting.page import write_page
from l2reg.reporting.registered_pair import Landmarks, RegisteredPair
from l2reg.reporting.viewer import viewer_html

pytestmark = pytest.mark.browser
YELLOW, CYAN, ORANGE = (255, 212, 0), (0, 213, 255), (255, 157, 46)


@pytest.fixture
def browser(tmp_path: Path) -> Callable[..., str]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium: apt-get install chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000",
             "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}"]  # fmt: skip

    def run(*options: str) -> str:
        command = [program, *flags, *options, (tmp_path / "a.html").as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        return done.stdout

    return run


@pytest.fixture
def page(tmp_path: Path, shown: Callable[..., RegisteredPair]) -> Path:
    smooth = np.linspace(0, 1, 12 * 10 * 14).reshape(12, 10, 14).astype(np.float32)
    parts = [viewer_html(shown(fixed=smooth), "a", opened=True)]
    parts += [viewer_html(shown(), "b", opened=False)]
    parts.append("<script>document.title = 'run'</script><img src=x onerror='document.title=1'>")
    write_page(tmp_path / "a.html", "page", parts)
    return tmp_path / "a.html"


def test_the_planes_are_described_and_no_other_script_runs(
    page: Path, browser: Callable[..., str]
) -> None:
    found = browser("--dump-dom")
    assert found.count('data-ready="true"') == 1  # of the pair that is unfolded
    labels = re.findall(r'aria-label="(\w+) slice (\d+) of (\d+): fixed \| warped, divided"', found)
    assert labels == [("axial", "8", "14"), ("coronal", "6", "10"), ("sagittal", "7", "12")]
    assert "At the cross: " in found
    assert "fixed: liver &lt;b&gt;" in found
    assert "<title>page</title>" in found


@pytest.mark.parametrize("width", [1280, 420])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_planes_are_drawn(
    page: Path, browser: Callable[..., str], tmp_path: Path, width: int, theme: str
) -> None:
    scheme = 0 if theme == "dark" else 1
    browser(f"--window-size={width},2400", f"--screenshot={tmp_path / 'a.png'}",
            f"--blink-settings=preferredColorScheme={scheme}")  # fmt: skip
    pixels = (255 * image.imread(tmp_path / "a.png")[..., :3]).round().astype(int)
    assert pixels.shape[1] == width
    assert (pixels[1, 1].mean() < 60) == (theme == "dark")
    for colour in (YELLOW, CYAN, ORANGE):
        assert (np.abs(pixels - colour).max(axis=-1) < 40).sum() > 20


@pytest.mark.parametrize(
    ("orientation", "corners"),
    [("RAS", ["left top", "left top", "left top"]),
     ("LPS", ["right bottom", "right top", "right top"])],
)  # fmt: skip
def test_a_corner_of_the_body_is_drawn_where_radiologists_expect_it(
    browser: Callable[..., str], tmp_path: Path, shown: Callable[..., RegisteredPair],
    orientation: str, corners: list[str],
) -> None:  # fmt: skip
    fixed = np.zeros((12, 10, 14), np.float32)
    fixed[6:, 5:, 7:] = 1
    none = np.zeros(fixed.shape, np.int16)
    pair = shown(fixed=fixed, orientation=orientation, landmarks=None,
                 fixed_labels=none, warped_labels=none)  # fmt: skip
    section = viewer_html(pair, "a", opened=True)
    section = section.replace("<option value='fixed'>", "<option value='fixed' selected>")
    write_page(tmp_path / "a.html", "a", [section])
    copies = """<script>setTimeout(() => document.querySelectorAll("canvas").forEach(
        (canvas) => canvas.setAttribute("data-png", canvas.toDataURL())), 2000)</script>"""
    page = (tmp_path / "a.html").read_text()
    page = re.sub(r"<meta http-equiv=[^>]*>", "", page) + copies
    (tmp_path / "a.html").write_text(page)
    found = re.findall(r'data-png="data:image/png;base64,([^"]*)"', browser("--dump-dom"))
    for content, corner in zip(found, corners, strict=True):
        grey = image.imread(io.BytesIO(base64.b64decode(content)))[..., 1]
        half = [size // 2 for size in grey.shape]
        for vertical, rows in (("top", slice(half[0])), ("bottom", slice(half[0], None))):
            for side, columns in (("left", slice(half[1])), ("right", slice(half[1], None))):
                bright = float(np.median(grey[rows, columns])) > 0.5
                assert bright == (f"{side} {vertical}" == corner)


def test_numbers_of_landmarks_that_lie_close_do_not_cover_each_other(
    browser: Callable[..., str], tmp_path: Path, shown: Callable[..., RegisteredPair]
) -> None:
    places = np.array([[3.0, 2, 7], [3.2, 2.1, 7.3], [2.9, 2.2, 7], [9, 8, 7.0], [6, 5, 1]])
    marks = Landmarks(places, np.zeros((5, 3)), np.array([1.1, 2.2, 9.9, 0.4, 5.5]))
    none = np.zeros((12, 10, 14), np.int16)
    pair = shown(landmarks=marks, fixed_labels=none, warped_labels=none)
    write_page(tmp_path / "a.html", "a", [viewer_html(pair, "a", opened=True)])
    record = """<script>const written = {}, write = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
          const name = this.canvas.getAttribute("aria-label").split(" ")[0];
          (written[name] ??= []).push(text); write.call(this, text, ...place); };
        setTimeout(() => { document.body.dataset.written = JSON.stringify(written) }, 2000)
        </script>"""
    page = (tmp_path / "a.html").read_text()
    page = re.sub(r"<meta http-equiv=[^>]*>", "", page).replace("<body>", f"<body>{record}")
    (tmp_path / "a.html").write_text(page)
    (written,) = re.findall(r'data-written="([^"]*)"', browser("--dump-dom"))
    texts = json.loads(html.unescape(written))["axial"]
    numbers = [text for text in texts if "." in text]
    assert set(numbers) == {"9.9", "0.4"}
    assert numbers[0] == "9.9"  # of the close ones the worst; that of another slice is not drawn
