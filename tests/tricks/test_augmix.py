import copy

import pytest
import torch
from timm.loss import JsdCrossEntropy
from torch.nn import functional as F

from draws import assert_beta, assert_independent, assert_share, assert_uniform, recorded
from harness.data.types import PHOTOS
from harness.testing import TrickConformance, tiny_batch, tiny_info, tiny_run
from harness.tricks.augment import augmix as module
from harness.tricks.augment.augmix import AugMix, blend, dirichlet, jensen_shannon
from harness.tricks.functional import soft_cross_entropy
from harness.tricks.stack import Stack

COLOUR = tiny_info(channels=3)._replace(invariances=PHOTOS)


class TestAugMix(TrickConformance):
    trick = AugMix


class TestAugMixWithoutItsTerm(TrickConformance):
    trick = AugMix
    params = {"jsd": 0.0}  # noqa: RUF012


def rng():
    return torch.Generator().manual_seed(0)


def test_mixture_by_hand():
    x, chains = torch.full((2, 1, 1, 1), 0.5), [torch.zeros(2, 1, 1, 1), torch.ones(2, 1, 1, 1)]
    out = blend(x, chains, torch.tensor([[0.25, 0.75], [1.0, 0.0]]), torch.tensor([0.5, 1.0]))
    assert out.flatten().tolist() == [0.5 * 0.5 + 0.5 * 0.75, 0.0]


def test_equal_images_mix_to_themselves():
    x = tiny_batch().x
    out = blend(x, [x, x, x], dirichlet(1.0, x, 3, rng()), torch.rand(8, generator=rng()))
    torch.testing.assert_close(out, x)


@pytest.mark.parametrize("alpha", [1.0, 0.3, 4.0])
def test_weights_are_dirichlet_and_shares_beta(alpha):
    """A weight of K has mean 1 / K and variance (K - 1) / (K^2 (K alpha + 1))."""
    weight = dirichlet(alpha, torch.zeros(4000), 3, rng())
    torch.testing.assert_close(weight.sum(1), torch.ones(4000))
    assert float(weight.mean()) == pytest.approx(1 / 3, abs=1e-6)
    assert float(weight.var()) == pytest.approx(2 / (9 * (3 * alpha + 1)), rel=0.1)
    assert_beta(dirichlet(alpha, torch.zeros(4000), 2, rng())[:, 0], alpha)


def test_divergence_by_hand_and_of_equal_views():
    """One prediction certain of class 0, two of class 1: the mean is (1/3, 2/3)."""
    sure = torch.tensor([[100.0, 0.0], [0.0, 100.0], [0.0, 100.0]])
    by_hand = (torch.tensor(3.0).log() + 2 * torch.tensor(1.5).log()) / 3
    torch.testing.assert_close(jensen_shannon(sure), by_hand)
    same = torch.randn(5, 4, generator=rng()).repeat(3, 1)
    assert abs(float(jensen_shannon(same))) < 1e-6


def prepared(trick):
    run, seen = tiny_run(info=COLOUR, channels=3), []
    stack = Stack([trick])

    def closure(batch):
        logits = run.model(batch.x)
        seen.append((batch, logits.detach()))
        losses = stack.weigh(soft_cross_entropy(logits, batch.y), batch, logits, run)
        return stack.add_terms(losses.mean(), batch, logits, run)

    return run, tiny_batch(8, channels=3), closure, seen


def test_loss_is_that_of_the_paper_as_timm_has_it():
    trick = AugMix(jsd=7.0)
    run, batch, closure, seen = prepared(trick)
    loss = trick.gradient(closure, batch, run)
    ((views, logits),) = seen

    assert torch.equal(views.x[:8], batch.x)
    assert not torch.equal(views.x[8:16], views.x[16:])
    theirs = JsdCrossEntropy(num_splits=3, alpha=7.0, smoothing=0.0)(logits, batch.label.repeat(3))
    torch.testing.assert_close(loss, theirs)
    first, *others = logits.log_softmax(-1).chunk(3)
    assert all(float(F.kl_div(o, first, reduction="batchmean", log_target=True)) > 0 for o in others)


def test_without_the_term_the_mixture_is_what_is_learned():
    trick = AugMix(jsd=0.0)
    run, batch, closure, seen = prepared(trick)
    mixed = trick.batch(batch, run)
    loss = trick.gradient(closure, mixed, run)
    ((views, logits),) = seen

    assert not torch.equal(mixed.x, batch.x)
    assert len(views.x) == 8
    torch.testing.assert_close(loss, soft_cross_entropy(logits, batch.y).mean())
    assert AugMix().batch(batch, run) is batch


def test_a_probe_of_the_loss_sees_the_images_alone():
    """As a learning-rate finder makes one, which hands in batches of any size itself."""
    _, batch, closure, seen = prepared(AugMix())
    loss = closure(batch)
    torch.testing.assert_close(loss.detach(), soft_cross_entropy(seen[0][1], batch.y).mean())


def test_gradients_of_equal_views_are_those_of_the_images(monkeypatch):
    """Mixtures that are the images add nothing, but for batch statistics, which are the same."""
    trick = AugMix()
    run, batch, closure, _ = prepared(trick)
    plain = copy.deepcopy(run.model)
    monkeypatch.setattr(AugMix, "view", lambda self, x, run: x)
    trick.gradient(closure, batch, run)
    soft_cross_entropy(plain(batch.x), batch.y).mean().backward()

    for (name, p), q in zip(run.model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("params", "depths"), [({}, {1, 2, 3}), ({"depth": 2}, {2}), ({"depth": 4}, {4})])
def test_chains_have_the_depth_and_strength_that_is_asked_for(params, depths, monkeypatch):
    """Steps that add one, in place of operations, count the depth."""
    levels = []

    def counting(operations, level, generator):
        def step(x):
            levels.append(level(x))
            return x + 1

        return [step]

    monkeypatch.setattr(module, "changes", counting)
    run = tiny_run(info=COLOUR, channels=3)
    found = AugMix(**params).chain(torch.zeros(3000, 3, 1, 1), run)[:, 0].flatten()

    assert set(found.tolist()) == depths
    for depth in depths:
        assert_share(found == depth, 1 / len(depths))
    assert_uniform(torch.cat(levels), 0.01, 0.3)


def test_chains_weights_and_shares_of_an_image_are_drawn_by_themselves(monkeypatch):
    calls = recorded(monkeypatch, module, "blend")
    AugMix(width=2).view(torch.zeros(2000, 3, 1, 1), tiny_run(info=COLOUR, channels=3))
    ((_, chains, weight, share),) = calls

    assert len(chains) == 2
    assert_uniform(share, 0, 1)
    assert_independent(weight[:, 0], share)


def test_the_papers_operations_leave_out_what_its_corruptions_are():
    run = tiny_run(info=COLOUR, channels=3)
    assert "brightness" not in AugMix().operations(run)
    assert "brightness" in AugMix(enhance=True).operations(run)
    assert len(AugMix().operations(run)) == 9
