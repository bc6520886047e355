"""A set of tricks in the one order that their hooks imply, with conflicts refused before training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from harness.errors import UserError
from harness.tricks.contract import HOOKS, Batch, Run, Trick, overrides


class Stack:
    """The tricks of one arm. Hooks are bound once; the loop calls them through the rules of `HOOKS`.

    Raises:
        UserError: two tricks own one slot or exclude each other; the message names every clash and why.
    """

    def __init__(self, tricks: Iterable[Trick] = ()) -> None:
        self.tricks = tuple(sorted(tricks, key=lambda t: t.name))
        clashes = conflicts(self.tricks)
        if clashes:
            raise UserError("these tricks cannot be combined: " + "; ".join(clashes))
        self._bound = {hook: self._bind(hook) for hook in HOOKS}

    def _bind(self, hook: str) -> tuple[Callable[..., Any], ...]:
        bound = [getattr(t, hook) for t in self.tricks if overrides(t, hook)]
        # sorted() is stable: ties keep the name order of self.tricks.
        return tuple(sorted(bound, key=lambda f: getattr(f, "stage", 0)))

    def hooks(self, hook: str) -> tuple[Callable[..., Any], ...]:
        """All implementations of a hook in calling order."""
        return self._bound[hook]

    def slot(self, hook: str, default: Callable[..., Any]) -> Callable[..., Any]:
        """The owner of a slot, or the default."""
        return next(iter(self._bound[hook]), default)

    def fold(self, hook: str, value: Any, *context: Any) -> Any:
        """Run a pipeline: each hook gets the value that the one before returned."""
        for f in self._bound[hook]:
            value = f(value, *context)
        return value

    def notify(self, hook: str, *args: Any) -> None:
        """Call every implementation."""
        for f in self._bound[hook]:
            f(*args)

    def weigh(self, losses: Tensor, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """Multiply per-example losses (N,) by every trick's example weights."""
        for f in self._bound["example_weights"]:
            losses = losses * f(batch, logits, run)
        return losses

    def add_terms(self, loss: Tensor, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """Add every trick's loss terms, and log each under loss/<trick>.<term>."""
        for f in self._bound["loss_terms"]:
            for term, value in f(batch, logits, run).items():
                run.log(f"loss/{f.__self__.name}.{term}", value)  # type: ignore[attr-defined]
                loss = loss + value
        return loss


def conflicts(tricks: Sequence[Trick]) -> list[str]:
    """Every reason why these tricks cannot be one arm; empty when they can."""
    clashes = []
    names = {t.name for t in tricks}
    for trick in tricks:
        for other, why in trick.info.excludes.items():
            mutual = trick.name in next((t.info.excludes for t in tricks if t.name == other), {})
            if other in names and (trick.name < other or not mutual):
                clashes.append(f"{trick.name} + {other}: {why}")
    for hook, rule in HOOKS.items():
        owners = [t.name for t in tricks if overrides(t, hook)]
        if rule == "slot" and len(owners) > 1:
            clashes.append(f"{' and '.join(owners)} each want to own the {hook.replace('_', ' ')}")
    return clashes
