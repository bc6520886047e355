"""Pure functions that several tricks and the baseline share. Schedules map progress in [0, 1) to a factor."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.experiment import Augment, RunSpec
from harness.tricks.contract import DataInfo, Groups, NoEffect, NotApplicable, Run, Schedule

if TYPE_CHECKING:
    from harness.models.classifier import Classifier


def soft_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy -sum_k y_k log p_k of each example, (N,), for soft targets y (N, K)."""
    return -(y * F.log_softmax(logits, dim=-1)).sum(-1)


def constant() -> Schedule:
    """Factor one all through training."""
    return lambda progress: 1.0


def step(milestones: Sequence[float], gamma: float) -> Schedule:
    """Times `gamma` at each milestone, given as fractions of training."""
    return lambda progress: gamma ** sum(progress >= m for m in milestones)


def cosine(final: float = 0.0) -> Schedule:
    """Half a cosine from one to `final` (Loshchilov & Hutter 2016, 1608.03983, without restarts)."""
    return lambda progress: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup(main: Schedule, share: float, tick: float, ramp: Callable[[float], float], prefix: bool = False) -> Schedule:
    """`main` after a warm-up over the first `share` of training; `tick` is one update as a fraction of it.

    `ramp` maps the share of the warm-up that is done after an update, in (0, 1], to a factor on the rate at
    the end of the warm-up: update t of W has factor ramp((t + 1) / W). With `prefix`, `main` starts after
    the warm-up and spans the rest; without, it is what it was.
    """

    def factor(progress: float) -> float:
        if progress < share:
            return ramp(min(1.0, (progress + tick) / share)) * main(0.0 if prefix else share)
        if not prefix:
            return main(progress)
        return main(round((progress - share) / (1 - share), 12))  # so that no milestone is missed by 1e-17

    return factor


def share_of_training(epochs: float, run: Run) -> float:
    """A number of epochs as a fraction of the run.

    Raises:
        NotApplicable: the run is not longer than that.
    """
    if epochs >= run.recipe.epochs:
        raise NotApplicable(f"epochs = {epochs:g} leaves nothing of a run of {run.recipe.epochs} epochs")
    return epochs / run.recipe.epochs


def mix(a: Tensor, partner: Tensor, weight: Tensor | float) -> Tensor:
    """Mix as weight * a + (1 - weight) * a[partner] along the first axis; weight is a scalar or (N,)."""
    if isinstance(weight, Tensor):
        weight = weight.to(a.dtype).view(-1, *[1] * (a.ndim - 1))
    return weight * a + (1 - weight) * a[partner]


def replace_modules(
    root: nn.Module, match: Callable[[nn.Module], bool], build: Callable[[nn.Module], nn.Module], needs: str
) -> int:
    """Replace every submodule that `match` accepts by `build(module)`; return how many.

    Raises:
        NoEffect: nothing matched; the message says that the trick needs `needs`.
    """
    found = [(path, module) for path, module in root.named_modules() if path and match(module)]
    if not found:
        raise NoEffect(f"needs {needs}, and the model has none")
    for path, module in found:
        parent, _, leaf = path.rpartition(".")
        new = build(module)
        new.train(module.training)
        setattr(root.get_submodule(parent), leaf, new)
    return len(found)


def residual_blocks(model: nn.Module) -> list[nn.Module]:
    """Residual blocks of the form conv-norm-act with named parts, in order.

    Ours have conv1, norm1, act1 ... and shortcut; timm's have conv1, bn1, act1 ... and downsample.

    Raises:
        NoEffect: there are none.
    """

    def fits(block: nn.Module) -> bool:
        ours, theirs = hasattr(block, "shortcut"), hasattr(block, "downsample")
        return hasattr(block, "conv1") and ((ours and hasattr(block, "norm1")) or (theirs and hasattr(block, "bn1")))

    found = [module for module in model.modules() if fits(module)]
    if not found:
        raise NoEffect("needs residual blocks of convolutions and norms, and the model has none")
    return found


def conv_norm_names(block: nn.Module) -> list[tuple[str, str]]:
    """Names of a residual block's convolutions, in order, and of the norm after each."""
    norm = "norm" if hasattr(block, "shortcut") else "bn"
    pairs = [(f"conv{i}", f"{norm}{i}") for i in (1, 2, 3)]
    return [pair for pair in pairs if all(isinstance(getattr(block, name, None), nn.Module) for name in pair)]


