"""Copy-paste without masks: paste the ink of another glyph, or the salient box of another picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import avg_pool2d

from harness.tricks.contract import Batch, BatchStage, Choice, Info, NoOp, NotApplicable, Run, Search, Trick, at
from harness.tricks.functional import mix
from harness.tricks.images import box_mask


def saliency(x: Tensor) -> Tensor:
    """Distance of each slightly blurred pixel from the image's mean colour, (N, H, W)."""
    blurred = avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return (blurred - x.mean((2, 3), keepdim=True)).square().sum(1)


def salient_box(x: Tensor, area: float) -> Tensor:
    """True in a box of a share of the area around the most salient pixel of each image, (N, H, W)."""
    height, width = x.shape[-2:]
    peak = saliency(x).flatten(1).argmax(1)
    rows, columns = (torch.full_like(peak, round(side * area**0.5)) for side in (height, width))
    return box_mask(peak // width - rows // 2, peak % width - columns // 2, rows, columns, (height, width))


def paste(batch: Batch, partner: Tensor, mask: Tensor, share: Tensor) -> Batch:
    """Pixels of `partner` (a permutation, (N,)) where mask (N, H, W) is true; its target weighs `share` (N,)."""
    x = torch.where(mask[:, None], batch.x[partner], batch.x)
    return replace(batch, x=x, y=mix(batch.y, partner, 1 - share))


def ink_share(mask: Tensor, ink: Tensor) -> Tensor:
    """Share (N,) of pasted pixels `mask` (N, H, W) in all that shows: they and the image's own ink beside them."""
    pasted, own = mask.sum((1, 2)), (ink & ~mask).sum((1, 2))
    return pasted / (pasted + own).clamp(min=1)


class CopyPaste(Trick):
    """Ghiasi et al. 2020, 2012.07177, without masks; for pictures Uddin et al. 2020, 2006.01791 (SaliencyMix)."""

    info: ClassVar = Info(
        name="copy_paste",
        family="mixing",
        summary="paste the ink or the salient box of another image",
        paper=(
            "Ghiasi, Cui, Srinivas, Qian, Lin, Cubuk, Le, Zoph 2020, arXiv:2012.07177 (segmentation); boxes: Uddin, "
            "Monira, Shin, Chung, Bae 2020, arXiv:2006.01791"
        ),
        formula=(
            "with probability prob per batch x = x_j inside a mask, x_i outside, j a random permutation. ink: the "
            "mask is x_j > tau, y_j weighs its share of all ink that shows; box: a box of area 1 - w, "
            "w ~ Beta(1, 1), around the most salient pixel of x_j, y_j weighs the box's share of the image"
        ),
        expect=(
            "The paper's gains are for detection and segmentation; SaliencyMix gains a little over CutMix on natural "
            "images. Two digits on top of each other may look like a third: expect harm there."
        ),
        differs=(
            "No masks of objects exist in classification: ink or a salient box stands for them. Objects keep "
            "place and scale. Saliency is the distance from the mean colour (after Achanta et al. 2009, CVPR), "
            "not OpenCV's static saliency. `mask = 'auto'` is ink for one channel and box for colour."
        ),
        cost=1.01,
    )
    prob: Annotated[float, Field(ge=0, le=1), Search(0.25, 1.0), NoOp(0)] = 0.5
    tau: Annotated[float, Field(ge=0, lt=1), Search(0.1, 0.6)] = 0.3
    mask: Annotated[Literal["auto", "ink", "box"], Choice(("auto", "ink", "box"))] = "auto"

    def _ink(self, run: Run) -> bool:
        return self.mask == "ink" or (self.mask == "auto" and run.data.channels == 1)

    def prepare(self, run: Run) -> None:
        """Refuse ink where the paper is brighter than the ink."""
        mean = sum(run.data.mean) / len(run.data.mean)
        if self._ink(run) and mean > 0.5:
            raise NotApplicable(f"ink is bright on black here, and these images are bright on average ({mean:.2f})")

    @at(BatchStage.MIX)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw the partners and, for boxes, one area, and paste."""
        host, x = run.numpy(self.name), batch.x
        area, skip = float(host.random()), host.random() >= self.prob
        partner = torch.randperm(len(x), generator=run.rng(self.name), device=x.device)
        if skip:
            return batch
        if self._ink(run):
            ink = x.amax(1) > self.tau
            return paste(batch, partner, ink[partner], ink_share(ink[partner], ink))
        box = salient_box(x[partner], area)
        return paste(batch, partner, box, box.float().mean((1, 2)))
