"""Other constants, or none, in place of the standardisation of the input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch

from harness.tricks.contract import Choice, Info, ModelStage, NotApplicable, Run, Trick, at

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

CONSTANTS = {
    "none": ((0.0,), (1.0,)),
    "symmetric": ((0.5,), (0.5,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation, of all channels or of red, green and blue."""


class InputStandardization(Trick):
    """LeCun et al. 1998, section 4.3: what standardising the input is worth."""

    info: ClassVar = Info(
        name="input_standardization",
        family="architecture",
        kind="removal",
        summary="feed pixels that are not standardised, or by other constants",
        paper="LeCun, Bottou, Orr, Mueller 1998 (Efficient BackProp)",
        formula=(
            "x = (x - mean) / std with the training split's statistics becomes: none, x in [0, 1]; symmetric, "
            "2 x - 1; imagenet, ImageNet's constants"
        ),
        expect=(
            "The baseline standardises, so this is the negative arm. Nets that begin with a convolution and "
            "batch norm are blind to the input's scale and, but for the borders, to its mean: expect nothing "
            "with batch norm and a loss without it (see batch_norm)."
        ),
        differs="The baseline is the paper's method; the arms leave it or use constants of elsewhere.",
    )
    stats: Annotated[Literal["none", "symmetric", "imagenet"], Choice(("none", "symmetric", "imagenet"))] = "none"

    @at(ModelStage.STEM)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Overwrite the constants of the input layer."""
        mean, std = CONSTANTS[self.stats]
        if len(mean) not in (1, run.data.channels):
            raise NotApplicable(f"stats = '{self.stats}' needs colour images, and these are grey")
        for buffer, values in ((model.normalize.mean, mean), (model.normalize.std, std)):
            buffer.copy_(torch.tensor(values).view(1, -1, 1, 1).expand_as(buffer))
        return model
