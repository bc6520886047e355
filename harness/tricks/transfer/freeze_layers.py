"""Train the upper stages of a network only."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from harness.tricks.contract import Choice, Groups, Info, NotApplicable, Run, Trick
from harness.tricks.modules import batch_norms, module_depths


class FreezeLayers(Trick):
    """Yosinski et al. 2014, 1411.1792; on random weights the control of its section 4.3."""

    info: ClassVar = Info(
        name="freeze_layers",
        family="transfer",
        kind="fine-tuning",
        summary="leave the lower stages as they are",
        paper="Yosinski, Clune, Bengio, Lipson 2014, arXiv:1411.1792",
        formula=(
            "the parameters of the first `upto` stages, the stem counted, are not trained; with `freeze_bn` their "
            "batch norms keep their running statistics and use them, by default where something has learned "
            "statistics before this training"
        ),
        expect=(
            "Helps a pretrained net on little data that resembles its source; harms where the data differ, more "
            "the higher the frozen stage. On weights drawn at random it is the paper's control of section 4.3, which "
            "loses more with every frozen layer: it measures what training the lower stages is worth."
        ),
        differs=(
            "The paper freezes the first n layers of an AlexNet, learned on other classes; here whole stages as the "
            "model names them, learned by whatever acts before training (`masked_pretraining`), else random. Batch "
            "norms are later than the paper: timm's `freeze` keeps their statistics in any case, which without learned "
            "ones means no normalisation; so they stay live there unless `freeze_bn = true`."
        ),
        cost=0.5,
        version=2,
        excludes={"gradual_unfreezing": "it trains what this freezes"},
        measured=(
            "As expected from scratch: −2.9 points [−4.5, −1.3] on digits, −3.5 [−5.1, −1.8] on noisy digits (n = "
            "10), for 0.72 [0.64, 0.81] of the CPU time."
        ),
    )
    upto: Annotated[int, Field(ge=1), Choice((1, 2, 3, 4))] = 2
    freeze_bn: Annotated[bool | None, Choice((False, True))] = None

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """Freeze what is below once all that sets weights has acted, so that the optimizer never sees it."""
        stages = run.model.stages
        if self.upto > len(stages):
            raise NotApplicable(f"upto = {self.upto}, and the model has {len(stages)} stages")
        frozen: set[nn.Parameter] = set()
        for module, depth in module_depths(run.model).items():
            if depth < self.upto:
                frozen.update(module.parameters(recurse=False))
        for parameter in frozen:
            parameter.requires_grad_(False)
        kept = [{**group, "params": [p for p in group["params"] if p not in frozen]} for group in groups]
        return [group for group in kept if group["params"]]

    def prepare(self, run: Run) -> None:
        """See whether there are statistics to keep: those that no batch has touched are mean 0 and variance 1."""
        means = [norm.running_mean for norm in self._norms(run) if norm.running_mean is not None]
        learned = any(bool(mean.any()) for mean in means)
        run.state[self.name] = {"keep": learned if self.freeze_bn is None else self.freeze_bn}

    def epoch_start(self, run: Run) -> None:
        """Batch norms follow `model.train()`, so they are frozen again before every epoch."""
        for norm in self._norms(run) if run.state[self.name]["keep"] else ():
            norm.eval()

    def _norms(self, run: Run) -> list[nn.modules.batchnorm._BatchNorm]:
        """The batch norms of the frozen stages."""
        depths = module_depths(run.model)
        return [norm for norm in batch_norms(run.model) if depths.get(norm, self.upto) < self.upto]
