"""Mixup of hidden feature maps: manifold mixup, or mixup at a chosen depth."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from harness.tricks.contract import PARTS, Batch, BatchStage, Info, ModelStage, NotApplicable, Run, Search, Trick, at
from harness.tricks.functional import mix

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class MixOutput:
    """Forward hook that mixes the output of stage number `layer` while it trains, as the step has drawn.

    It reads the draws from the run's state, so every pass of a step mixes alike, and copies of the network share it.
    """

    def __init__(self, layer: int, run: Run) -> None:
        self.layer, self.run = layer, run

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        """The stage's new output; None keeps it."""
        drawn = self.run.state.get(MixupLatent.info.name)
        if drawn is None or not module.training or drawn["layer"] != self.layer:
            return None
        if len(output) != len(drawn["partner"]):
            raise NotApplicable("mixup_latent mixes whole batches, and another trick passes parts or multiples of them")
        return mix(output, drawn["partner"], drawn["weight"])

    def __deepcopy__(self, memo: dict[int, Any]) -> MixOutput:
        return self


class MixupLatent(Trick):
    """Verma et al. 2018, 1806.05236 (random layer); Zhang et al. 2017, 1710.09412, section 3.8 (one layer)."""

    info: ClassVar = Info(
        name="mixup_latent",
        family="mixing",
        summary="mixup of hidden feature maps",
        paper=(
            "Verma, Lamb, Beckham, Najafi, Mitliagkas, Courville, Lopez-Paz, Bengio 2018, arXiv:1806.05236; one layer: "
            "Zhang, Cisse, Dauphin, Lopez-Paz 2017, arXiv:1710.09412, section 3.8"
        ),
        formula=(
            "h_i = w h_i + (1 - w) h_j, y = w y_i + (1 - w) y_j, w ~ Beta(alpha, alpha) and the layer drawn per batch, "
            "j a random permutation; layer 0 is the image, layer k the output of stage k of the model, the stem first"
        ),
        expect=(
            "Manifold mixup helps long training of large nets, with alpha 2, on top of input mixup's gain. At one "
            "fixed layer the mixup paper found nearly mixup's gain in shallow layers and none in deep ones."
        ),
        differs=(
            "Without `layer`, the layer is uniform over the image and all stages but the last; the paper draws from "
            "the image and the first two groups of blocks. Refuses to be compiled. "
            "Beside pgd_training the attack sees unmixed images and features: it is made before the network mixes."
        ),
        cost=1.01,
        excludes={PARTS: "the partners in a layer are images of the whole batch"},
        eager="each step mixes another layer, with a weight that the host draws",
    )
    alpha: Annotated[float, Field(gt=0), Search(0.1, 8.0, log=True)] = 2.0
    layer: Annotated[int | None, Field(ge=0), Search(0, 2)] = None

    @at(ModelStage.WRAP)  # after surgery on stages, which would lose the hooks
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Hook the stages."""
        if run.recipe.compile:
            raise NotApplicable("a compiled network cannot mix elsewhere in each step; set recipe.compile = false")
        if self.layer is not None and self.layer > len(model.stages):
            raise NotApplicable(f"layer = {self.layer}, and the model has {len(model.stages)} stages")
        for number, stage in enumerate(model.stages, start=1):
            model.stage(stage).register_forward_hook(MixOutput(number, run))
        return model

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw layer, weight and partners; mix the targets, and the pixels if the layer is the image."""
        host = run.numpy(self.name)
        weight = float(host.beta(self.alpha, self.alpha))
        drawn = int(host.integers(len(run.model.stages)))
        layer = drawn if self.layer is None else self.layer
        partner = torch.randperm(len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        run.state[self.name] = {"layer": layer, "weight": weight, "partner": partner}
        x = mix(batch.x, partner, weight) if layer == 0 else batch.x
        return replace(batch, x=x, y=mix(batch.y, partner, weight))
