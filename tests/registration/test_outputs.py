import json
from pathlib import Path

import torch

from l2reg.registration.outputs import draw_picture, registered_pair, write_report


def test_a_report_is_strict_json_of_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "registration.json"
    write_report(path, {"file": Path("a/b.nii.gz"), "matrix": torch.eye(3, 4), "flags": ("x",)})
    assert json.loads(path.read_text()) == {
        "file": "a/b.nii.gz",
        "matrix": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],
        "flags": ["x"],
    }


def test_a_picture_is_drawn_of_a_moving_scan_of_the_full_grid(
    tmp_path: Path, rng: torch.Generator
) -> None:
    shape = (12, 14, 10)
    batch = {name: torch.rand(1, 1, *shape, generator=rng) for name in ("fixed", "moving")}
    batch["spacing_mm"] = torch.tensor([[2.0, 1.5, 3.0]])
    warped = torch.rand(1, 1, 24, 28, 20, generator=rng)
    pair = registered_pair(batch, torch.zeros(1, 3, *shape), warped)
    draw_picture(tmp_path / "picture.png", pair, "two scans")
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"
