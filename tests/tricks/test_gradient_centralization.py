import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks import registry
from harness.tricks.contract import overrides
from harness.tricks.core.weight_decay import WeightDecay
from harness.tricks.optimization.gradient_centralization import GradientCentralization, fan_in_mean
from harness.tricks.optimization.gradient_clipping import GradientClipping
from harness.tricks.optimizers import coupled_decay, decay_form
from harness.tricks.stack import Stack

DECAY = 0.5


class TestGradientCentralization(TrickConformance):
    trick = GradientCentralization


def parameter(weight, gradient):
    p = torch.nn.Parameter(torch.tensor(weight, dtype=torch.float64))
    p.grad = torch.tensor(gradient, dtype=torch.float64)
    return p


def run_with(optimizer):
    run = tiny_run()
    run.optimizer = optimizer
    return run


def test_mean_over_all_axes_but_the_first_by_hand():
    assert fan_in_mean(torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])).tolist() == [[3.0], [1.0]]
    assert fan_in_mean(torch.arange(8.0).view(2, 2, 2, 1)).tolist() == [[[[1.5]]], [[[5.5]]]]


def test_without_decay_every_filter_loses_its_mean_and_vectors_stay():
    matrix, vector = parameter([[5.0, 5.0, 5.0]] * 2, [[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]]), parameter([1.0], [4.0])
    run = run_with(torch.optim.SGD([matrix, vector], lr=0.1))
    for _ in range(2):  # twice is once
        GradientCentralization().on_gradients([matrix, vector], run)
        assert matrix.grad.tolist() == [[-2, -1, 3], [-1, -1, 2]]
        assert vector.grad.tolist() == [4.0]


def test_coupled_decay_is_centralised_with_the_gradient_by_hand():
    """g + 0.5 w = (2, 4, 9) with mean 5, so the step is (-3, -1, 4); before the decay it would be (-1, 1, 6)."""
    w = parameter([[2.0, 4.0, 6.0]], [[1.0, 2.0, 6.0]])
    run = run_with(torch.optim.SGD([w], lr=1.0, weight_decay=DECAY))
    GradientCentralization().on_gradients([w], run)
    run.optimizer.step()

    assert w.tolist() == [[2.0 + 3.0, 4.0 + 1.0, 6.0 - 4.0]]


def authors(w, gradients, decay, momentum=0.9, lr=0.1):
    """SGD_GC of the authors: decay, then centralisation, then momentum."""
    v = torch.zeros_like(w)
    for g in gradients:
        d = g + decay * w
        v = momentum * v + (d - d.mean((1, 2, 3), keepdim=True))
        w = w - lr * v
    return w


def draws(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trained(make, gradients, start, *before):
    """The weights after steps of these gradients, with centralisation and other tricks in the stack's order."""
    w = torch.nn.Parameter(start.clone())
    stack = Stack([GradientCentralization(), *before])
    run = tiny_run()
    run.optimizer = make(stack.fold("param_groups", [{"params": [w]}], run))
    run.optimizer = stack.fold("wrap_optimizer", run.optimizer, run)
    stack.notify("prepare", run)
    for g in gradients:
        w.grad = g.clone()
        for hook in stack.hooks("on_gradients"):
            hook([w], run)
        run.optimizer.step()
    return w.detach()


def test_steps_are_those_of_the_authors_optimizer():
    start, gradients = draws(4, 3, 3, 3, seed=0), list(draws(6, 4, 3, 3, 3, seed=1))
    ours = trained(lambda g: torch.optim.SGD(g, lr=0.1, momentum=0.9, weight_decay=DECAY), gradients, start)
    torch.testing.assert_close(ours, authors(start, gradients, DECAY))
    # The mean of a filter is never moved: no gradient and no decay acts along it.
    torch.testing.assert_close(ours.mean((1, 2, 3)), start.mean((1, 2, 3)))


def test_the_weight_decay_of_a_trick_is_centralised_too():
    start, gradients = draws(2, 3, 1, 1, seed=2), list(draws(4, 2, 3, 1, 1, seed=3))

    def sgd(groups):
        return torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01)

    ours = trained(sgd, gradients, start, WeightDecay(wd=DECAY))
    torch.testing.assert_close(ours, authors(start, gradients, DECAY))
    shrunk = trained(sgd, gradients, start, WeightDecay(wd=DECAY, mode="decoupled"))
    assert float((shrunk.mean((1, 2, 3)) - start.mean((1, 2, 3)) * 0.95**4).abs().max()) < 1e-12


def test_gradients_are_clipped_before_they_are_centralised():
    """(3, 4) of norm 5 becomes (0.6, 0.8) and then (-0.1, 0.1); centralised first it would be (-0.5, 0.5)."""
    got = trained(
        lambda g: torch.optim.SGD(g, lr=1.0), [torch.tensor([[3.0, 4.0]])], torch.zeros(1, 2), GradientClipping()
    )
    torch.testing.assert_close(got, torch.tensor([[0.1, -0.1]]))


OWNERS = [name for name in sorted(registry.builtin()) if overrides(registry.make(name), "optimizer")]


def steps(trick, run, decay, added=0.0, shrunk=0.0):
    """A weight after ten steps with decay of the optimizer's, or added to the gradient, or straight on the weight."""
    run.recipe = run.recipe.model_copy(update={"weight_decay": decay})
    w = torch.nn.Parameter(torch.tensor([[2.0, -1.0]]))
    optimizer = trick.optimizer([{"params": [w]}], run)
    for t in range(10):
        w.grad = torch.tensor([[-0.3 - 0.1 * t, 0.1]]) + added * w.detach()
        with torch.no_grad():
            w.mul_(1 - optimizer.param_groups[0]["lr"] * shrunk)
        optimizer.step()
    return w.detach(), optimizer


@pytest.mark.parametrize("name", OWNERS)
def test_every_optimizer_says_where_its_decay_is(name):
    trick, run = registry.make(name), tiny_run(nesterov=False)
    run.recipe = trick.recipe(run.recipe, run.data)
    decayed, optimizer = steps(trick, run, DECAY)
    (group,) = optimizer.param_groups
    form, near = decay_form(optimizer, group), {"rtol": 1e-5, "atol": group["lr"] * 0.01}
    coupled, decoupled = steps(trick, run, 0.0, added=DECAY)[0], steps(trick, run, 0.0, shrunk=DECAY)[0]

    assert not torch.allclose(coupled, decoupled, **near)
    alike = {kind for kind, w in (("coupled", coupled), ("decoupled", decoupled)) if torch.allclose(decayed, w, **near)}
    assert alike == {form} or form == "inside"
    assert coupled_decay(optimizer, group) == (DECAY if form == "coupled" else 0.0)


def test_optimizers_have_their_decay_in_each_of_three_places():
    assert {"adamw", "lion", "lars", "nesterov"} <= set(OWNERS)
    forms = {name: getattr(registry.make(name), "decay", "coupled") for name in OWNERS}
    assert {name for name, form in forms.items() if form == "inside"} >= {"lamb", "lars", "schedule_free"}


def test_weights_without_gradient_are_left_alone():
    run, batch = tiny_run(), tiny_batch()
    head = list(run.model.head.parameters())
    (run.model.train()(batch.x) * batch.y).sum().backward()
    for p in head:
        p.grad = None
    GradientCentralization().on_gradients(list(run.model.parameters()), run)
    assert all(p.grad is None for p in head)
    left = [p.grad.flatten(1).mean(1) for p in run.model.parameters() if p.grad is not None and p.ndim > 1]
    assert max(float(mean.abs().max()) for mean in left) < 1e-5
