import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.testing import TrickConformance
from harness.tricks import cards, index, registry
from harness.tricks.contract import Info
from harness.tricks.kinds import KINDS, TrickKind, joint_kind

NO_ADDITIONS = {
    "removal": ["batch_norm", "input_standardization", "relu", "skip_connection", "stride_conv_vs_maxpool",
                "tanh_hidden"],
    "value": ["batch_size", "bn_momentum", "linear_lr_scaling", "lr_range_test", "weight_decay"],
    "fault": ["log_softmax_ce"],
    "fine-tuning": ["bn_freeze", "discriminative_lr", "freeze_layers", "gradual_unfreezing"],
    "protocol": ["channels_last", "gradient_accumulation", "gradient_checkpointing", "inference_fusion",
                 "masked_image_modelling", "mixed_precision", "progressive_resizing", "pseudo_label", "torch_compile",
                 "train_longer"],
    "control": ["erm_baseline", "placebo"],
}  # fmt: skip
"""All bundled tricks that are no additions. CONTRIBUTING says why."""


def test_every_trick_has_the_kind_that_was_decided():
    found = {}
    for name in sorted(registry.builtin()):
        found.setdefault(registry.load(name).info.kind, []).append(name)

    additions = found.pop("addition")
    assert found == NO_ADDITIONS
    assert len(additions) == len(registry.builtin()) - 28


def test_every_kind_has_a_meaning_and_an_example_in_the_words_for_contributors():
    assert tuple(KINDS) == get_args(TrickKind)
    words = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()
    rows = {kind: row for kind, row in re.findall(r"^\| ([a-z-]+) \|.*?\| ([^|]*) \|$", words, re.M) if kind in KINDS}

    assert list(rows) == list(KINDS)
    for kind, names in NO_ADDITIONS.items():
        assert sorted(re.findall(r"`(\w+)`", rows[kind])) == names


def test_a_trick_that_says_nothing_is_an_addition():
    assert Info("x", "core", "s", "p", "f", "e").kind == "addition"


@pytest.mark.parametrize(
    ("kinds", "joint"),
    [
        ([], "addition"),
        (["addition", "addition"], "addition"),
        (["addition", "removal"], "removal"),
        (["fault", "removal"], "fault"),
    ],
)
def test_an_arm_is_an_addition_if_all_its_tricks_are(kinds, joint):
    assert joint_kind(kinds) == joint


def test_the_suite_refuses_a_kind_that_is_none():
    suite = TrickConformance()
    suite.trick = type("Bad", (registry.load("mixup"),), {"info": registry.load("mixup").info._replace(kind="bonus")})

    with pytest.raises(AssertionError):
        suite.test_card_is_complete()


def test_the_index_is_current():
    assert index.FILE.read_text(encoding="utf-8") == cards.text(), "a card changed: run `make cards`"


def test_kinds_are_known_without_torch_and_a_trick_of_somebody_else_is_an_addition():
    code = (
        "import sys; from harness.tricks.index import kind_of\n"
        "print(kind_of(['mixup']), kind_of(['mixup', 'batch_norm']), kind_of(['mine']), 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.split() == ["addition", "removal", "addition", "False"]


def listed(*arguments):
    return CliRunner().invoke(app, ["tricks", *arguments])


def test_the_list_can_be_of_one_kind_and_one_family():
    assert re.findall(r"^losses +\n  (\w+)", listed("--kind", "fault").output, re.M) == ["log_softmax_ce"]
    both = listed("--kind", "value", "--family", "optimization", "--json").output
    assert re.findall(r'"name": "(lr_\w+)"', both) == ["lr_range_test"]


def test_a_card_and_the_list_say_the_kind():
    assert f"removal: {KINDS['removal']}"[:40] in listed("batch_norm").output
    assert '"kind": "removal"' in listed("batch_norm", "--json").output
    assert "(fault)" in " ".join(listed("--kind", "fault").output.split())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--kind", "remval"], "--kind remval: no such kind. Known: addition, condition, control, d"),
        (["--kind", "fault", "--family", "augment"], "--kind fault: no such kind in the family augment. Known: add"),
    ],
)
def test_an_unknown_kind_is_refused_with_those_that_there_are(arguments, why):
    out = listed(*arguments)

    assert why in str(out.exception)
