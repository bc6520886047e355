import math

import pytest
import torch
from torch.nn import functional as F

from harness.experiment import Augment
from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.losses.supcon import Supcon, contrast


class TestSupcon(TrickConformance):
    trick = Supcon


def unit(n, seed):
    return F.normalize(torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def test_equal_embeddings_give_the_logarithm_of_the_candidates():
    z = torch.ones(4, 3) / 3**0.5
    assert float(contrast(z, z, torch.tensor([0, 1, 0, 1]), 0.1)) == pytest.approx(math.log(2 * 4 - 1))


def test_by_the_formula():
    a, b, label, tau = unit(3, 0), unit(3, 1), [0, 1, 0], 0.5
    z, labels, total = torch.cat((a, b)), label * 2, 0.0
    for i in range(6):
        others = [k for k in range(6) if k != i]
        norm = math.log(sum(math.exp(float(z[i] @ z[k]) / tau) for k in others))
        positives = [k for k in others if labels[k] == labels[i]]
        total -= sum(float(z[i] @ z[p]) / tau - norm for p in positives) / len(positives)
    assert float(contrast(a, b, torch.tensor(label), tau)) == pytest.approx(total / 6)


def test_without_shared_labels_it_is_the_loss_of_two_views_alone():
    a, b = unit(4, 2), unit(4, 3)
    z = torch.cat((a, b))
    similarity = (z @ z.T / 0.2).masked_fill(torch.eye(8, dtype=torch.bool), -torch.inf)
    expected = F.cross_entropy(similarity, (torch.arange(8) + 4) % 8)
    torch.testing.assert_close(contrast(a, b, torch.arange(4), 0.2), expected)


def test_the_second_view_is_of_the_batchs_own_images():
    run, trick, seen = tiny_run(augment=Augment()), Supcon(), []
    run.model = trick.model(run.model, run).train()
    batch = tiny_batch()
    run.model.normalize.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    logits = run.model(batch.x)
    trick.reduce_loss(logits.sum(), run)
    term = trick.loss_terms(batch, logits, run)["contrast"]
    images = run.train.images[batch.index].permute(0, 3, 1, 2).float() / 255
    torch.testing.assert_close(seen[1], images)
    term.backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in run.state["supcon"]["projection"].parameters())
