"""A set of tricks in the one order that their hooks imply, with conflicts refused before training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import permutations
from typing import Any

from torch import Tensor

from harness.errors import UserError
from harness.tricks.contract import HOOKS, Batch, Run, Trick, overrides
from harness.tricks.rules import ROLES


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

    def plays(self, role: str) -> bool:
        """Whether a trick of the arm has that role of `ROLES`."""
        return any(has_role(trick, role) for trick in self.tricks)

    def weigh(self, losses: Tensor, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """Multiply per-example losses (N,) by every trick's example weights, whose mean goes to `run.weight`."""
        weights: Tensor | None = None
        for f in self._bound["example_weights"]:
            own = f(batch, logits, run)
            losses, weights = losses * own, own if weights is None else weights * own
        run.weight = 1.0 if weights is None else weights.detach().mean()
        return losses

    def add_terms(self, loss: Tensor, batch: Batch, logits: Tensor, run: Run) -> Tensor:
        """Add every trick's loss terms, and log each under loss/<trick>.<term>."""
        for f in self._bound["loss_terms"]:
            for term, value in f(batch, logits, run).items():
                run.log(f"loss/{f.__self__.name}.{term}", value)  # type: ignore[attr-defined]
                loss = loss + value
        return loss


def has_role(trick: Trick, role: str) -> bool:
    """Whether the trick does what that role of `ROLES` says."""
    hook, stage, _ = ROLES[role]
    return overrides(trick, hook) and getattr(getattr(trick, hook), "stage", None) == stage


def excluded(trick: Trick) -> dict[str, str]:
    """The tricks and roles beside which this one cannot be, by their words, and why: its own, and its roles'."""
    own = {role: one for role, (_, _, one) in ROLES.items() if one and has_role(trick, role)}
    return own | dict(trick.info.excludes)


def _against(trick: Trick, other: Trick) -> str:
    """Why `trick` does not bear `other`; empty when it does."""
    known = excluded(trick).items()
    return next((why for key, why in known if key == other.name or (key in ROLES and has_role(other, key))), "")


def conflicts(tricks: Sequence[Trick]) -> list[str]:
    """Every reason why these tricks cannot be one arm; empty when they can."""
    clashes = []
    for trick, other in permutations(tricks, 2):
        why = _against(trick, other)
        if why and (trick.name < other.name or not _against(other, trick)):
            clashes.append(f"{trick.name} + {other.name}: {why}")
    for hook, rule in HOOKS.items():
        owners = [t.name for t in tricks if overrides(t, hook)]
        if rule == "slot" and len(owners) > 1:
            clashes.append(f"{' and '.join(owners)} each want to own the {hook.replace('_', ' ')}")
    return clashes
