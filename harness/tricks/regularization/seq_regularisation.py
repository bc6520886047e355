"""Activation regularisation: an L2 penalty on the features before the head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, Info, ModelStage, NoOp, Run, Search, Trick, at
from harness.tricks.modules import FeatureTap

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def activation_penalty(features: Tensor, alpha: float) -> Tensor:
    """Alpha times the mean square of all features."""
    return alpha * features.square().mean()


class SeqRegularisation(Trick):
    """AR of Merity, Keskar, Socher 2017, 1708.02182, section 4.7."""

    info: ClassVar = Info(
        name="seq_regularisation",
        family="regularization",
        summary="L2 penalty on the penultimate features (AR)",
        paper="Merity, Keskar, Socher 2017, arXiv:1708.02182; Merity, McCann, Socher 2017, arXiv:1708.01009",
        formula="L + alpha mean(h^2), h the head's input after any dropout",
        expect=(
            "The papers gain with recurrent language models, about one point of perplexity. On images it keeps "
            "features and so logits small, near to weight decay on the head; expect little, and underfitting when "
            "alpha is large against the loss."
        ),
        differs=(
            "Activation regularisation only: the temporal part, beta mean((h_t - h_t+1)^2), needs a sequence. Features "
            "of the last layer before the head in place of an LSTM's outputs. alpha = 2 is the paper's."
        ),
    )
    alpha: Annotated[float, Field(ge=0), Search(0.01, 10.0, log=True), NoOp(0)] = 2.0

    @at(ModelStage.WRAP)  # after surgery on the head, which would lose the hook
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Tap the head's input."""
        tap = FeatureTap()
        model.head.register_forward_pre_hook(tap)
        run.state[self.name] = tap
        return model

    def reduce_loss(self, loss: Tensor, run: Run) -> Tensor:
        """Keep this pass's features before any term runs the network again; the loss stays."""
        run.state[self.name].hold()
        return loss

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The penalty."""
        return {"penalty": activation_penalty(run.state[self.name].take(), self.alpha)}
