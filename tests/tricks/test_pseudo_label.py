from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NotApplicable, TrainingSet
from harness.tricks.distillation.pseudo_label import PseudoLabel, guessing_loss, ramp, stratified


class TestPseudoLabel(TrickConformance):
    trick = PseudoLabel
    params = {"threshold": 0.1}  # noqa: RUF012 (so that a net of 10 updates is certain enough)


def test_ramp_values():
    """Lee's a(t): 0 until 100 of 1000 steps, a half at 350, one from 600 on."""
    assert [ramp(p, 0.1, 0.6) for p in (0.0, 0.1, 0.35, 0.6, 0.9)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert [ramp(p, 0.3, 0.3) for p in (0.2, 0.3)] == [0, 1]


def test_loss_by_hand():
    """Certainties 3/4 and 1/2: above 0.6 only the first counts, and the mean is over both."""
    logits = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log()
    expected = -torch.tensor(0.75).log() / 2

    torch.testing.assert_close(guessing_loss(logits, 0.6), expected)
    torch.testing.assert_close(guessing_loss(logits, 0.4), expected + torch.tensor(2.0).log() / 2)


def test_threshold_one_learns_from_labels_only():
    logits = torch.tensor([[1000.0, 0.0]], requires_grad=True)  # a probability of one
    loss = guessing_loss(logits, 1.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def test_right_guesses_equal_full_supervision():
    label = torch.tensor([2, 0, 1])
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)) + 9 * F.one_hot(label, 3)
    torch.testing.assert_close(guessing_loss(logits, 0.9), F.cross_entropy(logits, label))


def test_share_is_of_each_class():
    label = torch.tensor([0] * 20 + [1] * 10 + [2] * 3)
    kept = stratified(label, 0.3, np.random.default_rng(0))
    assert label[kept].tolist() == [0] * 6 + [1] * 3 + [2]
    assert len(stratified(label, 0.01, np.random.default_rng(0))) == 3  # never a class without any


def hidden_split(**params):
    run, trick = tiny_run(), PseudoLabel(**params)
    images = torch.arange(80, dtype=torch.uint8).view(-1, 1, 1, 1).expand(80, 8, 8, 1)
    train = TrainingSet(images=images, label=run.train.label, index=torch.arange(80) + 100)
    return run, trick, train, trick.dataset(train, run)


def test_other_images_lose_their_labels_and_the_number_of_updates_stays():
    run, trick, train, kept = hidden_split(labelled=0.25)
    number = kept.images[:][:, 0, 0, 0].long()  # which image it was
    hidden = run.state[trick.name].rows[:][:, 0, 0, 0].long()

    assert len(kept.label) == 80
    assert torch.equal(kept.label, train.label[number])
    assert torch.equal(kept.index, number + 100)
    assert sorted({*number.tolist()} | {*hidden.tolist()}) == list(range(80))
    assert not {*number.tolist()} & {*hidden.tolist()}
    assert torch.bincount(train.label[number.unique()]).tolist() == [2] * 10  # a quarter of 8, of each class
    assert int(torch.bincount(number).max()) == 4


def test_soft_targets_follow_their_images():
    run, trick = tiny_run(), PseudoLabel(labelled=0.25)
    y = torch.rand(80, 10, generator=torch.Generator().manual_seed(0))
    kept = trick.dataset(replace(run.train, y=y), run)
    assert torch.equal(kept.y, y[kept.index])


def test_refuses_when_nothing_is_hidden():
    with pytest.raises(NotApplicable, match="without a label"):
        hidden_split(labelled=0.99)


def test_term_ramps_up_and_leaves_running_statistics_alone():
    run, trick, _, kept = hidden_split(threshold=0.0, weight=2.0)
    run.train = kept
    run.model.train()
    before = {k: v.clone() for k, v in run.model.named_buffers()}
    logits, batch, passes = torch.zeros(8, 10), tiny_batch(), []
    handle = run.model.register_forward_hook(lambda _m, args, out: passes.append((args[0], out.detach())))
    assert float(trick.loss_terms(batch, logits, run)["unlabelled"]) == 0
    assert not passes  # no pass without weight
    run.step = 35  # of 100
    term = trick.loss_terms(batch, logits, run)["unlabelled"]
    handle.remove()
    ((x, guessed),) = passes

    torch.testing.assert_close(term, 2.0 * 0.5 * guessing_loss(guessed, 0.0))
    assert len(x) == 8
    seen = (x[:, 0, 0, 0] * 255).round().long().tolist()
    assert {*seen} <= {*run.state[trick.name].rows[:][:, 0, 0, 0].tolist()}
    assert all(torch.equal(v, before[k]) for k, v in run.model.named_buffers())


def test_the_ramp_is_in_order():
    with pytest.raises(ValueError, match="after end"):
        PseudoLabel(start=0.7, end=0.6)


def test_labels_that_the_data_set_hides_are_those_it_learns_without():
    run, trick = tiny_run(), PseudoLabel(labelled=0.25)
    run.spec = run.spec.model_copy(update={"data": run.spec.data.model_copy(update={"labelled": 0.25})})
    run.unlabelled = replace(run.train, images=run.train.images[60:], label=torch.full((20,), -1))
    assert trick.dataset(run.train, run) is run.train
    assert torch.equal(run.state[trick.name].rows[:], run.train.images[60:])


def test_another_share_than_that_of_the_data_set_is_refused():
    run, trick = tiny_run(), PseudoLabel()
    run.spec = run.spec.model_copy(update={"data": run.spec.data.model_copy(update={"labelled": 0.25})})
    run.unlabelled = run.train
    with pytest.raises(NotApplicable, match=r"labelled = 0.1 and data.labelled = 0.25 disagree"):
        trick.dataset(run.train, run)
