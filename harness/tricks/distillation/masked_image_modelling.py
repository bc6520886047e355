"""Masked image modelling: learn to fill in patches that were painted over, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Batch, Groups, Info, ModelStage, NotApplicable, Passes, Run, Search, Trick, at
from harness.tricks.functional import table
from harness.tricks.modules import drawn_linear

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def patch_mask(score: Tensor, ratio: float, size: int) -> Tensor:
    """True on the patches with the lowest scores, `ratio` of each image's, at least one and never all.

    score: (N, P, P), one for each patch. Returns (N, 1, size, size); P divides size.
    """
    n, per_side, _ = score.shape
    count = min(max(1, round(ratio * per_side**2)), per_side**2 - 1)
    rank = score.flatten(1).argsort(1).argsort(1).view(n, 1, per_side, per_side)
    return F.interpolate((rank < count).float(), size=size).bool()


def masked_l1(output: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error over the masked pixels of images (N, C, H, W), of which there must be some."""
    mask = mask.expand_as(x)
    return ((output - x).abs() * mask).sum() / mask.sum()


class MaskedImageModelling(Trick):
    """The pretraining of SimMIM, Xie et al. 2021, 2111.09886, for networks with feature maps."""

    info: ClassVar = Info(
        name="masked_image_modelling",
        family="distillation",
        kind="protocol",
        summary="learn to fill in masked patches, and no classes: the stage of masked_pretraining",
        paper=(
            "Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu 2021, arXiv:2111.09886 (SimMIM); He et al. 2021, arXiv:2111.06377"
        ),
        formula="minimise mean |decoder(f(masked x)) - x| over masked pixels, f the last feature map, decoder linear",
        expect="By itself it is no classifier: the head stays as it was drawn, and accuracy is that of chance.",
        differs=(
            "Of SimMIM: masked patches get the mean colour in place of a token that is learned after the patch "
            "embedding, as suits convolutions; patches are a quarter of the side (the paper's 32 of 192 pixels), "
            "their number the nearest whole one (10 of 16, 0.625, where 0.6 is asked for; the paper rounds up); the "
            "target is pixels in [0, 1], not standardised ones. Of MAE: the network sees the masked patches too, the "
            "decoder is one linear layer, the loss is absolute, not squared on patches standardised by themselves; MAE "
            "masks 0.75."
        ),
    )
    ratio: Annotated[float, Field(gt=0, lt=1), Search(0.15, 0.9)] = 0.6
    patches: Annotated[int, Field(ge=2), Search(2, 8)] = 4

    @at(ModelStage.WRAP)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Draw the decoder, which is no part of the network."""
        size = run.data.size
        if size % self.patches:
            raise NotApplicable(f"patches = {self.patches} do not divide images of {size} pixels")
        if not model.stages:
            raise NotApplicable("needs named stages, and the model has none")
        mode = model.training
        with torch.no_grad():
            shape = last_map(model.eval(), torch.zeros(1, run.data.channels, size, size, device=run.device)).shape
        model.train(mode)
        if len(shape) != 4 or shape[-1] != shape[-2] or size % shape[-1]:
            raise NotApplicable(f"needs square feature maps that divide the image; the last is {tuple(shape)}")
        outputs = run.data.channels * (size // shape[-1]) ** 2
        run.state[self.name] = {"decoder": drawn_linear(shape[1], outputs, run.rng(self.name))}
        return model

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """Train the decoder, too."""
        return [*groups, {"params": list(run.state[self.name]["decoder"].parameters())}]

    @at(Passes.WHOLE)
    def gradient(self, closure: Callable[[Batch], Tensor], batch: Batch, run: Run) -> Tensor:
        """Fill in masked patches of the batch, whose labels are not looked at."""
        x, g, size = batch.x, run.rng(self.name), batch.x.shape[-1]
        score = torch.rand(len(x), self.patches, self.patches, generator=g, device=x.device)
        mask = patch_mask(score, self.ratio, size)
        mean = table(run.data.mean, x).view(1, -1, 1, 1)
        with run.autocast():
            features = last_map(run.model, torch.where(mask, mean, x))
            output = run.state[self.name]["decoder"](features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        scale = size // features.shape[-1]
        loss = masked_l1(F.pixel_shuffle(output.float(), scale), x, mask)
        run.backward(loss)
        return loss


def last_map(model: Classifier, x: Tensor) -> Tensor:
    """The last feature map for pixels x, (N, C, H, W) where the network is convolutional."""
    maps: list[Tensor] = []
    with model.stage(model.stages[-1]).register_forward_hook(lambda _module, _args, output: maps.append(output)):
        model(x)
    return maps[0]
