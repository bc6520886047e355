"""Supervised contrast of two views of each image, beside the classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import MIXING, PARTS, Batch, Groups, Info, ModelStage, NoOp, Rows, Run, Search, Trick, at
from harness.tricks.functional import supervised_contrast
from harness.tricks.images import views
from harness.tricks.modules import FeatureTap, frozen_statistics, projection

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def contrast(a: Tensor, b: Tensor, label: Tensor, tau: float) -> Tensor:
    """Supervised contrastive loss of two views (N, D) of images with these labels (N,): 2N anchors among each other."""
    z, label = torch.cat((a, b)), label.repeat(2)
    place = torch.arange(len(z), device=z.device)
    return supervised_contrast(z, z, label == label[:, None], place != place[:, None], tau)


class Images:
    """The training images, on the run's device where they fit."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def state_dict(self) -> dict[str, Any]:
        """Nothing: it is made again from the data."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class Supcon(Trick):
    """Khosla et al. 2020, 2004.11362, section 3.2, equation 2."""

    info: ClassVar = Info(
        name="supcon",
        family="losses",
        summary="pull two views of all images of a class together, as an auxiliary loss",
        paper="Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu, Krishnan 2020, arXiv:2004.11362, equation 2",
        formula=(
            "L + weight mean_i -mean over i's positives p of log exp(z_i z_p / tau) / sum_(a != i) exp(z_i z_a / tau), "
            "i over two views of the batch, positives the other views of its class, z unit projections"
        ),
        expect=(
            "The paper gains up to a point on ImageNet in two stages, with batches of thousands and strong crops. "
            "Beside the classifier, in small batches of few classes, little over its own features; under label noise "
            "it pulls wrong images together."
        ),
        differs=(
            "An auxiliary loss in one stage, where the paper trains the features first and a linear head after. The "
            "second view is another draw of the recipe's augmentation; its pass leaves running statistics alone."
        ),
        cost=2.0,
        eager="it reads other views of the images",
        excludes={MIXING: "a mixture has no class", PARTS: "images are compared with all of the batch"},
    )
    weight: Annotated[float, Field(ge=0), Search(0.05, 2.0, log=True), NoOp(0)] = 0.5
    tau: Annotated[float, Field(gt=0), Search(0.03, 1.0, log=True)] = 0.1
    width: Annotated[int, Field(ge=1), Search(16, 128, log=True)] = 128

    @at(ModelStage.WRAP)  # after surgery on the head, which would lose the hook
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Tap the features and make the projection."""
        tap = FeatureTap()
        model.head.register_forward_pre_hook(tap)
        order = run.train.index.to(run.device).sort()
        run.state[self.name] = {
            "tap": tap,
            "projection": projection(model, self.width, run.rng(self.name)),
            "images": Images(run.train.rows.on(run.device)),
            "index": order.values,
            "position": order.indices,
        }
        return model

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """The projection learns, too."""
        return [*groups, {"params": list(run.state[self.name]["projection"].parameters())}]

    def reduce_loss(self, loss: Tensor, run: Run) -> Tensor:
        """Keep this pass's features before any term runs the network again; the loss stays."""
        run.state[self.name]["tap"].hold()
        return loss

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The contrast of the batch and of other views of the same images."""
        state = run.state[self.name]
        first = state["tap"].take()
        position = state["position"][torch.searchsorted(state["index"], batch.index)]
        x = views(state["images"].rows, position, run.train.peak, run.recipe, run.rng(self.name))
        with frozen_statistics(run.model), run.autocast():
            run.model(x)
        state["tap"].hold()
        a, b = (F.normalize(state["projection"](f)) for f in (first, state["tap"].take()))
        return {"contrast": self.weight * contrast(a, b, batch.label, self.tau)}
