import copy

import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.functional import cosine
from harness.tricks.regularization.stochastic_weight_averaging import (
    StochasticWeightAveraging,
    hold,
    plain_batches,
)


class TestStochasticWeightAveraging(TrickConformance):
    trick = StochasticWeightAveraging


def snapshots(run, trick, epochs):
    """End epochs with other weights each; returns the parameters that each one ended with."""
    seen = []
    g = torch.Generator().manual_seed(0)
    for run.epoch in epochs:
        with torch.no_grad():
            for p in run.model.parameters():
                p.copy_(torch.randn(p.shape, generator=g))
        seen.append([p.detach().clone() for p in run.model.parameters()])
        trick.epoch_end(run)
    return seen


def test_schedule_is_held_from_the_start():
    schedule = StochasticWeightAveraging(start=0.5, swa_lr=0.2).wrap_schedule(cosine(), tiny_run())
    assert schedule(0.25) == cosine()(0.25)
    assert schedule(0.5) == schedule(0.99) == 0.2
    assert hold(cosine(), 0.75, 0.5)(0.7499) == cosine()(0.7499)


def test_average_is_the_mean_of_the_last_epochs():
    run, trick = tiny_run(), StochasticWeightAveraging(start=0.7)
    trick.prepare(run)
    seen = snapshots(run, trick, range(10))  # epochs 7, 8, 9 and 10 of 10 have done 0.7 or more

    assert run.state[trick.name].count == 4
    for got, *parts in zip(trick.evaluation_weights(run).parameters(), *seen[6:], strict=True):
        torch.testing.assert_close(got, torch.stack(parts).mean(0))


def test_before_the_start_the_live_network_is_evaluated():
    run, trick = tiny_run(), StochasticWeightAveraging()
    trick.prepare(run)
    snapshots(run, trick, range(7))
    assert trick.evaluation_weights(run) is run.model


def test_statistics_are_those_of_the_averaged_network_on_plain_training_images():
    run, trick = tiny_run(batch_size=80), StochasticWeightAveraging(start=0.7)
    trick.prepare(run)
    snapshots(run, trick, range(6, 10))
    averaged = trick.evaluation_weights(run)
    x = run.train.images.permute(0, 3, 1, 2).float() / 255
    stem = averaged.net.stem
    out = stem[0](averaged.normalize(x))

    torch.testing.assert_close(stem[1].running_mean, out.mean((0, 2, 3)))
    torch.testing.assert_close(stem[1].running_var, out.var((0, 2, 3)))
    assert not any(m.training for m in averaged.modules())
    assert stem[1].momentum == run.model.net.stem[1].momentum  # restored
    assert torch.all(run.model.net.stem[1].running_mean == 0)  # the live network is left alone


def test_statistics_are_a_plain_mean_over_batches():
    run, trick = tiny_run(batch_size=30), StochasticWeightAveraging(start=0.7)
    trick.prepare(run)
    snapshots(run, trick, [9])
    averaged = trick.evaluation_weights(run)
    means = [averaged.net.stem[0](averaged.normalize(x)).mean((0, 2, 3)) for x in plain_batches(run)]

    assert [len(x) for x in plain_batches(run)] == [27, 27, 26]
    torch.testing.assert_close(averaged.net.stem[1].running_mean, torch.stack(means).mean(0))


def test_constant_weights_are_unchanged_and_reading_twice_gives_the_same():
    run, trick = tiny_run(), StochasticWeightAveraging()
    trick.prepare(run)
    for run.epoch in (8, 9):
        trick.epoch_end(run)
    first = copy.deepcopy(trick.evaluation_weights(run).state_dict())
    second = trick.evaluation_weights(run).state_dict()

    for name, p in run.model.named_parameters():
        assert torch.equal(first[name], p)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_rehearsal_sees_the_statistics_of_one_batch():
    run, trick = tiny_run(batch_size=8), StochasticWeightAveraging(start=0.7)
    trick.prepare(run)
    snapshots(run, trick, range(6, 10))
    run.rehearsal = True
    averaged = trick.evaluation_weights(run)
    out = averaged.net.stem[0](averaged.normalize(next(plain_batches(run))))

    torch.testing.assert_close(averaged.net.stem[1].running_mean, out.mean((0, 2, 3)))
