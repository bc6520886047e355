"""What tricks with further passes, heads of their own and held-out images draw, and from where."""

from importlib import import_module

import pytest
import torch
from scipy.special import ndtr

from draws import assert_drawn, assert_share, assert_uniform, recorded
from harness.data.types import TrainingSet
from harness.testing import tiny_batch, tiny_run
from harness.tricks import registry


def of(name):
    return import_module(registry.builtin()[name]), registry.load(name)


def trained(run):
    return TrainingSet(torch.zeros(80, 8, 8, 1, dtype=torch.uint8), run.train.label, torch.arange(80))


@pytest.mark.parametrize(("rule", "held"), [({}, 8), ({"share": 0.05}, 4), ({"share": 0.3}, 24)])
def test_temperature_scaling_holds_any_image_out(rule, held):
    _, cls = of("temperature_scaling")
    run, left = tiny_run(), []
    for _ in range(400):
        kept = cls(**rule).dataset(trained(run), run).index
        left.append(1 - torch.bincount(kept, minlength=80))
    left = torch.stack(left)

    assert (left.sum(1) == held).all()
    for image in range(80):
        assert_share(left[:, image], held / 80)


@pytest.mark.parametrize("m", [2, 4, 8])
def test_free_at_takes_the_images_in_any_order(m):
    _, cls = of("free_at")
    run, trick, first = tiny_run(), cls(m=m), []
    for _ in range(600):
        trick.prepare(run)
        first.append(trick.sampler(trained(run), run)[:2])
    first = torch.stack(first)

    spread = torch.rand(600, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for place in (0, 1):
        assert_uniform(first[:, place] + spread[:, place], 0, 80)


@pytest.mark.parametrize("rule", [{}, {"power": 0.0}, {"power": 4.0}])
def test_selective_backprop_draws_by_powers_of_ranks(rule):
    module, cls = of("selective_backprop")
    power, losses, generator = cls(**rule).power, torch.tensor([0.3, 2.0, 0.1, 0.9]), torch.Generator().manual_seed(0)
    drawn = torch.cat([module.chosen(losses, 1, power, generator) for _ in range(4000)])

    weights = torch.tensor([2.0, 4.0, 1.0, 3.0]) ** power
    for image, share in enumerate(weights / weights.sum()):
        assert_share(drawn == image, float(share))


@pytest.mark.parametrize("rule", [{}, {"p": 0.05}, {"p": 0.7}])
def test_mc_dropout_drops_each_feature_alike_in_training_and_in_predicting(rule):
    _, cls = of("mc_dropout")
    run, trick = tiny_run(), cls(**rule)
    trick.model(run.model, run)
    masks, features = run.state["mc_dropout"], torch.ones(4000, 5)
    for training in (True, False):
        run.model.head.train(training)
        masks.active = not training
        (kept,) = masks(run.model.head, (features,))
        assert kept.unique().tolist() == pytest.approx([0, 1 / (1 - trick.p)])
        for column in kept.T:
            assert_share(column == 0, trick.p)


@pytest.mark.parametrize(("name", "function"), [("deep_supervision", "drawn_linear"), ("supcon", "projection")])
def test_heads_of_their_own_begin_as_torch_begins_layers(monkeypatch, name, function):
    module, cls = of(name)
    calls, run, trick = recorded(monkeypatch, module, function), tiny_run(), cls()
    run.model = trick.model(run.model, run)
    before = sum(len(g["params"]) for g in [{"params": list(run.model.parameters())}])
    groups = trick.param_groups([{"params": list(run.model.parameters())}], run)
    heads = [p for g in groups[1:] for p in g["params"]]

    assert calls
    assert before == len(groups[0]["params"])
    for weight, bias in zip(heads[::2], heads[1::2], strict=True):
        bound = weight.shape[1] ** -0.5
        assert_uniform(torch.cat((weight.detach().flatten(), bias.detach())), -bound, bound)


def test_the_second_views_of_supcon_are_drawn_as_the_recipe_augments(monkeypatch):
    module, cls = of("supcon")
    calls, run, trick = recorded(monkeypatch, module, "views"), tiny_run(), cls()
    run.model = trick.model(run.model, run)
    batch = tiny_batch(4)
    logits = run.model(batch.x)
    trick.reduce_loss(logits.mean(), run)
    trick.loss_terms(batch, logits, run)
    ((_, positions, _, recipe, generator),) = calls

    assert run.train.index[positions].tolist() == batch.index.tolist()
    assert recipe is run.recipe
    assert generator is run.rng("supcon")


@pytest.mark.parametrize(("name", "scale"), [("trades", None), ("vat", 1e-3), ("vat", 1e-4), ("vat", 1e-1)])
def test_attacks_start_at_normal_noise(monkeypatch, name, scale):
    module, cls = of(name)
    calls, run, batch = recorded(monkeypatch, module, "pixel_gradient"), tiny_run(), tiny_batch(60)
    trick = cls() if scale is None else cls(xi=scale)
    logits = run.model(batch.x)
    trick.loss_terms(batch, logits.detach(), run)
    noise = (calls[0][1] - batch.x) / (module.START if scale is None else scale)

    assert len({tuple(image.flatten().tolist()) for image in noise}) == 60
    if name == "vat":
        assert torch.allclose(noise.square().mean((1, 2, 3)), torch.ones(60), atol=0.02)
    # Subtracting pixels rounds what is left of small noise to steps, which are spread again.
    step = 2.0**-24 / (module.START if scale is None else scale)
    spread = torch.rand(noise.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    assert_drawn(noise + step * spread, ndtr)
