import pytest
import torch
from torch.nn import functional as F

from harness.experiment import Arm, TrickSpec
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.core.knowledge_distillation import KnowledgeDistillation, distillation
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.stack import Stack


class TestKnowledgeDistillation(TrickConformance):
    trick = KnowledgeDistillation


def pair(n=6, classes=5):
    g = torch.Generator().manual_seed(0)
    return torch.randn(2, n, classes, generator=g, dtype=torch.float64).unbind()


def run_with_teacher(trick, **options):
    """A prepared run, and the specs that it asked for."""
    run, asked = tiny_run(**options), []
    hand_over = run.stage
    run.stage = lambda spec: asked.append(spec) or hand_over(spec)
    trick.prepare(run)
    return run, asked


def test_by_hand():
    """Two classes at T = 2: the teacher says (3/4, 1/4), the student (1/2, 1/2)."""
    teacher = torch.tensor([[2 * torch.tensor(3.0).log(), 0.0]])
    expected = 4 * (0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log())

    torch.testing.assert_close(distillation(torch.zeros(1, 2), teacher, 2.0), expected)


def test_a_teacher_that_differs_by_a_constant_teaches_nothing():
    z, _ = pair()
    assert float(distillation(z, z + 3.0, 4.0)) == pytest.approx(0.0, abs=1e-12)


def test_gradient_equals_that_of_the_cross_entropy_form():
    z, r = pair()
    z.requires_grad_()
    temperature = 3.0
    (kl,) = torch.autograd.grad(distillation(z, r, temperature), z)
    ce = temperature**2 * soft_cross_entropy(z / temperature, F.softmax(r / temperature, -1)).mean()

    torch.testing.assert_close(kl, torch.autograd.grad(ce, z)[0])


def test_at_high_temperature_the_gradient_is_the_difference_of_centred_logits():
    z, r = pair()
    z.requires_grad_()
    (grad,) = torch.autograd.grad(distillation(z, r, 1e5), z)
    centred = (z - z.mean(-1, keepdim=True)) - (r - r.mean(-1, keepdim=True))

    torch.testing.assert_close(grad, centred.detach() / (5 * 6), atol=1e-5, rtol=1e-3)


def test_needs_the_wider_baseline_on_the_same_data_and_seed():
    trick = KnowledgeDistillation(teacher_width_factor=3, teacher_epochs_factor=2)
    run = tiny_run(epochs=4, seed=7)
    spec = run.spec.model_copy(update={"arm": Arm(tricks=(TrickSpec(name="x", version=1, params={}),))})
    (teacher,) = trick.needs(spec)

    assert (teacher.model.width, teacher.recipe.epochs, teacher.arm.names) == (12, 8, ())
    assert (teacher.data, teacher.seed, teacher.model.name) == (spec.data, 7, spec.model.name)


def test_asks_for_what_it_needs():
    trick = KnowledgeDistillation()
    run, asked = run_with_teacher(trick)

    assert asked == list(trick.needs(run.spec))


def test_width_of_the_model_when_the_experiment_names_none():
    _, (spec,) = run_with_teacher(KnowledgeDistillation(), width=None)

    assert spec.model.width == 32  # digits_resnet has 16


def test_timm_models_have_no_width():
    spec = tiny_run().spec
    model = spec.model.model_copy(update={"name": "timm/resnet18", "width": None})

    with pytest.raises(NotApplicable, match="teacher_width_factor = 1"):
        KnowledgeDistillation().needs(spec.model_copy(update={"model": model}))


def test_loss_that_reaches_the_student():
    """Hard CE + soft T² KL; the teacher sees the same pixels, in evaluation mode and without a gradient."""
    trick = KnowledgeDistillation(temperature=2.0, hard=0.3, soft=0.6)
    run, _ = run_with_teacher(trick)
    batch, teacher = tiny_batch(), run.state[trick.name]
    logits = run.model(batch.x)
    stack = Stack([trick])
    hard = stack.weigh(soft_cross_entropy(logits, batch.y), batch, logits, run).mean()
    loss = stack.add_terms(hard, batch, logits, run)
    with torch.no_grad():
        kl = distillation(logits, teacher(batch.x), 2.0)

    torch.testing.assert_close(loss, 0.3 * soft_cross_entropy(logits, batch.y).mean() + 0.6 * kl)
    statistics = {k: v.clone() for k, v in teacher.state_dict().items()}
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(v, statistics[k]) for k, v in teacher.state_dict().items())
    assert not teacher.training
