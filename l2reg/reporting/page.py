"""HTML pages that stand alone: style and script are inside, and nothing else may run."""

import base64
import hashlib
import html
import io
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

from matplotlib.figure import Figure

from l2reg.io.files import atomic_write
from l2reg.version import __version__

_SCRIPTS = ("viewer_volumes.js", "viewer.js")
_PACKAGES = ("torch", "numpy")
_DPI = 70


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write a page.

    A browser runs the script of the viewer, which is known by its hash, and no other.

    Args:
        path: Path of the HTML file.
        title: Title, plain text.
        parts: HTML of the body, in which all that came from files is escaped.
    """
    style, script = _file("page.css"), "".join(_file(name) for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    policy += f"script-src 'sha256-{digest}'"
    head = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{style}</style></head><body>"
    )
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        file.write(head)
        file.writelines(parts)
        file.write(f"<script>{script}</script></body></html>")


@cache
def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def provenance(**details: str) -> dict[str, str]:
    """Return how a result was made: details in words, then versions and the date.

    Args:
        details: What to say besides, such as ``command`` or ``model``; empty ones are left out.
    """
    versions = [f"l2reg {__version__}", f"Python {platform.python_version()}"]
    versions += [f"{name} {version(name)}" for name in _PACKAGES]
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    given = {name: text for name, text in details.items() if text}
    return {**given, "versions": ", ".join(versions), "date": now}


def provenance_html(made: Mapping[str, str]) -> str:
    """Return a section on how a result was made."""
    rows = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in made.items()
    )
    return f"<h2>How it was made</h2><dl>{rows}</dl>"


def table_html(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of plain text."""
    cells = "".join(f"<th>{html.escape(word)}</th>" for word in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<div class='table'><table><tr>{cells}</tr>{lines}</table></div>"


def text_html(text: str) -> str:
    """Return plain text in letters of one width."""
    return f"<pre>{html.escape(text)}</pre>"


def flags_html(flags: Sequence[str]) -> str:
    """Return warnings as a list, or a sentence that there is none."""
    if not flags:
        return "<p class='good'>Nothing suggests that the result is wrong.</p>"
    return f"<ul class='flags'>{''.join(f'<li>{html.escape(flag)}</li>' for flag in flags)}</ul>"


def chart_html(figure: Figure, words: str) -> str:
    """Return a picture.

    Args:
        figure: The figure.
        words: What it shows, for those who do not see it.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    alt = html.escape(words, quote=True)
    return f"<img class='chart' alt='{alt}' src='data:image/png;base64,{data}'>"
