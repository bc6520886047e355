from pathlib import Path

import pytest
import torch

from harness.testing import TrickConformance, tiny_info, tiny_run, tiny_spec
from harness.training.execute import execute
from harness.training.place import Place
from harness.tricks import registry
from harness.tricks.contract import NoEffect
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.weighted_ce import WeightedCe, class_weights

SCHEMES = ["inv", "sqrt_inv", "effective"]


class TestWeightedCe(TrickConformance):
    trick = WeightedCe
    unfit = True  # the tiny digits are balanced; test_trains_on_imbalanced_digits runs it


def test_trains_on_imbalanced_digits():
    rows = []
    for trick in (None, WeightedCe()):
        spec = tiny_spec(trick)
        imbalanced = spec.model_copy(update={"data": spec.data.model_copy(update={"imbalance": 0.2})})
        with registry.registered(WeightedCe):
            rows.append(execute(imbalanced, "imbalanced", Place(data_root=Path("unused"), check=True)).row)
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert rows[0]["train_loss"] != rows[1]["train_loss"]


def test_balanced_classes_leave_nothing_to_do():
    with pytest.raises(NoEffect, match="equally frequent"):
        WeightedCe().prepare(tiny_run())


def test_weights_by_hand():
    assert class_weights((1, 4), "inv", 0.9) == pytest.approx([2.5, 0.625])  # 1 : 1/4, times 5 / 2
    assert class_weights((1, 4), "sqrt_inv", 0.9) == pytest.approx([5 / 3, 5 / 6])  # 1 : 1/2, times 5 / 3
    a, b = 1.0, 0.5 / (1 - 0.5**4)
    scale = 5 / (a + 4 * b)
    assert class_weights((1, 4), "effective", 0.5) == pytest.approx([a * scale, b * scale])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mean_weight_is_one_over_the_training_set(scheme):
    counts = (500, 100, 20, 4, 0)
    weights = class_weights(counts, scheme, 0.999)

    assert sum(n * w for n, w in zip(counts, weights, strict=True)) == pytest.approx(sum(counts))
    assert weights[:4] == sorted(weights[:4])
    assert all(0 < w < float("inf") for w in weights)


def test_effective_number_has_its_limits():
    counts = (50, 10, 2)
    assert class_weights(counts, "effective", 0.0) == pytest.approx([1.0, 1.0, 1.0])
    assert class_weights(counts, "effective", 1 - 1e-9) == pytest.approx(class_weights(counts, "inv", 0.0), rel=1e-5)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_equal_counts_are_plain_cross_entropy(scheme):
    logits, y = torch.randn(8, 10, generator=torch.Generator().manual_seed(0)), torch.eye(10)[:8]
    loss = WeightedCe(scheme=scheme).criterion(logits, y, tiny_run())
    torch.testing.assert_close(loss, soft_cross_entropy(logits, y))


def test_inverse_weights_equal_duplicated_examples():
    """Class 0 has 1 example and class 1 has 3: weighting equals showing class 0 three times."""
    logits = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.eye(2, dtype=torch.float64)[torch.tensor([0, 1, 1, 1])]
    run = tiny_run(info=tiny_info(classes=2)._replace(train_counts=(1, 3)))
    weighted = WeightedCe().criterion(logits, y, run).mean()
    repeated = torch.tensor([0, 0, 0, 1, 2, 3])

    torch.testing.assert_close(weighted, soft_cross_entropy(logits[repeated], y[repeated]).mean())


def test_scale_is_the_same_for_hard_and_mixed_targets():
    """The loss is linear in the targets, so mixing them mixes the losses and changes no normaliser."""
    logits = torch.randn(2, 2, generator=torch.Generator().manual_seed(0))
    run = tiny_run(info=tiny_info(classes=2)._replace(train_counts=(1, 9)))
    a, b = torch.tensor([[1.0, 0.0]] * 2), torch.tensor([[0.0, 1.0]] * 2)
    loss = WeightedCe().criterion

    torch.testing.assert_close(
        loss(logits, 0.3 * a + 0.7 * b, run), 0.3 * loss(logits, a, run) + 0.7 * loss(logits, b, run)
    )


def test_the_loss_uses_scheme_and_beta_as_given():
    """Counts 1 and 4: the effective numbers are 1 and (1 - b^4) / (1 - b), 1.875 for b = 0.5."""
    run = tiny_run(info=tiny_info(classes=2)._replace(train_counts=(1, 4)))
    logits, y = torch.zeros(2, 2), torch.eye(2)

    def ratio(**params):
        rare, common = WeightedCe(**params).criterion(logits, y, run).tolist()
        return rare / common

    assert ratio(scheme="effective", beta=0.5) == pytest.approx(1.875)
    assert ratio(scheme="effective", beta=0.9) == pytest.approx((1 - 0.9**4) / 0.1)
    assert ratio(scheme="effective") == pytest.approx((1 - 0.9999**4) / 0.0001, rel=1e-4)
    assert ratio() == pytest.approx(4.0)
    assert ratio(scheme="sqrt_inv") == pytest.approx(2.0)
