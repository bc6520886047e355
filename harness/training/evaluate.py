"""Predictions on held-out images and the metrics that are stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.data.batches import evaluation_batches
from harness.data.rows import at_once
from harness.data.types import Part
from harness.metrics import EVALUATED
from harness.tricks.contract import Predict

ECE_BINS = 15

MOST = 1000
"""Images that are predicted at once at most."""


@dataclass(frozen=True)
class Predictions:
    """Float32 logits (N, K), labels (N,) and data set positions (N,), on the device."""

    logits: Tensor
    label: Tensor
    index: Tensor


def mean_probability(logits: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of several networks' probabilities, each given as logits (N, K)."""
    return torch.stack([z.log_softmax(-1) for z in logits]).logsumexp(0) - math.log(len(logits))


@torch.inference_mode()
def predict_all(predict: Predict, held: Part, device: torch.device, channels_last: bool) -> Predictions:
    """Predict every image of a split, as many at once as the memory bears."""
    batch = batch_size(held, device)
    out = [
        (predict(x)[-len(label) :].float(), label, index)
        for x, label, index in evaluation_batches(held, device, batch, channels_last)
    ]
    logits, label, index = (torch.cat(parts) for parts in zip(*out, strict=True))
    return Predictions(logits, label, index)


def batch_size(held: Part, device: torch.device) -> int:
    """How many images of a split are predicted at once."""
    return at_once(held.rows.side, MOST, device)


def metrics(logits: Tensor, label: Tensor) -> dict[str, float]:
    """The metrics of `EVALUATED`: accuracy, top-5 accuracy, negative log-likelihood, ECE and Brier score.

    They take one transfer to the host. Accuracies are fractions. ECE is the expected calibration error over 15 bins of
    equal width (Guo et al. 2017, 1706.04599); Brier is the squared distance to the one-hot label, in [0, 2].
    """
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    confidence, predicted = p.max(-1)
    right = (predicted == label).double()
    top = logits.topk(min(5, logits.shape[1]), -1).indices
    one_hot = torch.nn.functional.one_hot(label, logits.shape[1])
    values = {
        "accuracy": right.mean(),
        "top5": (top == label[:, None]).any(-1).double().mean(),
        "nll": -log_p.gather(1, label[:, None]).double().mean(),
        "ece": _ece(confidence.double(), right),
        "brier": (p - one_hot).square().sum(-1).double().mean(),
    }
    return dict(zip(EVALUATED, torch.stack([values[name] for name in EVALUATED]).tolist(), strict=True))


def _ece(confidence: Tensor, right: Tensor) -> Tensor:
    bins = (confidence * ECE_BINS).long().clamp_(0, ECE_BINS - 1)
    gap = torch.zeros(ECE_BINS, dtype=torch.float64, device=right.device)
    gap.index_add_(0, bins, confidence - right)
    return gap.abs().sum() / len(right)
