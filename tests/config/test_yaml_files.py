from pathlib import Path

import pytest

from l2reg.config.yaml_files import load_yaml


def test_yaml_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("# @package _global_\na: [1, {b: null}]\nc: 1.5\n")
    assert load_yaml(path) == {"a": [1, {"b": None}], "c": 1.5}


@pytest.mark.parametrize(
    "content",
    [b"a: &a [x]\nb: [*a, *a]\n", b"a: &a [*a]\n", b"[" * 5000, b"a: 1\na: 2\n", b"a: \xff\n",
     b"x:\n - {b: 1, b: 2}\n", b"!!python/object/apply:os.mkdir [owned]\n", b"# @p\na: 1\n",
     b"a: [1\n"],
)  # fmt: skip
def test_what_is_wrong_with_yaml_is_one_kind_of_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        load_yaml(path)
    assert not Path("owned").exists()
