import sys
from collections.abc import Iterator

import pytest
import torch

from l2reg.problems import InputError
from l2reg.runtime import (
    PRECISIONS,
    autocast,
    configure_convolutions,
    configure_malloc,
    select_device,
)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_glibc_accepts_the_settings_and_memory_still_works() -> None:
    assert configure_malloc()
    assert torch.ones(64, 1024, 1024).sum() == 2**26


def test_auto_is_the_gpu_or_the_cpu_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    device = select_device("auto")
    said = capsys.readouterr().out
    assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert ("no CUDA device" in said) is (device.type == "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "meta"])
def test_a_device_that_cannot_be_used_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"device={name}: cannot be used"):
        select_device(name)


def test_autocast_is_bfloat16_or_off() -> None:
    a = torch.ones(4, 4)
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(torch.device("cpu"), precision):
            assert (a @ a).dtype == dtype


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="float32, tf32, bf16"):
        autocast(torch.device("cpu"), "fp16")


@pytest.fixture
def restore_convolutions() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before


@pytest.mark.usefixtures("restore_convolutions")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_tf32_lets_convolutions_round_their_factors(precision: str) -> None:
    configure_convolutions(precision, repeated=True)
    assert torch.backends.cudnn.allow_tf32 is (precision == "tf32")
    assert torch.backends.cudnn.benchmark
    configure_convolutions(precision, repeated=False)
    assert not torch.backends.cudnn.benchmark
