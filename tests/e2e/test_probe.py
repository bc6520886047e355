"""An arm that collapses at the rate of the recipe is trained again at lower ones, and the study says what came."""

import json

import pytest

import harness
from harness.store.reader import read_manifest

PLUGIN = """
from typing import ClassVar

from harness.tricks.contract import Info, Trick


class Fragile(Trick):
    info: ClassVar = Info(name="fragile", family="mine", summary="s", paper="p", formula="f", expect="e")

    def reduce_loss(self, loss, run):
        return loss * 0.0 if run.recipe.lr > 0.15 else loss
"""
"""Learns nothing where the rate is above 0.15: so at 0.5 and at a third of it, and not at a tenth."""

WORDS = (
    "ablate", "fragile", "--plugin", "fragile.py", "--seeds", 5, "--workers", 1, "--name", "probed",
    "--set", "recipe.epochs=24", "--set", "recipe.lr=0.5", "--set", "data.test_size=100",
)  # fmt: skip


@pytest.fixture(scope="module")
def probed(cli):
    (cli.folder / "fragile.py").write_text(PLUGIN)
    done = cli.here(*WORDS, "--json")
    assert done.returncode == 0, done.stderr
    return done


def test_an_arm_that_collapses_is_trained_at_lower_rates_on_three_seeds(cli, probed):
    manifest = read_manifest(cli.folder / "results" / "probed")
    third, tenth = json.loads(probed.stdout)["probes"]

    assert "probed: 6 runs, 0 done already, 6 to train" in probed.stderr
    assert "at lower learning rates, because they collapsed: fragile\n" in probed.stderr
    assert [(p.arm, p.factor, list(p.run_ids)) for p in manifest.probes] == [
        ("fragile", 1 / 3, [0, 1, 2]), ("fragile", 1 / 10, [0, 1, 2]),
    ]  # fmt: skip
    assert (third["n"], third["collapsed"], tenth["n"], tenth["collapsed"]) == (3, True, 3, False)
    assert tenth["mean"] > third["mean"] + 20


def test_its_sentence_says_at_which_rates_and_no_effect_counts_the_probes(cli, probed):
    (fragile,) = json.loads(probed.stdout)["effects"]

    assert "It hurts at this rate; also at a third of it (test accuracy " in fragile["verdict"]["sentence"]
    assert ", not at a tenth of it (test accuracy " in fragile["verdict"]["sentence"]
    assert (fragile["n"], fragile["verdict"]["kind"]) == (5, "hurts")


def test_the_same_command_trains_nothing_and_says_the_same(cli, probed):
    again = cli.here(*WORDS, "--json")

    assert "all 10 runs are done already" in again.stderr
    assert "all 6 runs are done already" in again.stderr, "a plug-in has no short cut"
    assert json.loads(again.stdout)["probes"] == json.loads(probed.stdout)["probes"]


def test_python_shows_the_probes_apart_from_the_runs(cli, probed):
    study = harness.load("probed", cli.folder / "results")

    assert study.runs.pivot(index="seed", columns="arm", values="test_accuracy").shape == (5, 2)
    assert study.probes[["arm", "n", "collapsed"]].values.tolist() == [["fragile", 3, True], ["fragile", 3, False]]


def test_without_probes_nothing_more_is_trained_and_the_page_says_at_this_rate(cli, probed):
    words = [*WORDS[: WORDS.index("probed")], "alone", *WORDS[WORDS.index("probed") + 1 :]]
    alone = cli.here(*words, "--no-probe")
    manifest = read_manifest(cli.folder / "results" / "alone")

    assert "all 10 runs are done already" in alone.stderr
    assert "lower learning rates" not in alone.stderr
    assert "It hurts at this rate; lower ones were not tried." in alone.stdout
    assert "--no-probe" in manifest.command
    assert manifest.probes == ()
