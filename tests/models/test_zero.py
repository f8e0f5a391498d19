import torch

from l2reg.models.prediction import Prediction
from l2reg.models.zero import Zero


def test_zero_moves_nothing_and_learns_nothing() -> None:
    model = Zero("half")
    pair = {"fixed": torch.rand(2, 1, 4, 5, 6), "moving": torch.rand(2, 1, 4, 5, 6)}
    prediction = model(pair)
    assert isinstance(prediction, Prediction)
    assert prediction.disp.shape == (2, 3, 4, 5, 6)
    assert (prediction.disp == 0).all()
    assert list(model.parameters()) == []
