import pytest
import torch

from harness.testing import TinyStage, TrickConformance, tiny_batch, tiny_run
from harness.tricks.core.knowledge_distillation import KnowledgeDistillation
from harness.tricks.distillation.kd_plus_ood import KdPlusOod, synthetic
from harness.tricks.functional import distillation, soft_cross_entropy
from harness.tricks.stack import Stack


class TestKdPlusOod(TrickConformance):
    trick = KdPlusOod


def prepared(trick, teacher=None):
    run = tiny_run()
    if teacher is not None:
        run.stage = lambda spec: TinyStage(spec, teacher, run.train)
    trick.prepare(run)
    run.model.eval()
    return run


def loss_of(trick, run, batch):
    stack = Stack([trick])
    logits = run.model(batch.x)
    hard = stack.weigh(soft_cross_entropy(logits, batch.y), batch, logits, run).mean()
    return stack.add_terms(hard, batch, logits, run)


def test_ratio_zero_is_distillation():
    batch = tiny_batch()
    losses = [
        loss_of(trick, prepared(trick), batch)
        for trick in (KdPlusOod(ratio=0.0, temperature=3.0), KnowledgeDistillation(temperature=3.0))
    ]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("source", ["mixup", "cutmix", "noise"])
def test_a_student_that_equals_its_teacher_learns_nothing_from_it(source):
    trick, batch = KdPlusOod(source=source), tiny_batch()
    run = prepared(trick, teacher=tiny_run().model)
    terms = trick.loss_terms(batch, run.model(batch.x), run)
    assert [float(t.detach()) for t in terms.values()] == pytest.approx([0.0, 0.0], abs=1e-6)


def test_terms_are_of_the_student_and_teacher_on_the_same_outside_images():
    trick, batch, seen = KdPlusOod(soft=0.5, ratio=3.0), tiny_batch(), []
    run = prepared(trick)
    run.model.train()
    teacher = run.state[trick.name]
    before = {k: v.clone() for k, v in run.model.named_buffers()}
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    handle = run.model.register_forward_hook(lambda _m, args, out: seen.append((args[0], out.detach())))
    terms = trick.loss_terms(batch, logits, run)
    handle.remove()
    ((outside, student),) = seen

    torch.testing.assert_close(terms["soft"], 0.5 * distillation(logits, teacher(batch.x), 4.0))
    torch.testing.assert_close(terms["outside"], 1.5 * distillation(student, teacher(outside), 4.0))
    assert all(torch.equal(v, before[k]) for k, v in run.model.named_buffers())
    terms["outside"].backward()
    assert bool(run.model.head.weight.grad.any())
    assert all(p.grad is None for p in teacher.parameters())


def test_mixtures_by_hand():
    x = torch.stack((torch.zeros(1, 4, 4), torch.ones(1, 4, 4)))
    partner, weight, place = torch.tensor([1, 0]), torch.tensor([0.75, 0.75]), torch.tensor([[0.0, 0.9], [0.9, 0.0]])
    noise = torch.full_like(x, 0.5)
    mixed = synthetic(x, partner, weight, place, noise, "mixup")
    pasted = synthetic(x, partner, weight, place, noise, "cutmix")

    torch.testing.assert_close(mixed, torch.stack((torch.full((1, 4, 4), 0.25), torch.full((1, 4, 4), 0.75))))
    corner = torch.zeros(1, 4, 4)
    corner[:, :2, 2:] = 1  # a quarter of the area, two by two pixels, upper right
    torch.testing.assert_close(pasted[0], corner)
    lower = torch.ones(1, 4, 4)
    lower[:, 2:, :2] = 0
    torch.testing.assert_close(pasted[1], lower)
    assert torch.equal(synthetic(x, partner, weight, place, noise, "noise"), noise)
