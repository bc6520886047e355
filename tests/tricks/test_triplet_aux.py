from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.errors import UserError
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.core.mixup import Mixup
from harness.tricks.losses.triplet_aux import TripletAux, batch_hard, slots
from harness.tricks.stack import Stack


class TestTripletAux(TrickConformance):
    trick = TripletAux


def problem(n=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, dtype=torch.float64, generator=g), torch.arange(n) % 3


def test_by_hand():
    features = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    # Farthest of the class: 1, 1, 4, 4. Nearest other: 3, 2, 2, 6. With margin 1.5: 0, 0.5, 3.5, 0.
    loss = batch_hard(features, torch.tensor([0, 0, 1, 1]), 1.5)
    torch.testing.assert_close(loss, torch.tensor(1.0))


def test_is_the_hardest_of_all_triplets():
    features, target = problem()
    n = len(features)
    distance = torch.cdist(features, features)
    hardest = []
    for i in range(n):
        of = [
            0.3 + float(distance[i, p] - distance[i, q])
            for p in range(n)
            for q in range(n)
            if target[p] == target[i] != target[q] and p != i
        ]
        hardest.append(max(0.0, *of))
    assert float(batch_hard(features, target, 0.3)) == pytest.approx(sum(hardest) / n)


def test_zero_when_classes_are_far_apart_and_order_does_not_matter():
    features, target = problem()
    far = features + 1000.0 * target[:, None]
    assert float(batch_hard(far, target, 0.3)) == 0
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch_hard(features[order], target[order], 0.3), batch_hard(features, target, 0.3))


def test_gradients_are_finite_for_equal_features_and_a_single_class():
    features = torch.ones(4, 3, requires_grad=True)
    for target in (torch.tensor([0, 0, 1, 1]), torch.zeros(4)):
        (gradient,) = torch.autograd.grad(batch_hard(features, target, 0.3), features)
        assert gradient.isfinite().all()


@pytest.mark.parametrize(("count", "per_class"), [(20, 4), (25, 2), (3, 5)])
def test_slots_hold_one_class_each_and_all_alike(count, per_class):
    label = torch.tensor([2] * 7 + [5] * 4 + [9] * 13)
    drawn = slots(label, count, per_class, np.random.default_rng(0)).view(count, per_class)
    classes = label[drawn]

    assert torch.equal(classes, classes[:, :1].expand_as(classes))
    frequency = torch.bincount(classes[:, 0], minlength=10)[[2, 5, 9]]
    assert frequency.max() - frequency.min() <= 1
    for k in (2, 5, 9):
        times = torch.bincount(drawn[classes == k], minlength=24)[label == k]
        assert times.max() - times.min() <= 1  # nobody is left out while another comes twice


def test_batches_of_an_epoch_hold_per_class_images_of_each_class():
    run, trick = tiny_run(), TripletAux()
    positions = trick.sampler(run.train, run)
    assert len(positions) == run.steps_per_epoch * 8
    for part in positions.view(-1, 8):
        assert len(part.unique()) == 8
        assert run.train.label[part].unique(return_counts=True)[1].tolist() == [4, 4]
    assert not torch.equal(positions, trick.sampler(run.train, run))


def test_the_term_is_that_of_the_main_pass():
    run, batch, trick = tiny_run(), tiny_batch(), TripletAux(weight=0.5)
    run.model = trick.model(run.model, run)
    batch = replace(batch, y=torch.eye(10)[torch.arange(8) % 2] * 0.9 + 0.01)
    logits, features = run.model.forward_with_features(batch.x)
    trick.reduce_loss(logits.mean(), run)
    run.model(batch.x**2)  # a pass of another trick's own
    term = trick.loss_terms(batch, logits, run)["triplet"]

    assert float(term.detach()) > 0
    torch.testing.assert_close(term, 0.5 * batch_hard(features, torch.arange(8) % 2, 0.3))


@pytest.mark.parametrize("params", [{"per_class": 3}, {"per_class": 8}])
def test_refuses_batches_that_cannot_hold_classes(params):
    run = tiny_run()
    with pytest.raises(NotApplicable, match="a batch of 8"):
        TripletAux(**params).model(run.model, run)


def test_refuses_mixing():
    with pytest.raises(UserError, match="near to"):
        Stack([TripletAux(), Mixup()])
