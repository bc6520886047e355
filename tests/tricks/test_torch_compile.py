import pytest
import torch

from harness.testing import TrickConformance, tiny_run
from harness.training import session
from harness.training.loop import compiled
from harness.training.precision import Amp
from harness.tricks.contract import NoEffect, Precision
from harness.tricks.efficiency.torch_compile import TorchCompile


class TestTorchCompile(TrickConformance):
    """With the compiler's first half (conftest), which leaves every operation as it is."""

    trick = TorchCompile
    inert = True

    @pytest.fixture(autouse=True)
    def _narrow(self, monkeypatch):
        """Nothing is generated, so that a narrow network may be compiled on any processor."""
        monkeypatch.setattr(session, "layer_at_risk", lambda model: "")

    def test_the_training_pass_is_compiled(self, monkeypatch):
        whole, seen = torch.compile, []
        monkeypatch.setattr(torch, "compile", lambda net: seen.append(net) or whole(net))
        self.execute(TorchCompile())
        self.execute(None)

        assert len(seen) == 1


@pytest.mark.slow
def test_generated_kernels_give_the_gradients_of_plain_ones(monkeypatch):
    from functools import partial

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="inductor"))
    x, found = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), []
    for recipe in ({}, {"compile": True}):
        run = tiny_run(width=16, **recipe)  # wide enough for the layout that the compiler takes
        forward = compiled(run, Amp(Precision(), run.device)) if recipe else run.model
        forward(x).square().sum().backward()
        found.append([p.grad for p in run.model.parameters()])
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_a_recipe_that_compiles_is_refused():
    run = tiny_run(compile=True)
    with pytest.raises(NoEffect, match=r"set recipe\.compile = false"):
        TorchCompile().recipe(run.recipe, run.data)
