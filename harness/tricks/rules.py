"""The hooks of a trick, the rule of each when two tricks meet, and the stages of those that have an order.

* slot: one owner; two owners are refused before training;
* pipeline: folded in the order of declared stages (`at`), ties by trick name, never by command line;
* sum, product: order-free;
* union: what any of them asks for, each once;
* notify: called in name order; may write only the trick's own state.

A stage also says what a trick does to a step, which others may be unable to bear: its roles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Literal, NamedTuple


class RecipeStage(IntEnum):
    """Order of `recipe` hooks: a rule that depends on the batch size comes after the batch size."""

    SIZE, RATE = range(2)


class ModelStage(IntEnum):
    """Order of `model` hooks, from the input to the whole; gates come behind branches as they then are."""

    STEM, BLOCK, NORM, ACT, GATE, HEAD, WRAP = range(7)


class InitStage(IntEnum):
    """Order of `init` hooks: weights are set before anything learns from them."""

    DRAW, PRETRAIN = range(2)


class BatchStage(IntEnum):
    """Order of `batch` hooks: hard labels first, then pixels, then mixing, then targets."""

    SELECT, RESIZE, AUGMENT, NOISE, MIX, SOFTEN, ATTACK = range(7)


class LossStage(IntEnum):
    """Order of `reduce_loss` hooks: what has a level of its own comes before factors on the whole."""

    SHAPE, WEIGH = range(2)


class Passes(IntEnum):
    """What the passes of a `gradient` hook are of: each of the whole batch, or each of another part of it."""

    WHOLE, PARTS = range(2)


class GradientStage(IntEnum):
    """Order of `on_gradients` hooks; at DECAY acts what an optimizer would do after adding coupled weight decay."""

    TRANSFORM, CLIP, DECAY = range(3)


Rule = Literal["slot", "pipeline", "sum", "product", "union", "notify"]

HOOKS: Mapping[str, Rule] = {
    "needs": "union",
    "stream_seed": "slot",
    "recipe": "pipeline",
    "dataset": "pipeline",
    "sampler": "slot",
    "sample_transform": "pipeline",
    "model": "pipeline",
    "init": "pipeline",
    "param_groups": "pipeline",
    "optimizer": "slot",
    "wrap_optimizer": "pipeline",
    "schedule": "slot",
    "wrap_schedule": "pipeline",
    "precision": "slot",
    "prepare": "notify",
    "epoch_start": "notify",
    "batch": "pipeline",
    "criterion": "slot",
    "example_weights": "product",
    "reduce_loss": "pipeline",
    "loss_terms": "sum",
    "gradient": "slot",
    "on_gradients": "pipeline",
    "after_step": "notify",
    "epoch_end": "notify",
    "evaluation_weights": "slot",
    "predictor": "pipeline",
    "finalize": "pipeline",
}


def at(stage: IntEnum) -> Callable[[Any], Any]:
    """Declare the stage of a pipeline hook, beside its code."""

    def mark(hook: Any) -> Any:
        hook.stage = stage
        return hook

    return mark


class Role(NamedTuple):
    """What a trick does that implements `hook` at `stage`; `one` says why an arm has at most one such trick."""

    hook: str
    stage: IntEnum
    one: str = ""


MIXING, PARTS = "tricks that mix images", "tricks that split the batch"

ROLES: Mapping[str, Role] = {
    MIXING: Role("batch", BatchStage.MIX, one="each replaces the image by a mixture of its own"),
    PARTS: Role("gradient", Passes.PARTS),
}
"""Roles by the words with which a card's `excludes` names them."""
