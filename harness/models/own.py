"""Networks of the user's: called, looked at, and held to what every run needs.

A network is called as `Net(classes=10, channels=3, size=32, **model.args)`, a class or a function that gives a module.
The module maps normalised images (N, channels, size, size) to logits (N, classes) and ends in one layer, which is found
by its output. `stages`, a list of paths from the input on, is taken from it where it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness import plugins
from harness.data.types import DataInfo
from harness.errors import UserError
from harness.experiment import Model
from harness.models.classifier import Classifier, Normalize


def build_own(part: plugins.Part, model: Model, data: DataInfo) -> Classifier:
    """The network of a file or of an installed package; the caller seeds torch's generator.

    Raises:
        UserError: it cannot be made, or cannot be used; the line names it, the value and the rule.
    """
    what = f"model.name = '{model.name}'"
    if model.width is not None:
        raise UserError(f"model.width = {model.width}: {model.name} takes its arguments from model.args")
    classes, channels, size = len(data.classes), data.channels, data.size
    try:
        net = part.value(classes=classes, channels=channels, size=size, **model.args)
    except Exception as error:
        raise UserError(
            f"{what}: called with classes={classes}, channels={channels}, size={size} and args {model.args}, it fails: "
            f"{plugins.complaint(error)}"
        ) from None
    if not isinstance(net, nn.Module):
        raise UserError(f"{what}: it gives a {type(net).__name__}, and a network is a torch.nn.Module")
    head = _head(net, what, torch.zeros(2, channels, size, size), classes)
    if not any(p.requires_grad for p in net.parameters()):
        raise UserError(f"{what}: it has no parameters that could be trained")
    return Classifier(net, Normalize(data.mean, data.std), _stages(net, head, what), head)


@torch.no_grad()
def _head(net: nn.Module, what: str, x: Tensor, classes: int) -> str:
    """The path of the layer whose output the logits are, after the logits were looked at."""
    given: list[tuple[str, object]] = []

    def keeper(path: str) -> Callable[..., None]:
        return lambda _module, _args, out: given.append((path, out))

    leaves = [(path, m) for path, m in net.named_modules() if path and not any(True for _ in m.children())]
    mode = net.training
    net.eval()
    handles = [module.register_forward_hook(keeper(path)) for path, module in leaves]
    try:
        logits: object = net(x)
    except Exception as error:
        raise UserError(
            f"{what}: it fails on images of shape {tuple(x.shape)}: {plugins.complaint(error)}; it must take "
            "(N, channels, size, size)"
        ) from None
    finally:
        for handle in handles:
            handle.remove()
    check_logits(logits, (len(x), classes), what)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        again = net(x)
    if not torch.equal(logits, again):  # type: ignore[arg-type]
        raise UserError(
            f"{what}: in evaluation mode it gives other logits for the same images the second time; draw and count "
            "only where self.training is true"
        )
    net.train(mode)
    found = [path for path, out in given if out is logits]
    if not found:
        raise UserError(
            f"{what}: no layer of it gives the logits as its output, so tricks could not find the last one; end with "
            "a layer that is a submodule, such as self.head = nn.Linear(features, classes)"
        )
    return found[-1]


def check_logits(logits: object, wanted: Sequence[int], what: str) -> None:
    """Refuse what is no tensor of logits of the wanted shape, (N, K).

    Raises:
        UserError: it is not; `what` begins the sentence.
    """
    if isinstance(logits, Tensor) and tuple(logits.shape) == tuple(wanted) and logits.is_floating_point():
        return
    gives = f"a tensor of {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    if isinstance(logits, Tensor) and not logits.is_floating_point():
        gives += f" of {logits.dtype}"
    images = "an image" if wanted[0] == 1 else f"{wanted[0]} images"
    raise UserError(
        f"{what} gives {gives} for {images}, and runs need one logit for each of the {wanted[1]} classes; "
        "choose another model or model.args"
    )


def _stages(net: nn.Module, head: str, what: str) -> list[str]:
    said: Any = getattr(net, "stages", None)
    if isinstance(said, list | tuple) and all(isinstance(path, str) for path in said):
        known = dict(net.named_modules())
        missing = [path for path in said if path not in known]
        if missing:
            raise UserError(f"{what}: its stages name {missing[0]}, which is no submodule; it has {', '.join(known)}")
        return list(said)
    return stages_of(net, head)


def stages_of(net: nn.Module, head: str) -> list[str]:
    """Paths of the parts between input and head: children with a convolution or another matrix, in their order.

    Of a network whose layers all lie in one child, that child's children.
    """
    prefix = ""
    while True:
        root = net.get_submodule(prefix) if prefix else net
        parts = [
            f"{prefix}.{name}".lstrip(".")
            for name, child in root.named_children()
            if any(p.ndim > 1 for p in child.parameters())
        ]
        above = [path for path in parts if head == path or head.startswith(f"{path}.")]
        before = [path for path in parts if path not in above]
        if len(before) == 1 and list(net.get_submodule(before[0]).named_children()):
            prefix = before[0]
        elif not before and above and above[0] != head:
            prefix = above[0]
        else:
            return before
