import os
import subprocess
import sys

import pytest

# The suite's type checks cannot be compiled, so that a process without them is needed.
COMPARISON = """
from copy import deepcopy

import torch
from hydra import compose, initialize_config_dir

from l2reg.config.build import build
from l2reg.config.presets import config_dir
from l2reg.geometry.resize import resize_image
from l2reg.models.compilation import compile_network


def step(net):
    net.zero_grad()
    disp = net(pair).disp
    disp.square().mean().backward()
    return disp.detach(), [p.grad for p in net.parameters() if p.grad is not None]


sizes = [f"model.{size}" for size in ("encoder=[4,4]", "decoder=[4]", "final=[4]")]
with initialize_config_dir(str(config_dir()), version_base="1.3"):
    config = compose("train", ["task=lung", "model=unet", "run_dir=unused", *sizes])
torch.manual_seed(0)
plain = build(config["model"]).train()
for parameter in plain.parameters():
    torch.nn.init.normal_(parameter, std=0.1)
pair = {name: torch.rand(1, 1, 12, 10, 14) for name in ("fixed", "moving")}
pair |= {f"{name}_mask": torch.ones(1, 1, 12, 10, 14) for name in ("fixed", "moving")}
pair["spacing_mm"] = torch.ones(1, 3)
compiled = deepcopy(plain)
compile_network(compiled)
expected, found = step(plain), step(compiled)
assert expected[0].abs().max() > 0.01
torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
assert list(compiled.state_dict()) == list(plain.state_dict())
assert deepcopy(compiled)(pair).disp.shape == expected[0].shape  # as the moving average does
whole = torch.compile(lambda image: resize_image(image, (7, 12, 5)), fullgraph=True,
                      backend="eager")
torch.testing.assert_close(whole(pair["fixed"]), resize_image(pair["fixed"], (7, 12, 5)))
print("graphs:", torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [None, "no-such-compiler"])
def test_a_compiled_network_gives_what_it_gave_even_without_a_compiler(
    compiler: str | None,
) -> None:
    environment = {**os.environ, **({"CXX": compiler} if compiler else {})}
    run = subprocess.run([sys.executable, "-c", COMPARISON], env=environment, text=True,
                         capture_output=True, check=False)  # fmt: skip
    assert run.returncode == 0, run.stderr
    graphs = int(run.stdout.split("graphs:")[1])
    assert graphs > 0
    assert ("no-such-compiler" in run.stderr) == (compiler is not None)
