import copy
from dataclasses import replace

import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.contract import NotApplicable
from harness.tricks.core.mixup import mixup
from harness.tricks.functional import mix
from harness.tricks.mixing.mixup_latent import MixupLatent


class TestMixupLatent(TrickConformance):
    trick = MixupLatent


class TestMixupInTheDeepestLayer(TrickConformance):
    trick = MixupLatent
    params = {"layer": 3}  # noqa: RUF012


def applied(linear=False, **params):
    run, trick = tiny_run(), MixupLatent(**params)
    if linear:
        for path, module in list(run.model.named_modules()):
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.ReLU):
                parent, _, leaf = path.rpartition(".")
                setattr(run.model.get_submodule(parent), leaf, torch.nn.Identity())
    run.model = trick.model(run.model, run).train()
    return run, trick


def drawn(run):
    state = run.state["mixup_latent"]
    return state["partner"], state["weight"]


def test_layer_zero_is_mixup():
    run, trick = applied(layer=0)
    batch = tiny_batch()
    changed = trick.batch(batch, run)
    expected = mixup(batch, *drawn(run))

    assert torch.equal(changed.x, expected.x)
    assert torch.equal(changed.y, expected.y)
    assert torch.equal(run.model(changed.x), tiny_run().model.train()(expected.x))


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_the_output_of_the_stage_is_mixed_and_the_targets_with_it(layer):
    run, trick = applied(layer=layer)
    batch, plain = tiny_batch(), tiny_run().model.train()
    seen = {}
    for name, model in (("plain", plain), ("mixed", run.model)):
        stage = model.stage(model.stages[layer - 1])
        stage.register_forward_hook(lambda _m, _a, out, name=name: seen.update({name: out.detach()}))
    changed = trick.batch(batch, run)
    run.model(changed.x)
    plain(batch.x)

    assert torch.equal(changed.x, batch.x)
    torch.testing.assert_close(changed.y, mix(batch.y, *drawn(run)))
    torch.testing.assert_close(seen["mixed"], mix(seen["plain"], *drawn(run)))
    assert not torch.allclose(seen["mixed"], seen["plain"])


def test_in_a_linear_network_all_layers_give_the_same_logits():
    logits = []
    for layer in range(4):
        run, trick = applied(linear=True, layer=layer)
        logits.append(run.model(trick.batch(tiny_batch(), run).x))
    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0], rtol=1e-4, atol=1e-5)


def test_random_layer_is_uniform_over_image_and_all_stages_but_the_last():
    run, trick = applied()
    layers = []
    for _ in range(600):
        trick.batch(tiny_batch(n=2), run)
        layers.append(run.state["mixup_latent"]["layer"])
    counts = torch.bincount(torch.tensor(layers), minlength=4) / 600
    assert counts[3] == 0
    assert (counts[:3] - 1 / 3).abs().max() < 0.08


def test_evaluation_is_untouched_also_of_copies_and_all_passes_of_a_step_agree():
    run, trick = applied(layer=2)
    x = trick.batch(tiny_batch(), run).x
    clone, plain = copy.deepcopy(run.model).eval(), tiny_run().model.eval()

    assert torch.equal(run.model.eval()(x), plain(x))
    assert torch.equal(clone(x), plain(x))
    run.model.train()
    first = run.model(x)
    assert torch.equal(run.model(x), first)
    assert torch.equal(clone.train()(x), first)
    assert not torch.allclose(plain.train()(x), first)


def test_parts_of_a_batch_are_refused():
    run, trick = applied(layer=1)
    batch = trick.batch(tiny_batch(), run)
    with pytest.raises(NotApplicable, match="whole batches"):
        run.model(replace(batch, x=batch.x[:4]).x)


def test_refuses_layers_that_do_not_exist_and_compilation():
    run = tiny_run()
    with pytest.raises(NotApplicable, match="layer = 4, and the model has 3 stages"):
        MixupLatent(layer=4).model(run.model, run)
    run = tiny_run(compile=True)
    with pytest.raises(NotApplicable, match=r"recipe\.compile"):
        MixupLatent().model(run.model, run)
