"""The version, which stands in one place."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import l2reg

ROOT = Path(__file__).parents[1]


def test_the_version_is_that_of_the_package() -> None:
    assert l2reg.__version__ == version("l2reg")


def test_a_checkout_that_is_not_installed_has_a_version() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import l2reg; print(l2reg.__version__)"
    without_site = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(without_site, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == l2reg.__version__
