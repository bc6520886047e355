"""A first layer that whitens patches of the image, from their covariance in the training split."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from harness.tricks.blocks import drawn_conv, stem_convolution
from harness.tricks.contract import Info, ModelStage, NotApplicable, Run, Search, Trick, at
from harness.tricks.modules import check_forward, plain_batches

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

IMAGES = 5000
"""From which the covariance is taken at most, as in the author's code."""


def whitening_kernels(x: Tensor, side: int, eps: float) -> Tensor:
    """Filters (2 D, C, side, side), D = C side^2, that whiten the patches of images (N, C, H, W), and their negatives.

    They are the eigenvectors of the second moments of the patches, each over the root of its eigenvalue plus eps,
    largest first.
    """
    patches = F.unfold(x, side).transpose(1, 2).flatten(0, 1).double()
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + eps).sqrt()).T.flip(0).to(x.dtype)
    filters = filters.view(-1, x.shape[1], side, side)
    return torch.cat((filters, -filters))


class Whitening(nn.Module):
    """A convolution by fixed filters, with a bias that may learn, and a ReLU behind it."""

    kernel: Tensor

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel)
        self.bias = nn.Parameter(kernel.new_zeros(len(kernel)))
        self.act: nn.Module = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 2 C side^2, H - side + 1, W - side + 1)."""
        out: Tensor = self.act(F.conv2d(x, self.kernel, self.bias))
        return out


class WhiteningInit(Trick):
    """Jordan 2024, 2404.00498, section 3.2; Page 2018 (myrtle.ai)."""

    info: ClassVar = Info(
        name="whitening_init",
        family="architecture",
        summary="put a fixed layer before the stem that whitens patches",
        paper="Jordan 2024, arXiv:2404.00498, section 3.2; Page 2018 (myrtle.ai, How to train your ResNet 8)",
        formula=(
            "relu(conv(x, ±V / sqrt(lambda + eps)) + b) before the first convolution, V and lambda of the second "
            "moments of kernel x kernel patches of training images; only b learns, for the first `bias` of training"
        ),
        expect=(
            "The largest single gain of the fast trainings of CIFAR-10, where first layers have little time: epochs "
            "saved at equal accuracy. Small in longer training; grey images have few directions in a patch."
        ),
        differs=(
            "ReLU where the paper has GELU. The first convolution is drawn anew for its new number of inputs. Maps are "
            "kernel - 1 pixels smaller, as there."
        ),
        cost=1.1,
    )
    kernel: Annotated[int, Field(ge=2, le=5), Search(2, 3)] = 2
    eps: Annotated[float, Field(gt=0), Search(1e-5, 1e-2, log=True)] = 5e-4
    bias: Annotated[float, Field(ge=0, le=1), Search(0.0, 1.0)] = 0.3

    @at(ModelStage.STEM)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Put the layer there, and widen the input of the first convolution."""
        path, conv = stem_convolution(model)
        if conv.kernel_size[0] != conv.kernel_size[1] or not isinstance(conv.padding, tuple):
            raise NotApplicable("needs a first convolution with a square kernel and numbers for its padding")
        batches = islice(plain_batches(run), max(1, IMAGES // run.recipe.batch_size))
        with torch.no_grad():
            x = torch.cat([model.normalize(batch) for batch in batches])
            layer = Whitening(whitening_kernels(x, self.kernel, self.eps)).to(run.device)
        layer.bias.requires_grad_(self.bias > 0)
        channels, side = (len(layer.kernel), conv.out_channels), conv.kernel_size[0]
        first = drawn_conv(*channels, side, run, self.name, conv.stride[0], conv.padding[0])
        model.net.set_submodule(path, nn.Sequential(layer, first))
        run.state[self.name] = path
        check_forward(model, run, run.data.size, "maps that are smaller by a patch")
        return model

    def epoch_start(self, run: Run) -> None:
        """Stop training the bias."""
        if run.epoch >= self.bias * run.recipe.epochs:
            stem = run.model.net.get_submodule(run.state[self.name])
            next(stem.parameters()).requires_grad_(False)
