"""Train the upper stages of a network only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from harness.tricks.contract import Choice, Info, ModelStage, NotApplicable, Run, Trick, at
from harness.tricks.modules import batch_norms, module_depths

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class FreezeLayers(Trick):
    """Yosinski et al. 2014, 1411.1792."""

    info: ClassVar = Info(
        name="freeze_layers",
        family="transfer",
        kind="fine-tuning",
        summary="leave the lower stages as they are",
        paper="Yosinski, Clune, Bengio, Lipson 2014, arXiv:1411.1792",
        formula=(
            "the parameters of the first `upto` stages, the stem counted, are not trained; with `freeze_bn` "
            "their batch norms keep their running statistics and use them"
        ),
        expect=(
            "Helps a pretrained net on little data that resembles its source; harms where the data differ, more "
            "the higher the frozen stage. A network trained from scratch freezes random features: then it "
            "measures what training the lower stages is worth, and `freeze_bn` means no normalisation there, "
            "because statistics stay at mean 0 and variance 1."
        ),
        differs=(
            "The paper freezes layers that were learned on other classes, single ones of an AlexNet; here whole stages "
            "as the model names them, and in networks that start from scratch what is frozen is random."
        ),
        cost=0.5,
        excludes={"gradual_unfreezing": "it trains what this freezes"},
        measured=(
            "As expected from scratch: −3.1 points [−4.7, −1.5] on digits, −2.7 [−4.0, −1.3] on noisy digits (n = "
            "10), for 0.72 [0.65, 0.81] of the CPU time of a step."
        ),
    )
    upto: Annotated[int, Field(ge=1), Choice((1, 2, 3, 4))] = 2
    freeze_bn: bool = True

    @at(ModelStage.WRAP)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Freeze parameters, so that the optimizer never sees them."""
        if self.upto > len(model.stages):
            raise NotApplicable(f"upto = {self.upto}, and the model has {len(model.stages)} stages")
        for module, depth in module_depths(model).items():
            if depth < self.upto:
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(False)
        return model

    def epoch_start(self, run: Run) -> None:
        """Batch norms follow `model.train()`, so they are frozen again before every epoch."""
        depths = module_depths(run.model)
        for norm in batch_norms(run.model) if self.freeze_bn else ():
            if depths.get(norm, self.upto) < self.upto:
                norm.eval()
