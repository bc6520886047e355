import copy
import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.losses.multi_task_aux_loss import MultiTaskAuxLoss, intensity, turned


class TestMultiTaskAuxLoss(TrickConformance):
    trick = MultiTaskAuxLoss


class TestUncertainty(TrickConformance):
    trick = MultiTaskAuxLoss
    params = {"weighting": "uncertainty"}  # noqa: RUF012


class TestRotationOnDigits(TrickConformance):
    trick = MultiTaskAuxLoss
    params = {"task": "rotation"}  # noqa: RUF012
    unfit = True


def applied(**params):
    run, trick = tiny_run(), MultiTaskAuxLoss(**params)
    run.model = trick.model(run.model, run)
    groups = trick.param_groups([{"params": list(run.model.parameters())}], run)
    return run, trick, groups


def losses(run, trick, batch):
    """The main loss, after its own weight, and the added terms."""
    logits = run.model.train()(batch.x)
    main = trick.reduce_loss(soft_cross_entropy(logits, batch.y).mean(), run)
    return main, trick.loss_terms(batch, logits, run)


def gradients(loss, run):
    return torch.autograd.grad(loss, list(run.model.net.stem.parameters()), retain_graph=True)


def test_intensity_by_hand():
    x = torch.stack([torch.full((1, 4, 4), 0.5), torch.full((1, 4, 4), 0.9)])
    torch.testing.assert_close(intensity(x, 0.5, 0.2), torch.tensor([[0.0], [2.0]]))


def test_turned_by_hand():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(4, 1, 2, 2)
    expected = [[1.0, 2, 3, 4], [2, 4, 1, 3], [4, 3, 2, 1], [3, 1, 4, 2]]
    torch.testing.assert_close(turned(x, torch.arange(4)).flatten(1), torch.tensor(expected))


def test_the_term_is_the_weighted_smooth_error_of_the_aux_head():
    run, trick, _ = applied(weight=0.3)
    batch = tiny_batch()
    _, terms = losses(run, trick, batch)
    twin = copy.deepcopy(run.model)  # batch statistics are those of the batch, so a second pass sees the same
    _, features = twin.forward_with_features(batch.x)
    brightness = run.train.images.float().mean((1, 2, 3)) / 255
    target = (batch.x.mean((1, 2, 3)) - brightness.mean()) / brightness.std()
    guess = run.state[trick.name]["head"].layer(features)[:, 0]

    error = (guess - target).abs()
    smooth = torch.where(error < 1, error.square() / 2, error - 0.5)
    torch.testing.assert_close(terms["aux"], 0.3 * smooth.mean())


def test_trunk_gradient_is_the_main_one_plus_the_weighted_one():
    batch, added = tiny_batch(), []
    for weight in (0.2, 0.4):
        run, trick, _ = applied(weight=weight)
        main, terms = losses(run, trick, batch)
        own, total = gradients(main, run), gradients(main + terms["aux"], run)
        added.append(gradients(terms["aux"], run))
        for whole, a, b in zip(total, own, added[-1], strict=True):
            torch.testing.assert_close(whole, a + b)
    for once, twice in zip(*added, strict=True):
        torch.testing.assert_close(2 * once, twice)

    plain = tiny_run()
    baseline = gradients(soft_cross_entropy(plain.model(batch.x), batch.y).mean(), plain)
    assert all(torch.equal(a, b) for a, b in zip(baseline, own, strict=True))


def test_the_optimizer_gets_the_aux_head_and_the_network_does_not():
    run, trick, groups = applied(weighting="uncertainty")
    head = run.state[trick.name]["head"]
    members = {p for group in groups for p in group["params"]}

    assert members == {*run.model.parameters(), *head.parameters()}
    assert groups[-1] == {"params": [head.log_variance], "weight_decay": 0.0, "lr": pytest.approx(0.01)}
    plain = tiny_run()
    assert run.model.state_dict().keys() == plain.model.state_dict().keys()
    x = tiny_batch().x
    assert torch.equal(run.model.eval()(x), plain.model.eval()(x))


def test_learned_weights_start_at_the_fixed_ones_and_have_their_optimum_at_the_losses():
    """With s free, exp(-s) L + s / 2 is least where exp(s) = 2 L."""
    batch = tiny_batch()
    fixed, learned = applied(weight=0.2), applied(weight=0.2, weighting="uncertainty")
    (main, terms), (main_u, terms_u) = losses(*fixed[:2], batch), losses(*learned[:2], batch)
    torch.testing.assert_close(main_u, main)
    torch.testing.assert_close(terms_u["aux"], terms["aux"])
    assert terms_u["balance"].item() == pytest.approx(-math.log(0.2) / 2)

    run, trick, _ = learned
    s = run.state[trick.name]["head"].log_variance
    with torch.no_grad():
        s.copy_(torch.stack([2 * main, 2 * terms["aux"] / 0.2]).log())
    main_u, terms_u = losses(run, trick, batch)
    (gradient,) = torch.autograd.grad(main_u + sum(terms_u.values()), s)
    torch.testing.assert_close(gradient, torch.zeros(2), atol=1e-5, rtol=0)


def test_rotation_reads_turned_views_and_leaves_running_statistics_alone():
    run, trick, _ = applied(task="rotation", weight=1.0)
    batch, norm = tiny_batch(), run.model.net.stem[1]
    twin = copy.deepcopy(run.model)
    twin.train()(batch.x)
    state = run.rng(trick.name).get_state()
    _, terms = losses(run, trick, batch)
    assert torch.equal(norm.running_mean, twin.net.stem[1].running_mean)

    quarters = torch.randint(4, (8,), generator=torch.Generator().set_state(state))
    _, features = twin.forward_with_features(turned(batch.x, quarters))
    guess = run.state[trick.name]["head"].layer(features)
    torch.testing.assert_close(terms["aux"], torch.nn.functional.cross_entropy(guess, quarters))


def test_other_passes_between_the_main_one_and_the_terms_do_not_matter():
    run, trick, _ = applied()
    batch = tiny_batch()
    _, expected = losses(run, trick, batch)
    logits = run.model(batch.x)
    trick.reduce_loss(logits.mean(), run)
    run.model(batch.x.flip(0) ** 2)
    torch.testing.assert_close(trick.loss_terms(batch, logits, run), expected)


def test_rotation_needs_upright_images():
    run = tiny_run(info=tiny_info()._replace(invariances=tiny_info().invariances._replace(flip=False)))
    with pytest.raises(NotApplicable, match="turned"):
        MultiTaskAuxLoss(task="rotation").model(run.model, run)
