import math

import torch

from harness.training.evaluate import metrics


def test_metrics_by_hand():
    """Four images, three classes; probabilities are chosen, logits are their logarithms."""
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    label = torch.tensor([0, 1, 1, 2])
    out = metrics(p.log(), label)

    assert out["accuracy"] == 0.75
    assert out["top5"] == 1.0
    assert math.isclose(out["nll"], -(math.log(0.7) + math.log(0.8) + math.log(0.3) + math.log(0.6)) / 4, rel_tol=1e-6)
    brier = (0.09 + 0.04 + 0.01) + (0.01 + 0.04 + 0.01) + (0.36 + 0.49 + 0.01) + (0.04 + 0.04 + 0.16)
    assert math.isclose(out["brier"], brier / 4, rel_tol=1e-5)


def test_calibration_error_is_zero_for_right_and_certain_and_the_gap_otherwise():
    certain = torch.tensor([[50.0, 0.0], [0.0, 50.0]])

    assert metrics(certain, torch.tensor([0, 1]))["ece"] < 1e-9
    assert abs(metrics(certain, torch.tensor([1, 0]))["ece"] - 1.0) < 1e-9
    half = torch.tensor([[0.6, 0.4]] * 4).log()
    assert abs(metrics(half, torch.tensor([0, 0, 1, 1]))["ece"] - 0.1) < 1e-6


def test_top5_counts_five_of_many():
    logits = torch.arange(10.0).repeat(3, 1)

    assert metrics(logits, torch.tensor([9, 5, 4]))["top5"] == 2 / 3
