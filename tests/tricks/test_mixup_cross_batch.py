from dataclasses import replace

import torch

from harness.experiment import Augment
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.images import TrainingPixels
from harness.tricks.mixing.mixup_cross_batch import MixupCrossBatch, blend


class TestMixupCrossBatch(TrickConformance):
    trick = MixupCrossBatch


def partners_of_an_epoch(run, trick):
    """What each step mixes in, (80, 10): a batch of black images whose targets are put on class 0."""
    batch = tiny_batch(n=8)
    batch.x.zero_()
    trick.epoch_start(run)
    out = []
    for _ in range(run.steps_per_epoch):
        mixed = trick.batch(batch, run)
        out.append((mixed, batch))
        run.step += 1
    return out


def test_blend_by_hand():
    batch = tiny_batch(n=2)
    x, y = torch.ones_like(batch.x), torch.full_like(batch.y, 0.1)
    mixed = blend(batch, x, y, 0.25)

    torch.testing.assert_close(mixed.x, 0.25 * batch.x + 0.75)
    torch.testing.assert_close(mixed.y, 0.25 * batch.y + 0.075)
    assert torch.equal(blend(batch, x, y, 1.0).x, batch.x)


def test_an_epoch_of_partners_is_the_training_set_once():
    """Training image i is constant i and the batch black: what is left, over its weight, names the partner."""
    run, trick = tiny_run(), MixupCrossBatch(alpha=4.0)
    images = torch.arange(80, dtype=torch.uint8).view(80, 1, 1, 1).expand(80, 8, 8, 1)
    run.train = replace(run.train, images=images, peak=100)
    trick.prepare(run)
    orders = []
    for _ in range(2):
        order = []
        for mixed, batch in partners_of_an_epoch(run, trick):
            for i in range(8):
                # The target gives the weight unless the partner is of the batch's own class.
                own = float(mixed.y[i, batch.label[i]])
                if own < 0.999:
                    order.append(round(float(mixed.x[i].mean()) / (1 - own) * 100, 2))
                    partner = round(order[-1])
                    assert abs(order[-1] - partner) < 0.05
                    torch.testing.assert_close(float(mixed.y[i, partner % 10]), 1 - own)
        orders.append([round(v) for v in order])
        assert len(order) > 50
        assert len(set(orders[-1])) == len(order)  # no image twice in an epoch
    assert orders[0] != orders[1]


def test_partners_are_augmented_as_the_recipe_says():
    run = tiny_run(augment=Augment(shift=0.25))
    run.train = replace(run.train, images=torch.full((80, 8, 8, 1), 255, dtype=torch.uint8))
    g = torch.Generator().manual_seed(0)
    x, y = TrainingPixels(run).draw(torch.arange(80), g, 8)

    black = (x == 0).float().mean((1, 2, 3))
    assert 0.0 < float((black > 0).float().mean()) < 1.0  # most are shifted, and the border is black
    assert float(black.max()) == 1 - (6 / 8) ** 2
    assert y.argmax(1).tolist() == run.train.label.tolist()


def test_partners_follow_the_size_of_the_batch_and_long_epochs_go_round():
    run, trick = tiny_run(), MixupCrossBatch()
    trick.prepare(run)
    trick.epoch_start(run)
    run.step = 9
    assert trick.batch(tiny_batch(n=16, size=6), run).x.shape == (16, 1, 6, 6)
