"""AugMix: a mixture of an image with chains of operations on it, and predictions that must agree across mixtures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from harness.tricks.contract import Batch, BatchStage, Info, Passes, Run, Search, Trick, at
from harness.tricks.operations import one_each, wide
from harness.tricks.passes import together
from harness.tricks.policies import AUGMIX, AUGMIX_ALL, Space, bearable, changes

DEPTHS = 3
"""Operations of a chain whose depth is drawn: one to three."""


def dirichlet(alpha: float, x: Tensor, parts: int, generator: torch.Generator) -> Tensor:
    """Weights (N, parts) that sum to one for images x (N, ...), from a symmetric Dirichlet distribution."""
    gamma = torch._standard_gamma(x.new_full((len(x), parts), alpha), generator=generator)
    gamma = gamma.clamp(min=1e-30)  # a small alpha may give zeros alone
    return gamma / gamma.sum(1, keepdim=True)


def blend(x: Tensor, chains: Sequence[Tensor], weight: Tensor, share: Tensor) -> Tensor:
    """(1 - share) x + share (sum of weight[:, k] times chain k), for weight (N, K) and share (N,)."""
    mixed = sum((wide(w) * chain for w, chain in zip(weight.T, chains, strict=True)), torch.zeros_like(x))
    return x + wide(share) * (mixed - x)


def jensen_shannon(logits: Tensor) -> Tensor:
    """Mean divergence of three predictions from their mean, and over images; logits (3 N, K) of one view after another.

    (1 / 3) sum over i of KL(p_i || M), M = (p_1 + p_2 + p_3) / 3, in nats.
    """
    parts = F.log_softmax(logits, -1).chunk(3)
    middle = (sum((p.exp() for p in parts), torch.zeros_like(parts[0])) / 3).clamp(min=1e-7, max=1).log()
    divergences = (F.kl_div(middle, p, reduction="batchmean", log_target=True) for p in parts)
    return sum(divergences, logits.new_zeros(())) / 3


class AugMix(Trick):
    """Hendrycks et al. 2019, 1912.02781, section 3 and algorithm 1."""

    info: ClassVar = Info(
        name="augmix",
        family="augment",
        summary="mix an image with chains of operations; predictions on it must agree",
        paper="Hendrycks, Mu, Cubuk, Zoph, Gilmer, Lakshminarayanan 2019, arXiv:1912.02781, section 3, algorithm 1",
        formula=(
            "a(x) = (1 - m) x + m (sum of w_k c_k(x)), w ~ Dirichlet(alpha), m ~ Beta(alpha, alpha), c_k a chain of "
            "depth operations (one to three where depth is 0) of strength U(0.1, severity) of 10. L = CE(p(x), y) + "
            "jsd JS(p(x), p(a(x)), p(a'(x))); with jsd = 0, L = CE(p(a(x)), y)"
        ),
        expect=(
            "Raises accuracy on corrupted images, by 12 points of a ResNet-18 on CIFAR-10-C without its loss term and "
            "by more with it; little on clean ones. Three images in place of one: compare at equal time, too. The "
            "chains themselves double a step of the network for digits on one CPU thread, for each mixture."
        ),
        differs=(
            "Resampling is bilinear and fills with black, strengths are not rounded down but for bits, and a chain "
            "takes images as the arm's other tricks left them. Images that bear less than photographs are moved and "
            "turned no further than that. `enhance` adds torchvision's and timm's brightness, contrast, colour and "
            "sharpness, which the paper leaves out since corruptions of its test are made of them. jsd = 0 is what "
            "torchvision, timm and Composer call AugMix."
        ),
        cost=3.2,
        eager="the host draws how many images get each operation",
    )
    severity: Annotated[float, Field(ge=0.1, le=10), Search(1.0, 10.0)] = 3.0
    width: Annotated[int, Field(ge=1, le=10), Search(1, 5)] = 3
    depth: Annotated[int, Field(ge=0, le=10), Search(0, 4)] = 0
    alpha: Annotated[float, Field(gt=0), Search(0.2, 5.0, log=True)] = 1.0
    jsd: Annotated[float, Field(ge=0), Search(1.0, 20.0)] = 12.0
    enhance: bool = False
    force: bool = False

    def operations(self, run: Run) -> Space:
        """Those that may act on the run's images."""
        return bearable(AUGMIX_ALL if self.enhance else AUGMIX, run.data, self.force)

    def prepare(self, run: Run) -> None:
        """Refuse images on which no operation may act."""
        self.operations(run)

    def chain(self, x: Tensor, run: Run) -> Tensor:
        """Images after a chain of operations, each its own."""
        host, generator = run.numpy(self.name), run.rng(self.name)

        def level(z: Tensor) -> Tensor:
            low = 0.1
            return (low + (self.severity - low) * torch.rand(len(z), generator=generator, device=z.device)) / 10

        steps = changes(self.operations(run), level, generator)

        def links(depth: int) -> Callable[[Tensor], Tensor]:
            def change(z: Tensor) -> Tensor:
                for _ in range(depth):
                    z = one_each(z, steps, host, generator)
                return z

            return change

        depths = [self.depth] if self.depth else range(1, DEPTHS + 1)
        return one_each(x, [links(d) for d in depths], host, generator)

    def view(self, x: Tensor, run: Run) -> Tensor:
        """a(x), drawn for each image."""
        weight = dirichlet(self.alpha, x, self.width, run.rng(self.name))
        share = dirichlet(self.alpha, x, 2, run.rng(self.name))[:, 0]
        return blend(x, self.chain(torch.cat([x] * self.width), run).chunk(self.width), weight, share)

    @at(BatchStage.AUGMENT)
    def batch(self, batch: Batch, run: Run) -> Batch:
        """Without the loss term, the mixture in place of the image."""
        return batch if self.jsd else replace(batch, x=self.view(batch.x, run))

    @at(Passes.WHOLE)
    def gradient(self, closure: Callable[[Batch], Tensor], batch: Batch, run: Run) -> Tensor:
        """One pass over the images and two mixtures of each."""
        if self.jsd:
            views = self.view(torch.cat((batch.x, batch.x)), run).chunk(2)
            batch = together(batch, *(replace(batch, x=x) for x in views))
        run.state[self.name] = True  # a probe of the loss hands in images alone
        loss = closure(batch)
        del run.state[self.name]
        run.backward(loss)
        return loss.detach()

    def _views(self, run: Run) -> bool:
        """Whether the pass is of images and their mixtures."""
        return self.jsd > 0 and self.name in run.state

    def example_weights(self, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """Three for the images and zero for their mixtures, so that the mean is the images' cross-entropy."""
        if not self._views(run):
            return logits.new_ones(len(logits))
        n = len(logits) // 3
        return torch.cat((logits.new_full((n,), 3.0), logits.new_zeros(2 * n)))

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The divergence of the three predictions of each image."""
        return {"jsd": self.jsd * jensen_shannon(logits)} if self._views(run) else {}
