"""Cross-batch memory: contrast each batch with the embeddings of many batches before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from harness.tricks.contract import PARTS, Batch, Groups, Info, ModelStage, NoOp, Run, Search, Trick, at
from harness.tricks.functional import supervised_contrast
from harness.tricks.modules import FeatureTap, projection

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


class Queue(nn.Module):
    """The last `size` embeddings with their labels and indices, oldest first; index -1 marks an empty place."""

    keys: Tensor
    label: Tensor
    index: Tensor

    def __init__(self, size: int, width: int, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(size, width, device=device))
        self.register_buffer("label", torch.full((size,), -1, device=device))
        self.register_buffer("index", torch.full((size,), -1, device=device))
        self.waiting: tuple[Tensor, Tensor, Tensor] | None = None

    def push(self) -> None:
        """Append the batch that waits, and forget as many of the oldest."""
        if self.waiting is None or not len(self.keys):
            return
        for name, new in zip(("keys", "label", "index"), self.waiting, strict=True):
            setattr(self, name, torch.cat((getattr(self, name), new))[-len(self.keys) :])
        self.waiting = None


class MemoryBank(Trick):
    """Wang et al. 2019, 1912.06798, with the supervised contrastive loss of Khosla et al. 2020, 2004.11362."""

    info: ClassVar = Info(
        name="memory_bank",
        family="consistency",
        summary="contrast each batch with embeddings of the batches before",
        paper=(
            "Wang, Zhang, Huang, Scott 2019, arXiv:1912.06798; loss Khosla et al. 2020, arXiv:2004.11362; idea Wu, "
            "Xiong, Yu, Lin 2018, arXiv:1805.01978"
        ),
        formula=(
            "L + weight mean_i -mean over same-class j of log exp(z_i k_j / tau) / sum_m exp(z_i k_m / tau); keys k "
            "are the batch itself and the last `size` embeddings, without the anchor and its own stale copies"
        ),
        expect=(
            "The paper gains in metric learning, where small batches hold few pairs of a class and features drift "
            "slowly. For classification with few classes expect little over the batch's own pairs; stale keys harm "
            "at high learning rates."
        ),
        differs=(
            "An auxiliary loss on a projection beside the classification loss; supervised contrastive in place of the "
            "paper's contrastive pairs. Until `start`, keys are the batch alone. At most the training split is kept; "
            "no momentum encoder. Under mixing, an image's class is its own label."
        ),
        cost=1.05,
        excludes={PARTS: "images are compared with all of the batch"},
        eager="the queue that it compares with is replaced after each step",
    )
    weight: Annotated[float, Field(ge=0), Search(0.01, 1.0, log=True), NoOp(0)] = 0.1
    tau: Annotated[float, Field(gt=0), Search(0.03, 1.0, log=True)] = 0.1
    size: Annotated[int, Field(ge=0), Search(256, 8192, log=True)] = 1024
    start: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.5)] = 0.05
    width: Annotated[int, Field(ge=1), Search(16, 128, log=True)] = 64

    @at(ModelStage.WRAP)  # after surgery on the head, which would lose the hook
    def model(self, model: Classifier, run: Run) -> Classifier:
        """Tap the features, make the projection and the empty queue."""
        tap, size = FeatureTap(), min(self.size, len(run.train.label))
        model.head.register_forward_pre_hook(tap)
        project = projection(model, self.width, run.rng(self.name))
        run.state[self.name] = {"tap": tap, "projection": project, "queue": Queue(size, self.width, run.device)}
        return model

    def param_groups(self, groups: Groups, run: Run) -> Groups:
        """The projection learns, too."""
        return [*groups, {"params": list(run.state[self.name]["projection"].parameters())}]

    def reduce_loss(self, loss: Tensor, run: Run) -> Tensor:
        """Keep this pass's features before any term runs the network again; the loss stays."""
        run.state[self.name]["tap"].hold()
        return loss

    def loss_terms(self, batch: Batch, logits: Tensor, run: Run) -> dict[str, Tensor]:
        """The contrastive loss against the batch and, from the start on, the queue."""
        state = run.state[self.name]
        queue = state["queue"]
        z = F.normalize(state["projection"](state["tap"].take()))
        keys, label, index = z, batch.label, batch.index
        if run.progress >= self.start:
            keys, label = torch.cat((z, queue.keys)), torch.cat((label, queue.label))
            index = torch.cat((index, queue.index))
        candidate = (index != batch.index[:, None]) & (index >= 0)
        if not run.again:
            queue.waiting = (z.detach(), batch.label, batch.index)
        same = label == batch.label[:, None]
        return {"contrast": self.weight * supervised_contrast(z, keys, same, candidate, self.tau)}

    def after_step(self, run: Run) -> None:
        """Keep the embeddings of the step's first pass."""
        run.state[self.name]["queue"].push()
