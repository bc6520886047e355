"""Copy-paste without masks: paste the ink of another glyph, or the salient box of another picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from harness.tricks.contract import Batch, BatchStage, Choice, Info, NoOp, NotApplicable, Run, Search, Trick, at
from harness.tricks.functional import mix
from harness.tricks.images import affine, box_mask, warp

JITTER = {"none": (1.0, 1.0), "standard": (0.8, 1.25), "large": (0.1, 2.0)}
"""Scales of the pasted image, uniform between these ends (section 3)."""


def outside(x: Tensor) -> Tensor:
    """True where an augmentation has left an image black: from an edge on, and a pixel further, (N, H, W)."""
    black = (x == 0).all(1).byte()
    runs = [black.cumprod(d) for d in (1, 2)] + [black.flip(d).cumprod(d).flip(d) for d in (1, 2)]
    reached = torch.stack(runs).amax(0)
    return max_pool2d(reached[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0


def saliency(x: Tensor, out: Tensor) -> Tensor:
    """Distance of each slightly blurred pixel from the image's mean colour, none where `out` holds, (N, H, W)."""
    inside = (~out)[:, None].to(x.dtype)
    mean = (x * inside).sum((2, 3), keepdim=True) / inside.sum((2, 3), keepdim=True).clamp(min=1)
    near, share = (avg_pool2d(z, 3, stride=1, padding=1) for z in (x * inside, inside))
    return (near / share.clamp(min=0.01) - mean).square().sum(1) * inside[:, 0]


def salient_box(x: Tensor, area: float) -> Tensor:
    """True in a box of a share of the area around the most salient pixel of each image, but outside, (N, H, W)."""
    height, width = x.shape[-2:]
    out = outside(x)
    peak = saliency(x, out).flatten(1).argmax(1)
    rows, columns = (torch.full_like(peak, round(side * area**0.5)) for side in (height, width))
    return box_mask(peak // width - rows // 2, peak % width - columns // 2, rows, columns, (height, width)) & ~out


def jittered(x: Tensor, draws: Tensor, low: float, high: float, flip: bool) -> Tensor:
    """Images (N, C, H, W) scaled by `low` to `high`, at a place that is drawn, half of them mirrored where `flip`.

    A smaller image lies anywhere on black, of a larger one any window is seen. draws: (4, N), uniform in [0, 1).
    """
    zero, scale = torch.zeros_like(draws[0]), low + (high - low) * draws[0]
    right, down = ((2 * u - 1) * (1 - scale).abs() / 2 for u in draws[1:3])
    x = torch.where((draws[3] < 0.5).view(-1, 1, 1, 1), x.flip(-1), x) if flip else x
    return x if low == high == 1 else warp(x, affine(zero, scale, zero, right, down))


def paste(batch: Batch, pasted: Tensor, partner: Tensor, mask: Tensor, share: Tensor) -> Batch:
    """Pixels of `pasted` where mask (N, H, W) is true; the target of `partner` (N,) weighs `share` (N,)."""
    return replace(batch, x=torch.where(mask[:, None], pasted, batch.x), y=mix(batch.y, partner, 1 - share))


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
            "with probability prob per batch x = z inside a mask, x_i outside; z is x_j, j a random permutation, "
            "scaled by U(0.1, 2) (jitter), mirrored where allowed, at a random place. ink: the mask is z > tau; "
            "y_j weighs its share of all ink that shows; box: a box of area 1 - w, w ~ Beta(1, 1), around the most "
            "salient pixel of z, cut to what z shows, y_j weighs the mask's share of the image"
        ),
        expect=(
            "The paper's gains are for detection and segmentation; SaliencyMix gains a little over CutMix on natural "
            "images. Two digits on top of each other may look like a third: expect harm there."
        ),
        differs=(
            "No masks of objects exist in classification: ink or a salient box stands for them, one object of an "
            "image, where the paper pastes a random subset. Only the pasted image is jittered: the other is as the "
            "recipe augments it. Scaling is bilinear. The paper has no `prob`; 0.5 is SaliencyMix's on CIFAR. "
            "Saliency is the distance from the mean colour (after Achanta et al. 2009, CVPR), not OpenCV's static "
            "saliency, and each image has its own box. `mask = 'auto'` is ink for one channel and box for colour. "
            "What is black from an edge on counts as filled in by an augmentation."
        ),
        cost=1.01,
        version=2,
    )
    prob: Annotated[float, Field(ge=0, le=1), Search(0.25, 1.0), NoOp(0)] = 0.5
    tau: Annotated[float, Field(ge=0, lt=1), Search(0.1, 0.6)] = 0.3
    jitter: Annotated[Literal["none", "standard", "large"], Choice(("none", "standard", "large"))] = "large"
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
        """Draw the partners, their jitter and, for boxes, one area, and paste."""
        host, x, generator = run.numpy(self.name), batch.x, run.rng(self.name)
        area, skip = float(host.random()), host.random() >= self.prob
        partner = torch.randperm(len(x), generator=generator, device=x.device)
        draws = torch.rand(4, len(x), generator=generator, device=x.device)
        if skip:
            return batch
        pasted = jittered(x[partner], draws, *JITTER[self.jitter], run.data.invariances.flip)
        if self._ink(run):
            mask = pasted.amax(1) > self.tau
            return paste(batch, pasted, partner, mask, ink_share(mask, x.amax(1) > self.tau))
        box = salient_box(pasted, area)
        return paste(batch, pasted, partner, box, box.float().mean((1, 2)))
