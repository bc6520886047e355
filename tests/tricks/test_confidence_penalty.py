import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.regularization.confidence_penalty import ConfidencePenalty, entropy


class TestConfidencePenalty(TrickConformance):
    trick = ConfidencePenalty


def test_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])
    mean = (math.log(2.0) + 0.75 * math.log(4 / 3) + 0.25 * math.log(4.0)) / 2
    assert float(entropy(logits)) == pytest.approx(mean)
    terms = ConfidencePenalty(beta=0.5).loss_terms(tiny_batch(2), logits, tiny_run())
    assert float(terms["confidence"]) == pytest.approx(-0.5 * mean)


def test_a_step_along_it_flattens_the_prediction():
    logits = torch.tensor([[3.0, 0.0, -1.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(-entropy(logits), logits)
    assert entropy(logits - 0.1 * slope) > entropy(logits)
