from dataclasses import replace

import torch

from harness.testing import TrickConformance, tiny_run
from harness.tricks.contract import Batch
from harness.tricks.core.knowledge_distillation import KnowledgeDistillation
from harness.tricks.distillation.kd_logits_cached import KdLogitsCached
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.stack import Stack


class TestKdLogitsCached(TrickConformance):
    trick = KdLogitsCached


def prepared(trick):
    """A run whose training images have indices in no order, and the specs that it asked for."""
    run, asked = tiny_run(), []
    run.train = replace(run.train, index=7 * torch.randperm(80, generator=torch.Generator().manual_seed(0)) + 3)
    hand_over = run.stage
    run.stage = lambda spec: asked.append(spec) or hand_over(spec)
    trick.prepare(run)
    return run, asked


def plain_batch(run, rows):
    """Training images without augmentation."""
    train = run.train
    x = train.images[rows].permute(0, 3, 1, 2).float() / train.peak
    return Batch(x, torch.eye(10)[train.label[rows]], train.label[rows], train.index[rows])


def loss_of(trick, run, batch):
    stack = Stack([trick])
    logits = run.model.eval()(batch.x)
    hard = stack.weigh(soft_cross_entropy(logits, batch.y), batch, logits, run).mean()
    return stack.add_terms(hard, batch, logits, run)


def test_equals_live_distillation_when_nothing_is_augmented():
    params = {"temperature": 3.0, "hard": 0.3, "soft": 0.6, "teacher_width_factor": 3}
    cached, live = KdLogitsCached(**params), KnowledgeDistillation(**params)
    run, (spec,) = prepared(cached)
    other, (same,) = prepared(live)
    batch = plain_batch(run, torch.tensor([70, 3, 41, 3, 0]))

    assert spec == same
    torch.testing.assert_close(loss_of(cached, run, batch), loss_of(live, other, batch))


def test_stays_the_same_for_changed_pixels():
    trick = KdLogitsCached(hard=0.0)
    run, _ = prepared(trick)
    batch = plain_batch(run, torch.arange(8))
    logits = torch.zeros(8, 10)
    shifted = replace(batch, x=batch.x.roll(1, -1))
    assert torch.equal(*(trick.loss_terms(b, logits, run)["soft"] for b in (batch, shifted)))
