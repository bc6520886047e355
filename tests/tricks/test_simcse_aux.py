import copy
import math

import pytest
import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.consistency.simcse_aux import SimcseAux, nt_xent
from harness.tricks.contract import NotApplicable


class TestSimcseAux(TrickConformance):
    trick = SimcseAux


class TestAugmentedViews(TrickConformance):
    trick = SimcseAux
    params = {"views": "aug"}  # noqa: RUF012


def random_pair(n=5, d=6):
    return torch.randn(2, n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind()


def test_one_image_has_nothing_to_tell_apart():
    a, b = random_pair(n=1)
    assert float(nt_xent(a, b, 0.1)) == pytest.approx(0.0, abs=1e-12)


def test_equal_similarities_cost_the_log_of_the_candidates():
    same = torch.ones(4, 3)
    assert float(nt_xent(same, same, 0.1)) == pytest.approx(math.log(7))
    # Without the other image of its class, each anchor has its partner and 4 views of others.
    assert float(nt_xent(same, same, 0.1, torch.tensor([0, 0, 1, 1]))) == pytest.approx(math.log(5))


def test_by_hand():
    """Two images at right angles: similarity 1 / tau with the own view and 0 with both views of the other."""
    a = torch.eye(2)
    expected = -math.log(math.exp(2) / (math.exp(2) + 2))
    assert float(nt_xent(a, 3 * a, 0.5)) == pytest.approx(expected)


def test_rotation_and_length_of_embeddings_do_not_matter_and_views_are_exchangeable():
    a, b = random_pair()
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    value = nt_xent(a, b, 0.2)
    torch.testing.assert_close(nt_xent(2 * a @ turn, b @ turn, 0.2), value)
    torch.testing.assert_close(nt_xent(b, a, 0.2), value)
    assert value > 0


def prepared(**params):
    run, trick = tiny_run(), SimcseAux(**params)
    run.model = trick.model(run.model, run)
    run.model.train()
    return run, trick


def test_term_contrasts_this_pass_with_a_second_one():
    run, trick = prepared(weight=0.5, p=0.5, mask_class=False)
    batch, features = tiny_batch(), []
    run.model.head.register_forward_pre_hook(lambda _m, args: features.append(args[0].detach()))
    logits = run.model(batch.x)
    before = {k: v.clone() for k, v in run.model.named_buffers()}
    loss = torch.tensor(1.0)
    assert trick.reduce_loss(loss, run) is loss
    (term,) = trick.loss_terms(batch, logits, run).values()
    project = run.state[trick.name]["projection"]
    first, second = features

    assert not torch.equal(first, second)  # another dropout mask
    torch.testing.assert_close(term, 0.5 * nt_xent(project(first), project(second), 0.1))
    assert all(torch.equal(v, before[k]) for k, v in run.model.named_buffers())


def test_terms_of_other_tricks_that_run_the_network_do_not_change_the_first_view():
    terms = []
    for extra in (False, True):
        run, trick = prepared(p=0.0)
        batch = tiny_batch()
        logits = run.model(batch.x)
        trick.reduce_loss(logits.mean(), run)
        if extra:
            run.model(torch.rand(3, 1, 8, 8))
        terms.append(trick.loss_terms(batch, logits, run)["contrast"])
    assert torch.equal(*terms)


def test_classification_and_projection_both_learn():
    run, trick = prepared()
    batch = tiny_batch()
    groups = trick.param_groups([{"params": list(run.model.parameters())}], run)
    logits = run.model(batch.x)
    trick.reduce_loss(logits.mean(), run)
    trick.loss_terms(batch, logits, run)["contrast"].backward()

    assert {id(p) for p in run.state[trick.name]["projection"].parameters()} == {id(p) for p in groups[1]["params"]}
    assert all(bool(p.grad.any()) for p in groups[1]["params"] if p.ndim > 1)
    assert bool(run.model.net.stem[0].weight.grad.any())


def test_a_copy_of_the_network_has_a_tap_of_its_own():
    run, trick = prepared()
    batch = tiny_batch()
    run.model(batch.x)
    copied = copy.deepcopy(run.model).train()
    tap = run.state[trick.name]["tap"]
    held = tap.last
    copied(torch.rand(3, 1, 8, 8))
    assert tap.last is held


def test_needs_a_linear_head():
    run = tiny_run()
    run.model.net.head = torch.nn.Identity()
    with pytest.raises(NotApplicable, match="linear head"):
        SimcseAux().model(run.model, run)
