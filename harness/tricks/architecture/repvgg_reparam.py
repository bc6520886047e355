"""Structural re-parameterisation: train parallel branches, fold them into one convolution at the end."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.tricks.contract import Choice, Info, ModelStage, NoEffect, NotApplicable, Run, Trick, at
from harness.tricks.modules import conv_norm_names, replace_modules, residual_blocks

if TYPE_CHECKING:
    from harness.models.classifier import Classifier

TOLERANCE = 1e-4
"""Largest difference of logits, relative to the largest one, that folding and its rounding may make."""


class RepBranches(nn.Module):
    """norm(conv(x)) for each convolution, of which the first is 3x3, and norm(x) for None, added up."""

    def __init__(self, main: nn.Conv2d, extra: Sequence[nn.Conv2d | None], norms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.out_channels = main.out_channels  # as a convolution has, for tricks that ask the block
        self.convs = nn.ModuleList([main, *(nn.Identity() if conv is None else conv for conv in extra)])
        self.norms = nn.ModuleList(norms)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        out: Tensor = self.norms[0](self.convs[0](x))
        for conv, norm in list(zip(self.convs, self.norms, strict=True))[1:]:
            out = out + norm(conv(x))
        return out


def folded(branches: nn.Module) -> nn.Conv2d:
    """The one 3x3 convolution with bias that equals the branches in evaluation mode."""
    assert isinstance(branches, RepBranches)
    main = branches.convs[0]
    assert isinstance(main, nn.Conv2d)
    weight = torch.zeros_like(main.weight, dtype=torch.float64)
    bias = weight.new_zeros(main.out_channels)
    for conv, norm in zip(branches.convs, branches.norms, strict=True):
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        kernel = conv.weight if isinstance(conv, nn.Conv2d) else nn.init.dirac_(torch.empty_like(weight), main.groups)
        if kernel.shape[-1] == 1:
            kernel = F.pad(kernel, [1, 1, 1, 1])
        scale = norm.weight / (norm.running_var.double() + norm.eps).sqrt()
        weight += kernel * scale.view(-1, 1, 1, 1)
        bias += norm.bias - norm.running_mean * scale
    out = copy.deepcopy(main)
    out.weight, out.bias = nn.Parameter(weight.to(main.weight)), nn.Parameter(bias.to(main.weight))
    return out


class RepvggReparam(Trick):
    """Ding et al. 2021, 2101.03697, section 3."""

    info: ClassVar = Info(
        name="repvgg_reparam",
        family="architecture",
        summary="train 3x3, 1x1 and identity in parallel, then fold them into one 3x3",
        paper="Ding, Zhang, Ma, Han, Ding, Sun 2021, arXiv:2101.03697",
        formula=(
            "norm(conv3x3(x)) becomes norm(conv3x3(x)) + norm(conv1x1(x)) + norm(x), the last where shapes agree; "
            "folded after training into one convolution with the same outputs"
        ),
        expect=(
            "The paper gains some points in plain nets, most of it from the identity branch. Residual blocks have "
            "an identity already, so expect little; the folded net predicts as fast as the baseline or faster."
        ),
        differs=(
            "Inside residual blocks, with their shortcuts, where the paper's net is plain. The 3x3 branch keeps "
            "the baseline's weights, the 1x1 is He-normal (fan out). Weight decay is the recipe's."
        ),
        cost=1.4,
        excludes={
            "bn_after_relu": "a norm after the activation cannot be folded into the convolution",
            "group_norm": "only batch norm can be folded into the convolution",
            "stride_conv_vs_maxpool": "pooling inside a branch cannot be folded into one convolution",
            "zero_gamma": "a branch then ends in several norms, and no single scale is its last",
        },
    )
    branches: Annotated[Literal["1x1", "identity", "1x1+identity"], Choice(("1x1", "identity", "1x1+identity"))] = (
        "1x1+identity"
    )

    @at(ModelStage.BLOCK)
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Add the branches to every 3x3 convolution and its norm in residual blocks."""
        count = 0
        for block in residual_blocks(model):
            for name, norm_name in conv_norm_names(block):
                conv, norm = getattr(block, name), getattr(block, norm_name)
                if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
                    continue
                if conv.kernel_size != (3, 3) or conv.dilation != (1, 1) or conv.padding != (1, 1):
                    continue
                extra = self._extra(conv, run.rng(self.name))
                norms = [norm, *(copy.deepcopy(norm) for _ in extra)]
                setattr(block, name, RepBranches(conv, extra, norms))
                setattr(block, norm_name, nn.Identity())
                count += len(extra)
        if not count:
            raise NoEffect(f"no 3x3 convolution with batch norm in a residual block takes a branch '{self.branches}'")
        return model

    def _extra(self, conv: nn.Conv2d, generator: torch.Generator) -> list[nn.Conv2d | None]:
        extra: list[nn.Conv2d | None] = []
        if "1x1" in self.branches:
            one = nn.Conv2d(
                conv.in_channels, conv.out_channels, 1, max(conv.stride), groups=conv.groups, bias=False, device="meta"
            ).to_empty(device=conv.weight.device)
            nn.init.kaiming_normal_(one.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            extra.append(one)
        if "identity" in self.branches and conv.in_channels == conv.out_channels and max(conv.stride) == 1:
            extra.append(None)
        return extra

    def prepare(self, run: Run) -> None:
        """Refuse early what could not be folded late."""
        found = [m for m in run.model.modules() if isinstance(m, RepBranches)]
        if not all(isinstance(norm, nn.BatchNorm2d) for m in found for norm in m.norms):
            raise NotApplicable("only batch norm can be folded into the convolution, and another trick replaced it")

    @torch.no_grad()
    def finalize(self, model: Classifier, run: Run) -> Classifier:
        """Fold, and check that outputs stay what they were."""
        fused = copy.deepcopy(model)
        replace_modules(fused, lambda m: isinstance(m, RepBranches), folded, "branches to fold")
        images = run.train.images[:32].to(run.device, torch.float64).permute(0, 3, 1, 2) / run.train.peak
        expected, got = (copy.deepcopy(net).double().eval()(images) for net in (model, fused))
        error = float((got - expected).abs().max() / expected.abs().max().clamp(min=1))
        if not error <= TOLERANCE:
            raise ArithmeticError(f"folding the branches changed the outputs by {error:.1e}")
        return fused
