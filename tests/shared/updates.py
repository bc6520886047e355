"""Optimizers of tricks, stepped by hand."""

import torch

from harness.testing import tiny_run


def build(trick, weights, **group):
    """The trick's optimizer of these weights, as the recipe that it asks for has it."""
    run = tiny_run()
    run.recipe = trick.recipe(run.recipe, run.data)
    return trick.optimizer([{"params": weights, **group}], run)


def weight(*values):
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def step(optimizer, weights, gradients):
    for w, g in zip(weights, gradients, strict=True):
        w.grad = torch.as_tensor(g, dtype=w.dtype).reshape(w.shape)
    optimizer.step()


def assert_same_walk(ours, theirs, shape=(3, 2), steps=8):
    """Both of these builders' optimizers move a weight alike under the same random gradients."""
    g = torch.Generator().manual_seed(0)
    start = torch.randn(shape, dtype=torch.float64, generator=g)
    weights = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    optimizers = [make([w]) for make, w in zip((ours, theirs), weights, strict=True)]
    for _ in range(steps):
        gradient = torch.randn(shape, dtype=torch.float64, generator=g)
        for optimizer, w in zip(optimizers, weights, strict=True):
            step(optimizer, [w], [gradient])
    torch.testing.assert_close(*weights)
    assert not torch.equal(weights[0].detach(), start)
