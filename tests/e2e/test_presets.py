"""A published recipe taken apart, from the command line to its page, on real digits."""

import json

import pytest

from harness.experiment import find_experiment
from harness.store.reader import read_manifest, read_study
from webpage import Page

SMALL = ("--set", "recipe.epochs=2", "--set", "data.train_size=64", "--set", "data.test_size=100", "--workers", 1)


@pytest.fixture(scope="module")
def recipe(cli):
    """Eight ingredients, of which digits refuse one."""
    done = cli.here(
        "ablate", "preset:rsb-a3", "--design", "leave_one_out", "--seeds", 1, "--set", "lamb.lr=0.01", *SMALL
    )
    assert done.returncode in (0, 1), done.stderr
    return done


NAME = "digits-noisy-leave-one-out-preset-rsb-a3"


def test_what_cannot_act_is_left_out_and_said(cli, recipe):
    manifest = read_manifest(cli.folder / "results" / NAME)

    assert "test_resolution: scale = 1.0536 of 8 pixels" in " ".join(manifest.notes)
    assert not any("test_resolution" in arm.tricks for arm in manifest.arms)
    assert manifest.factors[:2] == ("lamb", "cosine_decay+lr_warmup")
    assert all(arm.skipped is None for arm in manifest.arms)


def test_values_are_the_presets_and_typed_ones_win(cli, recipe):
    whole = read_manifest(cli.folder / "results" / NAME).arms[1].tricks

    assert whole["lamb"]["lr"] == 0.01
    assert whole["lamb"]["weight_decay"] == 0.02
    assert whole["lr_warmup"]["epochs"] == 0.1  # a twentieth of two


def test_the_command_names_the_preset_and_finds_the_study(cli, recipe):
    manifest = read_manifest(cli.folder / "results" / NAME)
    assert "ablate preset:rsb-a3" in manifest.command

    again = cli.here(*manifest.command.split()[1:], "--workers", 1)
    assert f"{NAME}: all" in again.stderr, again.stderr


def test_the_page_has_their_figures_beside_ours(cli, recipe):
    page = Page((cli.folder / "reports" / f"{NAME}.html").read_text())
    rows = next(rows for _, rows in page.tables if rows[0][0] == "Ingredient")
    here = {row[0]: row[2] for row in rows}

    assert "Beside the published recipe: ResNet strikes back, procedure A3" in page.text
    assert here["lamb"] == "lr 0.01, weight_decay 0.02"
    assert here["test_resolution"] == "left out"
    assert rows[-1][3] == "78.10"


BASED = """
[study]
seeds = 1
base = ["preset:airbench94", "sam"]
tricks = ["ema"]
"""


def test_a_preset_may_be_what_all_runs_have(cli):
    file = cli.folder / "based.toml"
    text = find_experiment("digits-noisy").read_text()
    file.write_text(text.replace("[study]\nseeds = 12\n", BASED))
    done = cli.here("run", "based.toml", "--name", "based", "--set", "logit_scale.scale=0.2", *SMALL)
    assert done.returncode in (0, 1), done.stderr
    manifest = read_manifest(cli.folder / "results" / "based")
    rows = read_study(cli.folder / "results" / "based").runs
    tricks = [{t["name"]: t["params"] for t in json.loads(spec)["arm"]["tricks"]} for spec in rows["spec"]]

    assert set(rows["status"]) == {"ok"}
    assert "alternating_flip" in " ".join(manifest.notes)  # a mirrored digit is another one
    for found in tricks:
        assert {"sam", "lookahead", "whitening_init", "logit_scale"} <= found.keys()
        assert "alternating_flip" not in found
        assert found["logit_scale"]["scale"] == 0.2
    assert sorted("ema" in found for found in tricks) == [False, True]
