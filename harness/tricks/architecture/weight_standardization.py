"""Weight standardisation: filters have mean zero and variance one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from harness.tricks.contract import Info, ModelStage, Run, Trick, at
from harness.tricks.modules import replace_modules

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

EPS = 1e-6
"""Added to the variance, as in timm."""


def standardized(weight: Tensor) -> Tensor:
    """Each filter of (C_out, ...) minus its mean, divided by its standard deviation."""
    variance, mean = torch.var_mean(weight, tuple(range(1, weight.ndim)), correction=0, keepdim=True)
    filters: Tensor = (weight - mean) * (variance + EPS).rsqrt()
    return filters


class StandardizedConv2d(nn.Conv2d):
    """A convolution by its standardised filters; the weights that are trained are those below."""

    def forward(self, x: Tensor) -> Tensor:
        """As a convolution."""
        out: Tensor = self._conv_forward(x, standardized(self.weight), self.bias)
        return out


def standardize(conv: nn.Module) -> nn.Module:
    """The convolution with the same weights, standardised."""
    assert isinstance(conv, nn.Conv2d)
    new = StandardizedConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]  # typed as tuples of any length
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        conv.groups,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
        device="meta",
    )
    new.weight, new.bias = conv.weight, conv.bias
    return new


class WeightStandardization(Trick):
    """Qiao et al. 2019, 1903.10520, section 3.2."""

    info: ClassVar = Info(
        name="weight_standardization",
        family="architecture",
        summary="convolve by filters of mean zero and variance one",
        paper="Qiao, Wang, Liu, Shen, Yuille 2019, arXiv:1903.10520, section 3.2",
        formula="conv(x, (w - mean w) / sqrt(var w + eps)) for every filter; w is trained",
        expect=(
            "Meant to go with group_norm, for small batches, where the paper reaches and passes batch normalisation. "
            "With batch normalisation, which has the same effect on scales, tenths or nothing."
        ),
        differs=(
            "eps is added to the variance, as in timm. Filters of a single weight, which have no variance, stay. Norms "
            "stay as they are: add group_norm for the paper's pairing."
        ),
        cost=1.05,
        excludes={"repvgg_reparam": "it would fold the weights below the standardised ones"},
    )

    @at(ModelStage.NORM)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Swap every plain convolution."""

        def fits(module: nn.Module) -> bool:
            return type(module) is nn.Conv2d and module.weight[0].numel() > 1

        replace_modules(model, fits, standardize, "convolutions")
        return model
