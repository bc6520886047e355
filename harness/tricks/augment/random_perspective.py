"""Random perspective: see each image from a random side."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from harness.tricks.contract import Batch, BatchStage, Info, NoOp, Run, Search, Trick, at
from harness.tricks.functional import table
from harness.tricks.images import check_allowed, warp

CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))


def homography(moved: Tensor) -> Tensor:
    """Matrices (N, 3, 3) that take four moved corners (N, 4, 2) back to those of the square, in `CORNERS`' order."""
    u, v = table(CORNERS, moved).expand_as(moved).unbind(-1)
    x, y = moved.unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    # u = (a x + b y + c) / (g x + h y + 1), v = (d x + e y + f) / (g x + h y + 1) is linear in a ... h.
    first = torch.stack((x, y, one, zero, zero, zero, -u * x, -u * y), -1)
    second = torch.stack((zero, zero, zero, x, y, one, -v * x, -v * y), -1)
    solution: Tensor = torch.linalg.solve_ex(torch.cat((first, second), 1), torch.cat((u, v), 1)).result
    return torch.cat((solution, one[:, :1]), 1).view(-1, 3, 3)


class RandomPerspective(Trick):
    """Folklore: an op of torchvision and of augmentation libraries."""

    info: ClassVar = Info(
        name="random_perspective",
        family="augment",
        summary="see some images from a random side",
        paper="none: RandomPerspective of torchvision, with its parameters",
        formula=(
            "with probability p per image each corner moves inwards by U(0, distortion / 2) of the side along both "
            "axes, and the image with them, by the projective map; black outside; y unchanged"
        ),
        expect=(
            "Helps where objects are flat and seen from many sides (signs, documents); near nothing for centred digits "
            "and for photographs, whose views vary by themselves."
        ),
        differs=(
            "The default distortion is 0.2, not 0.5; drawn per image. Refused if corners move beyond the data set's "
            "shift, by themselves: the recipe's own shift comes on top."
        ),
        cost=1.02,
    )
    distortion: Annotated[float, Field(ge=0, le=0.5), Search(0.05, 0.5), NoOp(0)] = 0.2
    p: Annotated[float, Field(ge=0, le=1), Search(0.1, 1.0), NoOp(0)] = 0.5
    force: bool = False

    def prepare(self, run: Run) -> None:
        """Refuse corners that move too far."""
        check_allowed("distortion", self.distortion, 2 * run.data.invariances.shift, self.force)

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Draw corners per image, and resample."""
        n, device, generator = len(batch.x), batch.x.device, run.rng(self.name)
        inwards = self.distortion * torch.rand(n, 4, 2, generator=generator, device=device)
        chosen = torch.rand(n, generator=generator, device=device) < self.p
        moved = table(CORNERS, batch.x) * (1 - inwards * chosen[:, None, None])
        return replace(batch, x=warp(batch.x, homography(moved)))
