"""Masked image modelling: before training, learn to fill in patches that were painted over."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import RATE, Info, InitStage, NotApplicable, Run, Search, Trick, at
from harness.tricks.images import TrainingPixels
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


class MaskedPretraining(Trick):
    """SimMIM, Xie et al. 2021, 2111.09886, for networks with feature maps."""

    info: ClassVar = Info(
        name="masked_pretraining",
        family="distillation",
        summary="first learn to fill in masked patches of the training images",
        paper=(
            "Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu 2021, arXiv:2111.09886 (SimMIM); He et al. 2021, arXiv:2111.06377"
        ),
        formula=(
            "before training, for `epochs` times the recipe's epochs: minimise mean |decoder(f(masked x)) - x| over "
            "masked pixels, f the last feature map and the decoder linear; then train f as usual"
        ),
        expect=(
            "The papers gain with large transformers, long pretraining and far more images than labels. On the same "
            "labelled images, with a small convolutional net, expect nothing or a loss: compare with a baseline that "
            "trains longer by as much. Its time is outside the steps that are measured."
        ),
        differs=(
            "Of SimMIM: masked patches get the mean colour in place of a token that is learned after the patch "
            "embedding, as suits convolutions; patches are a quarter of the side (the paper's 32 of 192 pixels), "
            "their number the nearest whole one (10 of 16, 0.625, where 0.6 is asked for; the paper rounds up); the "
            "target is pixels in [0, 1], not standardised ones; images are drawn with replacement; AdamW at 1e-3 "
            "with batches of the recipe's size, decay 0.05 on all parameters, a cosine without warm-up, no "
            "clipping of gradients; the recipe's augmentation; float32 all through; no decay of the rate by layers "
            "afterwards. Of MAE: the network sees the masked patches too, the decoder is one linear layer, the loss is "
            "absolute, not squared on patches standardised by themselves; MAE masks 0.75."
        ),
        cost=1.5,
    )
    epochs: Annotated[float, Field(gt=0), Search(0.1, 2.0, log=True)] = 0.5
    ratio: Annotated[float, Field(gt=0, lt=1), Search(0.15, 0.9)] = 0.6
    patches: Annotated[int, Field(ge=2), Search(2, 8)] = 4
    lr: Annotated[float, Field(gt=0), Search(1e-4, 1e-2, log=True), RATE] = 1e-3

    @at(InitStage.PRETRAIN)
    def init(self, model: Classifier, run: Run) -> None:
        """Bring the weights to where filling in leaves them."""
        if run.data.size % self.patches:
            raise NotApplicable(f"patches = {self.patches} do not divide images of {run.data.size} pixels")
        if not model.stages:
            raise NotApplicable("needs named stages, and the model has none")
        maps: list[Tensor] = []
        last = model.stage(model.stages[-1])
        with last.register_forward_hook(lambda _module, _args, output: maps.append(output)):
            self._pretrain(model, maps, run)

    def _pretrain(self, model: Classifier, maps: list[Tensor], run: Run) -> None:
        """Train on the training split; each pass of the model appends its last feature map to `maps`."""
        size, channels, g = run.data.size, run.data.channels, run.rng(self.name)
        with torch.no_grad():
            model.eval()(torch.zeros(1, channels, size, size, device=run.device))
        shape = maps.pop().shape
        if len(shape) != 4 or shape[-1] != shape[-2] or size % shape[-1]:
            raise NotApplicable(f"needs square feature maps that divide the image; the last is {tuple(shape)}")
        scale = size // shape[-1]
        decoder = drawn_linear(shape[1], channels * scale**2, g)
        optimizer = torch.optim.AdamW([*model.parameters(), *decoder.parameters()], lr=self.lr, weight_decay=0.05)
        mean = torch.tensor(run.data.mean, device=run.device).view(1, -1, 1, 1)
        source, n = TrainingPixels(run), run.recipe.batch_size
        steps = 1 if run.rehearsal else max(1, round(self.epochs * run.total_steps))
        model.train()
        for step in range(steps):
            rows = torch.randint(len(source.rows), (n,), generator=g, device=run.device)
            x, _ = source.draw(rows, g, size)
            score = torch.rand(n, self.patches, self.patches, generator=g, device=run.device)
            mask = patch_mask(score, self.ratio, size)
            model(torch.where(mask, mean, x))
            output = decoder(maps.pop().permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            optimizer.param_groups[0]["lr"] = self.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            torch.autograd.backward(masked_l1(F.pixel_shuffle(output, scale), x, mask))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