def module_depths(model: Classifier) -> dict[nn.Module, int]:
    """The stage to which each module of the network belongs: 0 is the stem, len(model.stages) the head.

    What lies between two stages belongs to the later one, what follows the last stage to the head.

    Raises:
        NoEffect: the network has no named stages.
    """
    if not model.stages:
        raise NoEffect("needs named stages, and the model has none")
    head = set(model.head.modules())
    depths: dict[nn.Module, int] = {}
    following = 0
    for path, module in model.net.named_modules():
        own = [i for i, stage in enumerate(model.stages) if f"{path}.".startswith(f"{stage}.")]
        depths[module] = len(model.stages) if module in head else own[0] if own else following
        following = own[0] + 1 if own else following
    return depths


def parameters_by_depth(model: Classifier) -> list[list[nn.Parameter]]:
    """All parameters of the network, from the stem to the head (see `module_depths`)."""
    groups: list[list[nn.Parameter]] = [[] for _ in range(len(model.stages) + 1)]
    for module, depth in module_depths(model).items():
        groups[depth] += module.parameters(recurse=False)
    return groups


def split_groups(groups: Groups, depths: list[list[nn.Parameter]]) -> list[tuple[int, dict[str, Any]]]:
    """Every parameter group in parts of one depth each, with that depth; strangers go to the last depth."""
    last = len(depths) - 1
    depth_of = {p: depth for depth, members in enumerate(depths) for p in members}
    parts: list[tuple[int, dict[str, Any]]] = []
    for group in groups:
        for depth in sorted({depth_of.get(p, last) for p in group["params"]}):
            own = [p for p in group["params"] if depth_of.get(p, last) == depth]
            parts.append((depth, {**group, "params": own}))
    return parts


