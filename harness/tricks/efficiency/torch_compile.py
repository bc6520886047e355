"""torch.compile: the network's forward and backward pass as generated kernels."""

from __future__ import annotations

from typing import ClassVar

from harness.experiment import Recipe
from harness.tricks.contract import DataInfo, Info, NoEffect, RecipeStage, Trick, at


class TorchCompile(Trick):
    """Ansel et al. 2024, PyTorch 2 (ASPLOS)."""

    info: ClassVar = Info(
        name="torch_compile",
        family="efficiency",
        kind="protocol",
        summary="compile the network's training pass",
        paper="Ansel et al. 2024, PyTorch 2, ASPLOS (doi.org/10.1145/3620665.3640366)",
        formula="torch.compile(net): what Python does is traced once, and operations are fused into generated kernels",
        expect=(
            "Time only: a step takes 0.6 to 0.9 of it on a GPU; the first one is compiled for a minute, which short "
            "runs do not earn back. Sums are made in another order, so that results differ as between two processors."
        ),
        differs=(
            "The training pass alone is compiled, in torch's default mode; evaluation is plain. The CPU needs a C++ "
            "compiler, a GPU Triton. Compilation is done before the first step is timed."
        ),
        cost=0.9,
    )

    @at(RecipeStage.SIZE)
    def recipe(self, recipe: Recipe, data: DataInfo) -> Recipe:
        """Ask for the compiled pass."""
        if recipe.compile:
            raise NoEffect("the recipe compiles already; set recipe.compile = false")
        return recipe.model_copy(update={"compile": True})
