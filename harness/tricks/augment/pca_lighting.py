"""PCA lighting: shift the colour of each image along the principal axes of the data's colours."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, NoOp, Run, Search, Trick, at

MOST = 4096
"""Images that the axes are taken from, evenly spread over the training split."""


def axes(pixels: Tensor) -> Tensor:
    """Columns lambda_k e_k of the covariance matrix of pixels (N, C): (C, C), in double precision."""
    covariance: Tensor = pixels.double().T.cov(correction=0).view(pixels.shape[1], -1)
    values, vectors = torch.linalg.eigh(covariance)
    along: Tensor = vectors * values
    return along


class PcaLighting(Trick):
    """Krizhevsky et al. 2012, NIPS, section 4.1."""

    info: ClassVar = Info(
        name="pca_lighting",
        family="augment",
        summary="shift each image's colour along the data's principal colours",
        paper=(
            "Krizhevsky, Sutskever, Hinton 2012, NIPS, section 4.1; in the baseline of He et al. 2018, arXiv:1812.01187"
        ),
        formula=(
            "x = x + sum over k of a_k lambda_k e_k in every pixel, a_k ~ N(0, std) for each image; lambda_k and e_k "
            "are eigenvalues and eigenvectors of the covariance of the training pixels' channels, in [0, 1]"
        ),
        expect=(
            "A mild change of light: the paper reports 1 point of top-1 error on ImageNet, later recipes have dropped "
            "it. With std 0.1 a pixel moves by about 0.01, so that little is to be seen on small data."
        ),
        differs=(
            "The axes are those of the data at hand, from 4096 images at most; recipes copy three numbers of ImageNet. "
            "One channel has one axis, its brightness. The result is not clipped."
        ),
        cost=1.01,
    )
    std: Annotated[float, Field(ge=0), Search(0.02, 1.0, log=True), NoOp(0)] = 0.1

    def prepare(self, run: Run) -> None:
        """Find the axes."""
        rows = run.train.rows
        chosen = torch.linspace(0, len(rows) - 1, min(len(rows), MOST)).round().long()
        pixels = rows.take(chosen).flatten(0, 2) / run.train.peak
        run.state[self.name] = axes(pixels).float().to(run.device)

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw how far each image goes along each axis."""
        n, channels, *_ = batch.x.shape
        a = self.std * torch.randn(n, channels, generator=run.rng(self.name), device=batch.x.device)
        return replace(batch, x=batch.x + (a @ run.state[self.name].T)[..., None, None])
