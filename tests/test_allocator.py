import sys

import pytest
import torch

from l2reg.allocator import keep_freed_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_glibc_listens_and_memory_still_works() -> None:
    assert keep_freed_memory()
    assert torch.ones(64, 1024, 1024).sum() == 2**26
