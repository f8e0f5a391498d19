from l2reg.config import build, read_node
from l2reg.models.stages import Staged


def test_lapirn_is_trained_in_stages_and_a_unet_is_not() -> None:
    assert isinstance(build(read_node("model", "lapirn")), Staged)
    assert not isinstance(build(read_node("model", "unet")), Staged)
