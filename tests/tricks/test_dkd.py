import pytest
import torch
from torch.nn import functional as F

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NoEffect
from harness.tricks.distillation.dkd import Dkd, decoupled
from harness.tricks.functional import distillation


class TestDkd(TrickConformance):
    trick = Dkd


def pair(n=6, classes=5):
    z, r = torch.randn(2, n, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind()
    return z, r, torch.arange(n) % classes


def test_by_hand():
    """The teacher says (1/2, 1/3, 1/6), the student (1/4, 1/2, 1/4), of the target 0."""
    teacher, student = torch.tensor([[3.0, 2.0, 1.0]]).log(), torch.tensor([[1.0, 2.0, 1.0]]).log()
    target = torch.tensor([0])
    own = 0.5 * torch.tensor(0.5 / 0.25).log() + 0.5 * torch.tensor(0.5 / 0.75).log()
    torch.testing.assert_close(decoupled(student, teacher, target, 1.0, 0.0, 1.0), own)
    assert float(decoupled(student, teacher, target, 0.0, 1.0, 1.0)) == pytest.approx(0.0, abs=1e-7)  # 2 : 1 in both


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_weighed_by_the_teachers_doubt_it_is_classical_distillation(temperature):
    z, r, target = pair()
    for i in range(len(z)):
        one = slice(i, i + 1)
        doubt = 1 - float(F.softmax(r[i] / temperature, -1)[target[i]])
        ours = decoupled(z[one], r[one], target[one], 1.0, doubt, temperature)
        torch.testing.assert_close(ours, distillation(z[one], r[one], temperature))


def test_the_term_warms_up_and_uses_the_teacher():
    run, trick, batch = tiny_run(), Dkd(warm=0.5), tiny_batch()
    trick.prepare(run)
    teacher = run.state["dkd"]["teacher"]
    logits = run.model.eval()(batch.x)
    whole = decoupled(logits, teacher(batch.x), batch.label, 1.0, 8.0, 4.0)
    for run.step, share in ((0, 0.02), (24, 0.5), (80, 1.0)):
        torch.testing.assert_close(trick.loss_terms(batch, logits, run)["decoupled"], share * whole)


def test_the_teacher_is_wider_and_weights_of_zero_are_refused():
    (teacher,) = Dkd(teacher_width_factor=3, teacher_epochs_factor=2).needs(tiny_run().spec)
    assert (teacher.model.width, teacher.recipe.epochs, teacher.arm.tricks) == (12, 20, ())
    with pytest.raises(NoEffect, match="leave the loss"):
        Dkd(alpha=0.0, beta=0.0).prepare(tiny_run())
