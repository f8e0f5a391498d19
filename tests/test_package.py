"""What ``import l2reg`` loads and offers, seen from a process of its own."""

import subprocess
import sys

import pytest

import l2reg
from l2reg.registration.register import register


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'scipy', 'matplotlib', 'monai', 'nibabel'}"
    assert run(f"import l2reg, sys; print(sorted({heavy} & set(sys.modules)))") == "[]"


def test_importing_the_package_takes_under_half_a_second() -> None:
    code = (
        "import time; begin = time.process_time(); import l2reg; l2reg.__version__; dir(l2reg)\n"
        "print(time.process_time() - begin)"
    )
    assert float(run(code)) < 0.5


def test_register_is_imported_when_it_is_first_used() -> None:
    """What compiles networks takes a second more, and is left out."""
    heavy = ["torch", "torch._dynamo"]
    code = (
        f"import l2reg, sys; print(l2reg.register.__module__, *[n in sys.modules for n in {heavy}])"
    )
    assert run(code) == "l2reg.registration.register True False"
    assert l2reg.register is register


def test_what_the_package_offers_exists() -> None:
    names = ["Registration", "ScanFiles", "__version__", "evaluate", "read", "register"]
    assert l2reg.__all__ == names
    assert set(names) <= set(dir(l2reg))
    for name in names:
        assert getattr(l2reg, name)


def test_other_attributes_do_not_exist() -> None:
    assert not hasattr(l2reg, "nothing")
    with pytest.raises(AttributeError, match="module 'l2reg' has no attribute 'regsiter'"):
        l2reg.regsiter  # noqa: B018
