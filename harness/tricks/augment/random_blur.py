"""Random blur: smooth some images with a Gaussian of random width."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from harness.tricks.contract import Batch, BatchStage, Info, NoOp, Run, Search, Trick, at
from harness.tricks.operations import blur


class RandomBlur(Trick):
    """Chen et al. 2020, 2002.05709, appendix A (SimCLR)."""

    info: ClassVar = Info(
        name="random_blur",
        family="augment",
        summary="smooth some images by a random amount",
        paper="Chen, Kornblith, Norouzi, Hinton 2020, arXiv:2002.05709, appendix A",
        formula="with probability p per image x = x under a Gaussian of deviation U(0, sigma) times the side",
        expect=(
            "Helps under blur and resizing at test time, and in contrastive training, as in the paper. Costs clean "
            "accuracy of supervised nets on tiny images, whose strokes are a pixel wide."
        ),
        differs=(
            "The paper's deviation is U(0.1, 2) pixels of 224; here it is a share of the side, larger for tiny images. "
            "The kernel is as wide as the image and renormalised at the border, where others cut it off and reflect."
        ),
        cost=1.02,
    )
    sigma: Annotated[float, Field(gt=0, le=1), Search(0.005, 0.075, log=True)] = 0.05
    p: Annotated[float, Field(ge=0, le=1), Search(0.1, 1.0), NoOp(0)] = 0.5

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw a deviation per image, and smooth."""
        u, chosen = torch.rand(2, len(batch.x), generator=run.rng(self.name), device=batch.x.device)
        sigma = u * (chosen < self.p) * self.sigma * batch.x.shape[-1]
        return replace(batch, x=blur(batch.x, sigma))
