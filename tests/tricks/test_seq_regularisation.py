import torch

from harness.testing import TrickConformance, tiny_batch, tiny_run
from harness.tricks.regularization.seq_regularisation import SeqRegularisation, activation_penalty


class TestSeqRegularisation(TrickConformance):
    trick = SeqRegularisation


def test_value_and_gradient_by_hand():
    h = torch.tensor([[1.0, 2.0], [0.0, 3.0]], requires_grad=True)
    penalty = activation_penalty(h, 2.0)
    penalty.backward()

    assert float(penalty.detach()) == 7.0  # 2 (1 + 4 + 0 + 9) / 4
    torch.testing.assert_close(h.grad, 2 * 2.0 * h.detach() / 4)


def test_alpha_zero_costs_nothing():
    assert float(activation_penalty(torch.ones(3, 4), 0.0)) == 0.0


def test_term_is_of_the_features_of_the_batch():
    run, trick, batch = tiny_run(), SeqRegularisation(alpha=0.5), tiny_batch()
    run.model = trick.model(run.model, run).train()
    features = []
    run.model.head.register_forward_pre_hook(lambda _m, args: features.append(args[0].detach()))
    logits = run.model(batch.x)
    loss = torch.tensor(1.0)
    assert trick.reduce_loss(loss, run) is loss
    run.model(torch.rand(3, 1, 8, 8))  # another term's pass
    (term,) = trick.loss_terms(batch, logits, run).values()
    term.backward()

    torch.testing.assert_close(term, 0.5 * features[0].square().mean())
    assert bool(run.model.net.stem[0].weight.grad.any())
    assert run.model.head.weight.grad is None