def drawn_linear(features: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with torch's own distribution, uniform in ±1/sqrt(features), from a stream of one's own."""
    layer = nn.Linear(features, outputs, device="meta").to_empty(device=generator.device)
    for parameter in layer.parameters():
        draw = torch.rand(parameter.shape, generator=generator, device=generator.device)
        parameter.data.copy_((2 * draw - 1) / features**0.5)
    return layer


@torch.no_grad()
def check_forward(model: nn.Module, run: Run, size: int, what: str) -> None:
    """Try one image of `size` pixels a side, in evaluation mode.

    Raises:
        NotApplicable: the network fails on it; `what` says what it cannot bear.
    """
    mode = model.training
    try:
        model.eval()(torch.zeros(1, run.data.channels, size, size, device=run.device))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise NotApplicable(f"the model cannot bear {what}: {str(error).splitlines()[0]}") from error
    finally:
        model.train(mode)


def dropout(x: Tensor, p: float, generator: torch.Generator, whole_channels: bool = False) -> Tensor:
    """Zero each unit, or each channel (N, C), with probability p and scale the rest by 1 / (1 - p)."""
    shape = (*x.shape[:2], *[1] * (x.ndim - 2)) if whole_channels else x.shape
    kept = torch.rand(shape, generator=generator, device=x.device) >= p
    return x * kept.to(x.dtype) / (1 - p)


class DropInput:
    """Forward pre-hook that drops the input of a module while that module trains.

    A hook leaves module paths and `model.head` as other tricks and stored weights know them. It holds no
    state but the run's generator, which copies of the network share.
    """

    def __init__(self, p: float, generator: torch.Generator, whole_channels: bool) -> None:
        self.p, self.generator, self.whole_channels = p, generator, whole_channels

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """The module's new arguments; None keeps them."""
        return (dropout(args[0], self.p, self.generator, self.whole_channels),) if module.training else None

    def __deepcopy__(self, memo: dict[int, Any]) -> DropInput:
        return self


def gradient_norm(parameters: Sequence[Tensor]) -> Tensor:
    """Global L2 norm of all gradients, as a scalar tensor on their device."""
    grads = [p.grad for p in parameters if p.grad is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    return norm


def box_mask(top: Tensor, left: Tensor, height: Tensor, width: Tensor, size: tuple[int, int]) -> Tensor:
    """True inside boxes, given by integers of one shape (...): (..., H, W). They may leave the image."""
    rows = torch.arange(size[0], device=top.device) - top[..., None]
    columns = torch.arange(size[1], device=top.device) - left[..., None]
    in_rows = (rows >= 0) & (rows < height[..., None])
    in_columns = (columns >= 0) & (columns < width[..., None])
    return in_rows[..., :, None] & in_columns[..., None, :]


def windows(padded: Tensor, down: Tensor, right: Tensor, side: int) -> Tensor:
    """A window (N, C, side, side) of each padded image, `down` rows and `right` columns (N,) from its corner."""
    along = torch.arange(side, device=padded.device)
    image = torch.arange(len(padded), device=padded.device).view(-1, 1, 1, 1)
    channel = torch.arange(padded.shape[1], device=padded.device).view(-1, 1, 1)
    return padded[image, channel, (along + down[:, None])[:, None, :, None], (along + right[:, None])[:, None, None, :]]


def affine(angle: Tensor, scale: Tensor, shear: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Matrices (N, 3, 3) for `warp` that scale, shear, turn and then move square images, about their centre.

    Angles are in radians, `angle` counter-clockwise, `shear` of columns; moves are fractions of the side.
    """
    cos, sin, slope = angle.cos(), angle.sin(), shear.tan()
    a, b = (cos - slope * sin) / scale, (-sin - slope * cos) / scale
    c, d = sin / scale, cos / scale
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    x, y = 2 * right, 2 * down  # warp's coordinates span two units
    rows = (a, b, -a * x - b * y, c, d, -c * x - d * y, zero, zero, one)
    return torch.stack(rows, 1).view(-1, 3, 3)


def warp(x: Tensor, matrix: Tensor) -> Tensor:
    """Resample images (N, C, H, W) bilinearly, black outside.

    `matrix` (N, 3, 3) takes homogeneous output coordinates to input ones; (x, y) goes from (-1, -1), the
    upper left corner of the image, to (1, 1).
    """
    n, _, height, width = x.shape
    base = x.new_ones(height, width, 3)
    base[..., 0] = (2 * torch.arange(width, device=x.device) + 1) / width - 1
    base[..., 1] = ((2 * torch.arange(height, device=x.device) + 1) / height - 1)[:, None]
    grid = (base.view(1, -1, 3) @ matrix.to(x.dtype).mT).view(n, height, width, 3)
    return F.grid_sample(x, grid[..., :2] / grid[..., 2:], mode="bilinear", padding_mode="zeros", align_corners=False)


def augmented(x: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Images as the recipe augments them: shifted, mirrored, cropped and turned, each by draws of its own."""
    side = x.shape[-1]
    u = torch.rand(8, len(x), generator=generator, device=x.device)
    border = round(augment.shift * side)
    if border:
        down, right = (u[:2] * (2 * border + 1)).long()
        x = windows(F.pad(x, [border] * 4), down, right, side)
    if augment.flip:
        x = torch.where((u[2] < 0.5).view(-1, 1, 1, 1), x.flip(-1), x)
    if augment.rotation or augment.scale_min < 1:
        zero = torch.zeros_like(u[0])
        turn = affine((2 * u[3] - 1) * math.radians(augment.rotation), zero + 1, zero, zero, zero)
        area = augment.scale_min + (1 - augment.scale_min) * u[4]
        aspect = torch.exp((2 * u[5] - 1) * math.log(4 / 3)) if augment.scale_min < 1 else zero + 1
        width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
        crop = torch.diag_embed(torch.stack((width, height, zero + 1), 1))
        crop[:, 1, 2] = (2 * u[6] - 1) * (1 - height)
        crop[:, 0, 2] = (2 * u[7] - 1) * (1 - width)
        x = warp(x, turn @ crop)
    return x


class TrainingPixels:
    """The training split on the run's device, for tricks that need other images than the batch's."""

    def __init__(self, run: Run) -> None:
        train, classes = run.train, len(run.data.classes)
        self.images, self.peak, self.augment = train.images.to(run.device), train.peak, run.recipe.augment
        y = F.one_hot(train.label, classes).float() if train.y is None else train.y
        self.y = y.to(run.device)

    def draw(self, positions: Tensor, generator: torch.Generator, side: int) -> tuple[Tensor, Tensor]:
        """Pixels (N, C, side, side), augmented as the recipe says, and targets (N, K) at positions of the split."""
        x = self.images[positions].permute(0, 3, 1, 2).float() / self.peak
        x = augmented(x, self.augment, generator)
        if x.shape[-1] != side:  # another trick has resized the batch
            x = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
        return x, self.y[positions]

    def state_dict(self) -> dict[str, Any]:
        """Nothing: it is made again from the data."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def check_allowed(what: str, value: float, limit: float, force: bool) -> None:
    """Refuse to change images by more than their classes bear.

    Raises:
        NotApplicable: `value` exceeds the data set's limit and is not forced.
    """
    if value > limit and not force:
        raise NotApplicable(
            f"{what} = {value:g} may change the class of images that bear {limit:g}; force = true does it anyway"
        )


MIXERS = (
    "copy_paste",
    "cutmix",
    "mixup",
    "mixup_cross_batch",
    "mixup_input_only",
    "mixup_knn",
    "mixup_latent",
    "mixup_multi",
    "mixup_plus_label_smoothing",
    "mixup_same_class",
    "mosaic",
)
"""Tricks that replace each image, or its features, by a mixture with others; an arm has at most one."""


def other_mixers(name: str) -> dict[str, str]:
    """The mixers that mixer `name` cannot be combined with, and why."""
    return {other: "each replaces the image by a mixture of its own" for other in MIXERS if other != name}


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch-normalisation layers that keep running statistics."""
    found = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [m for m in found if m.track_running_stats]


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Forward passes inside normalise as before but leave running statistics, and their counters, alone."""
    norms = batch_norms(model)
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@torch.no_grad()
def recompute_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set running statistics to their mean over batches, with all else in evaluation mode; stays so."""
    model.eval()
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the cumulative average
        norm.train()
    for x in batches if norms else ():
        model(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


class WeightAverage:
    """A running average of a network: parameters and floating buffers averaged, integer buffers copied.

    It holds a copy of the network from the start, so that a checkpoint finds a place to be loaded into, but
    counts no network until the first update, which must have weight one.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.count = 0

    @torch.no_grad()
    def update(self, model: nn.Module, weight: float) -> None:
        """Move the average towards `model`: average + weight * (model - average)."""
        mine = [*self.model.parameters(), *self.model.buffers()]
        new = [t.detach() for t in (*model.parameters(), *model.buffers())]
        floating = [i for i, t in enumerate(mine) if t.is_floating_point()]
        torch._foreach_lerp_([mine[i] for i in floating], [new[i] for i in floating], weight)
        for a, b in zip(mine, new, strict=True):
            if not a.is_floating_point():
                a.copy_(b)
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights and the number of networks in them."""
        return {"model": self.model.state_dict(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.model.load_state_dict(state["model"])
        self.count = state["count"]


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² KL(softmax(teacher / T) || softmax(logits / T)), mean over the batch, for logits (N, K)."""
    student, target = (F.log_softmax(z / temperature, dim=-1) for z in (logits, teacher))
    return temperature**2 * F.kl_div(student, target, reduction="batchmean", log_target=True)


def wider_baseline(run: Run, width_factor: int, epochs_factor: int) -> RunSpec:
    """A teacher: the run without tricks on the same data and seed, with wider layers and more epochs.

    Raises:
        NotApplicable: the model has no width that could be multiplied.
    """
    spec = run.spec
    model, recipe = spec.model, spec.recipe
    if width_factor > 1:
        if model.name.startswith("timm/"):
            raise NotApplicable(f"{model.name} has no width to multiply; set teacher_width_factor = 1")
        # The first convolution is the stem, whose channels are the width of the model.
        stem = next(m for m in run.model.modules() if isinstance(m, nn.Conv2d))
        model = model.model_copy(update={"width": stem.out_channels * width_factor})
    recipe = recipe.model_copy(update={"epochs": recipe.epochs * epochs_factor})
    arm = spec.arm.model_copy(update={"tricks": ()})
    return spec.model_copy(update={"model": model, "recipe": recipe, "arm": arm})


def random_view(x: Tensor, shift: float, noise: float, generator: torch.Generator) -> Tensor:
    """Each image moved by up to `shift` of its side, black moving in, plus Gaussian pixel noise of std `noise`."""
    side = x.shape[-1]
    border = round(shift * side)
    place = torch.rand(2, len(x), generator=generator, device=x.device)
    grain = torch.randn(x.shape, generator=generator, device=x.device)
    down, right = (place * (2 * border + 1)).long()
    return windows(F.pad(x, [border] * 4), down, right, side) + noise * grain


def attack_radius(eps: float | None, data: DataInfo) -> float:
    """Largest change of a pixel by an attack: `eps`, or by default 8/255 for colour and 0.1 for grey images.

    A change by 8/255 hardly moves a classifier of grey digits.
    """
    return eps if eps is not None else 8 / 255 if data.channels == 3 else 0.1


def input_gradient(run: Run, x: Tensor, y: Tensor) -> Tensor:
    """Gradient of each image's cross-entropy with respect to its pixels, (N, C, H, W).

    Gradients of parameters and running statistics stay as they are. The sum over the batch, unlike its
    mean, leaves small gradients some range in half precision.
    """
    x = x.detach().requires_grad_()
    with frozen_statistics(run.model):
        with run.autocast():
            logits = run.model(x)
        (gradient,) = torch.autograd.grad(soft_cross_entropy(logits.float(), y).sum(), x)
    return gradient


def projection(model: Classifier, width: int, generator: torch.Generator) -> nn.Sequential:
    """Two linear layers with a ReLU between them for the head's input, drawn from `generator` on its device.

    Raises:
        NotApplicable: the head is not linear, so the number of its features is unknown.
    """
    features = getattr(model.head, "in_features", None)
    if not isinstance(features, int):
        raise NotApplicable("needs a linear head, to know the number of features, and the model has none")
    first, last = (drawn_linear(features, outputs, generator) for outputs in (features, width))
    return nn.Sequential(first, nn.ReLU(), last)


class FeatureTap:
    """Forward pre-hook on the head that keeps its input, the penultimate features (N, D), of training passes.

    Register it at `ModelStage.WRAP`, call `hold` in `reduce_loss` and `take` in `loss_terms`: between the two,
    other tricks' terms may make passes of their own. Copies of the network get a tap of their own.
    """

    def __init__(self) -> None:
        self.last: Tensor | None = None
        self.held: Tensor | None = None

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        """See the head's input."""
        if module.training and torch.is_grad_enabled():
            self.last = args[0]

    def hold(self) -> None:
        """Keep the features of the pass that was last."""
        self.held, self.last = self.last, None

    def take(self) -> Tensor:
        """The kept features, in float32, which are then forgotten."""
        assert self.held is not None, "no training pass since the features were taken"
        features, self.held, self.last = self.held, None, None
        return features.float()

    def __deepcopy__(self, memo: dict[int, Any]) -> FeatureTap:
        return FeatureTap()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: it is empty between steps."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def remember(value: Any) -> Callable[[], Any]:
    """A function that brings a value back to what it is now, in place where others may hold it."""
    if hasattr(value, "state_dict"):
        saved = copy.deepcopy(value.state_dict())

        def load() -> Any:
            value.load_state_dict(saved)
            return value

        return load
    if isinstance(value, Tensor):
        tensor = value.detach().clone()
        return lambda: value.copy_(tensor)
    if isinstance(value, dict):
        parts = {key: remember(part) for key, part in value.items()}

        def refill() -> Any:
            value.clear()
            value.update({key: part() for key, part in parts.items()})
            return value

        return refill
    if isinstance(value, list | tuple):
        items = [remember(item) for item in value]
        return lambda: type(value)(item() for item in items)
    return lambda: value


@contextmanager
def preserved(run: Run) -> Iterator[None]:
    """A probe may train inside: weights, buffers, optimizer, streams, logs and tricks' state are put back after it."""
    back = [remember(t) for t in (*run.model.parameters(), *run.model.buffers())]
    back += [remember(run.optimizer), remember(run.state)]
    streams = {name: stream.get_state() for name, stream in run.streams.items()}
    hosts = {name: copy.deepcopy(host.bit_generator.state) for name, host in run.numpy_streams.items()}
    mode, logged = run.model.training, dict(run.logged)
    try:
        yield
    finally:
        with torch.no_grad():
            for restore in back:
                restore()
        run.optimizer.zero_grad(set_to_none=True)
        run.model.train(mode)
        run.logged = logged
        # Streams that are new were made inside; made again, they start where they should.
        run.streams = {name: run.streams[name] for name in streams}
        run.numpy_streams = {name: run.numpy_streams[name] for name in hosts}
        for name, state in streams.items():
            run.streams[name].set_state(state)
        for name, host in hosts.items():
            run.numpy_streams[name].bit_generator.state = host
