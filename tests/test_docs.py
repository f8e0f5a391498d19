"""The documentation: its links, its pages and the site that is built of them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TEXTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "docker/README.md"]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file(path: Path) -> None:
    made = {"docs/contributing.md", "docs/quick_start.md"}  # from other files, by site_pages.py
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        place = (path.parent / target).resolve()
        assert place.exists() or str(place.relative_to(ROOT)) in made, target


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = [page for section in nav for pages in section.values() for page in pages]
    names = {name for page in listed for name in page.values()}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= names
    assert len(names) == len(listed)


def test_the_citation_names_the_version() -> None:
    version = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    assert f'__version__ = "{version}"' in (ROOT / "l2reg/version.py").read_text()


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="make docs installs it")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "register(" in re.sub("<[^>]+>", "", (tmp_path / "api.html").read_text())
    assert "(../" not in (tmp_path / "index.html").read_text()
