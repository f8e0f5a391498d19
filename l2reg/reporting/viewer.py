"""Viewer: a registered pair as a section of an HTML page, with planes to scroll through."""

import html
import json
from pathlib import Path

from l2reg.reporting.figures import determinant_figure
from l2reg.reporting.page import chart_html
from l2reg.reporting.registered_pair import RegisteredPair
from l2reg.reporting.viewer_data import MAX_LABELS, RANGE, ViewerData, viewer_data

_MODES = {
    "slider": "fixed | warped, divided",
    "checks": "fixed and warped, checkerboard",
    "overlay": "fixed magenta, warped green",
    "before": "fixed magenta, moving green",
    "fixed": "fixed",
    "moving": "moving, before registration",
    "warped": "warped",
    "volume": "change of volume",
}
_SECTION = "<details class='pair'"
_OVERLAYS = {"labels": "outlines", "landmarks": "landmarks", "grid": "deformed grid"}


def viewer_html(pair: RegisteredPair, heading: str, *, opened: bool) -> str:
    """Return a section that shows a pair.

    Args:
        pair: The pair.
        heading: Heading of the section, plain text.
        opened: Whether the section is unfolded from the beginning.
    """
    data = viewer_data(pair)
    shown = "".join(_plane(plane["name"]) for plane in data.view["planes"])
    histogram = chart_html(determinant_figure(pair.disp), "Histogram of the Jacobian determinant")
    view = html.escape(json.dumps(data.view, separators=(",", ":")), quote=True)
    layers = "".join(
        f"<img class='layer' data-layer='{name}' alt='' hidden src='{address}'>"
        for name, address in data.layers.items()
    )
    return (
        f"{_SECTION}{' open' if opened else ''}>"
        f"<summary><h3>{html.escape(heading)}</h3></summary>"
        f"<div class='viewer' data-view='{view}'>{layers}{_controls(data)}"
        f"<div class='planes'>{shown}</div>"
        f"<p><output></output></p>{_key(data)}{histogram}"
        "<noscript><p class='flags'>The slices are drawn by a script of this page, which the "
        "browser does not run.</p></noscript></div></details>"
    )


def read_viewer(page: Path, *, opened: bool) -> str:
    """Return the first section of a page that shows a pair.

    Args:
        page: A page that ``write_page`` wrote.
        opened: Whether the section is unfolded from the beginning.
    """
    _, _, rest = page.read_text(encoding="utf-8").partition(_SECTION)
    _, _, content = rest.partition(">")
    section, end, _ = content.partition("</details>")
    return f"{_SECTION}{' open' if opened else ''}>{section}{end}"


def _controls(data: ViewerData) -> str:
    modes = "".join(f"<option value='{value}'>{words}</option>" for value, words in _MODES.items())
    parts = [
        f"<label>show <select class='mode'>{modes}</select></label>",
        "<label>divide at <input class='divide' type='range' min='0' max='100' value='50'></label>",
    ]
    present = {
        "labels": "fixed_labels" in data.layers,
        "landmarks": bool(data.view["landmarks"]),
        "grid": True,
    }
    parts += [
        f"<label><input type='checkbox' data-overlay='{name}'"
        f"{'' if name == 'grid' else ' checked'}>{words}</label>"
        for name, words in _OVERLAYS.items()
        if present[name]
    ]
    if data.folds:
        parts.append("<button type='button' class='next-fold'>next fold</button>")
    if data.view["landmarks"]:
        parts.append("<button type='button' class='next-landmark'>worst landmark, next</button>")
    return f"<div class='controls'>{''.join(parts)}</div>"


def _plane(name: str) -> str:
    return (
        "<figure class='plane'><canvas role='img' tabindex='0'></canvas><figcaption><label>"
        f"{name} <input type='range' min='0'> <span class='slice'></span></label></figcaption>"
        "</figure>"
    )


def _key(data: ViewerData) -> str:
    lines = [
        f"Change of volume: {2**-RANGE:.1f} <span class='bar' role='img' aria-label='from blue, "
        f"shrinks, over white, kept, to red, grows'></span> {2**RANGE:.1f}; "
        "<span class='fold'></span> fold"
    ]
    if "fixed_labels" in data.layers:
        lines.append("Outlines: fixed yellow, warped cyan.")
    if data.n_labels > MAX_LABELS:
        lines.append(f"Only the first {MAX_LABELS} of {data.n_labels} labels are outlined.")
    if data.view["landmarks"]:
        lines.append(
            "Landmarks of the slice and its neighbours: dot at the fixed landmark, line to where "
            "the moving one would lie, error in mm where there is room, larger ones first; a click "
            "on any other tells its error."
        )
    if data.view["planes"][0]["ends"][0]:
        lines.append("Letters at the edges are those of the fixed scan's header.")
    lines.append("Arrow keys, or the wheel after a click, scroll through slices.")
    return f"<p class='key'>{'<br>'.join(lines)}</p>"
