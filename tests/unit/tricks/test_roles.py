from dataclasses import replace
from itertools import combinations
from typing import ClassVar

import pytest
import torch

from harness.errors import UserError
from harness.testing import tiny_info, tiny_spec
from harness.tricks import registry
from harness.tricks.contract import MIXING, BatchStage, Info, InitStage, Run, Trick, at
from harness.tricks.rules import ROLES
from harness.tricks.stack import Stack, conflicts, has_role

MIXERS = [name for name in sorted(registry.builtin()) if has_role(registry.make(name), MIXING)]


class Half(Trick):
    """Somebody else's mixer, which knows of no other."""

    info: ClassVar = Info(name="half", family="test", summary="s", paper="p", formula="f", expect="e")

    @at(BatchStage.MIX)
    def batch(self, batch, run):
        return replace(batch, x=(batch.x + batch.x.flip(0)) / 2, y=(batch.y + batch.y.flip(0)) / 2)


def test_mixers_are_known_by_the_stage_of_their_hook():
    assert MIXERS == [
        "copy_paste", "cutmix", "fmix", "gridmix", "mix_switch", "mixup", "mixup_cross_batch",
        "mixup_input_only", "mixup_knn", "mixup_latent",
        "mixup_multi", "mixup_plus_label_smoothing", "mixup_same_class", "mosaic", "resizemix",
        "saliencymix", "smoothmix",
    ]  # fmt: skip


@pytest.mark.parametrize("pair", list(combinations(MIXERS, 2)), ids="+".join)
def test_an_arm_has_at_most_one_mixer(pair):
    with pytest.raises(UserError) as error:
        Stack(registry.make(name) for name in pair)

    assert f"{' + '.join(pair)}: each replaces the image by a mixture of its own" in str(error.value)


def test_a_mixer_of_somebody_else_is_one_of_them():
    clashes = conflicts([Half(), registry.make("mixup"), registry.make("center_loss")])

    assert clashes == [
        "half + mixup: each replaces the image by a mixture of its own",
        "center_loss + half: a mixture belongs to no class's center",
        "center_loss + mixup: a mixture belongs to no class's center",
    ]


@pytest.mark.parametrize(
    ("whole", "why"),
    [
        ("flooding", "the level belongs to the loss of the whole batch, not of its parts"),
        ("memory_bank", "images are compared with all of the batch"),
        ("mixup_latent", "the partners in a layer are images of the whole batch"),
        ("simcse_aux", "images are compared with all of the batch"),
        ("soft_dice_loss", "the score belongs to the whole batch, not to its parts"),
        ("triplet_aux", "images are compared with all of the batch"),
    ],
)
def test_a_loss_that_looks_across_the_batch_is_refused_where_passes_are_of_parts(whole, why):
    tricks = [registry.make(whole), registry.make("gradient_accumulation")]

    assert conflicts(tricks) == conflicts(tricks[::-1]) == [f"{whole} + gradient_accumulation: {why}"]


@pytest.mark.parametrize("name", sorted(registry.builtin()))
def test_what_a_trick_excludes_is_a_trick_or_a_role(name):
    assert set(registry.make(name).info.excludes) <= {*registry.builtin(), *ROLES}


@pytest.mark.parametrize("name", ["identity_init", "init_sweep", "kaiming_init", "tanh_hidden", "zero_gamma"])
def test_weights_are_drawn_before_anything_is_pretrained(name):
    assert registry.load(name).init.stage is InitStage.DRAW


def test_a_run_begins_at_nothing():
    spec = tiny_spec()
    run = Run(spec=spec, recipe=spec.recipe, data=tiny_info(), device=torch.device("cpu"), stage=None)

    assert (run.step, run.epoch, run.steps_per_epoch, run.total_steps) == (0, 0, 0, 0)
    assert not run.rehearsal
    assert not run.again
    assert run.weight == 1.0
