"""Pages of the site that are made of other files, and links that lead out of it.

MkDocs calls these functions (``hooks`` in ``mkdocs.yml``). README, CONTRIBUTING, CHANGELOG and
SECURITY become pages, and so does the notebook; links to files that are no page become plain text.
"""

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#:]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in ``docs/``."""
    for name, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    notebook = json.loads((ROOT / "docs/quick_start.ipynb").read_text(encoding="utf-8"))
    files.append(File.generated(config, "quick_start.md", content=notebook_text(notebook)))
    return files


def notebook_text(notebook: dict[str, Any]) -> str:
    """Return a notebook as Markdown."""
    parts = ["<!-- docs/quick_start.ipynb -->"]
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(parts) + "\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead links to the pages of the site, and make text of those that lead elsewhere."""
    own = page.file.src_uri
    place = PAGES.get(own, f"docs/{own}")  # in the repository

    def link(match: re.Match[str]) -> str:
        words, target, anchor = match.group(1), match.group(2), match.group(3) or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        found = next((name for name, source in PAGES.items() if source == path), None)
        if found is None and path.startswith("docs/") and files.get_file_from_path(path[5:]):
            found = path[5:]
        if found is None or found.endswith(".ipynb"):
            return words
        return f"[{words}]({posixpath.relpath(found, posixpath.dirname(own) or '.')}{anchor})"

    return _LINK.sub(link, markdown)
