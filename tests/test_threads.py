"""What importing l2reg sets, seen from a process of its own."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("before", "after"), [(None, "1000"), ("7", "7")])
def test_waiting_threads_spin_briefly_unless_the_user_says_otherwise(
    before: str | None, after: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    if before is not None:
        environment["GOMP_SPINCOUNT"] = before
    done = subprocess.run(
        [sys.executable, "-c", "import l2reg, os; print(os.environ['GOMP_SPINCOUNT'])"],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert done.stdout.strip() == after
