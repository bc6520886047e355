"""Plans, sequential seeds, conditions and comparisons from the command line."""

import json

import pytest

from harness.store.reader import read_manifest

TINY = ("--set", "recipe.epochs=4", "--set", "data.test_size=300")


ONE = ("--workers", 1)
"""One process for the runs, because importing torch in a second one costs more than these train."""


@pytest.fixture(scope="module")
def five(cli):
    """The study whose runs those below take over."""
    done = cli("ablate", "mixup", "erm_baseline", "--seeds", 5, "--name", "five", *ONE, *TINY, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def conditions(cli):
    """Two studies with and without wrong labels."""
    asked = ("--cross", "data.label_noise=0,0.3", "--name", "noise")
    done = cli.here("ablate", "label_smoothing", "--seeds", 2, *asked, *ONE, *TINY)
    assert done.returncode == 0, done.stderr
    return done


def test_a_plan_without_stored_runs_times_a_pilot_and_says_what_it_cannot_know(cli):
    out = cli("plan", "mixup", "--seeds", 3, *TINY, "--results", "empty")
    assert out.returncode == 0, out.stderr

    assert "to train: 6 runs" in out.stdout
    assert "a pilot of" in out.stdout
    assert "fewer than the 5 that a verdict needs" in out.stdout
    assert "find effects from 3.26 standard deviations of the paired difference" in out.stdout
    assert not (cli.folder / "empty").exists(), "a plan writes nothing"


def test_a_plan_with_stored_runs_says_what_it_can_detect(cli, five):
    out = cli.here("plan", "mixup", "--seeds", 8, *TINY, "--json")
    ahead = json.loads(out.stdout)

    assert (ahead["runs"], ahead["missing"]) == (16, 6)
    assert "stored baseline runs" in ahead["seconds_from"]
    assert ahead["sd_pairs"] == 5, "the inactive arm does not count"
    assert ahead["sd"] > 0
    assert ahead["smallest"] > ahead["margin"]


def test_auto_seeds_stop_at_the_limit(cli, five):
    out = cli.here("plan", "mixup", "--seeds", "auto", "--max-seeds", 12, *TINY, "--json")

    assert json.loads(out.stdout)["seeds"] == 12


def test_until_decided_stops_at_the_first_look_that_decides(cli, five):
    out = cli.here("ablate", "erm_baseline", "--until-decided", "--max-seeds", 10, "--name", "until", *TINY)
    assert out.returncode == 0, out.stderr
    manifest = read_manifest(cli.folder / "results" / "until")

    assert manifest.seeds == (0, 1, 2, 3, 4)
    assert manifest.alpha < 0.05, "each look is stricter, so that all looks keep the level"
    assert any("looks at 5, 10 seeds" in note for note in manifest.notes)


def test_conditions_are_studies_of_their_own_and_are_compared(cli, conditions):
    assert {p.name for p in (cli.folder / "results").glob("noise-*")} == {
        "noise-label_noise-0",
        "noise-label_noise-0.3",
    }
    assert "difference" in conditions.stdout
    assert "noise-label_noise-0.3" in conditions.stdout


def test_compare_puts_the_same_arm_of_two_studies_side_by_side(cli, conditions):
    names = ["noise-label_noise-0", "noise-label_noise-0.3"]
    out = cli.here("compare", *names, "--json")
    comparison = json.loads(out.stdout)

    assert comparison["studies"] == names
    assert [a["arm"] for a in comparison["arms"]] == ["label_smoothing"]
    assert cli.here("compare", names[0], names[0]).returncode == 2


def test_a_file_can_declare_its_study(cli, five):
    from harness.experiment import experiments_dir

    text = (experiments_dir() / "digits.toml").read_text().replace("seeds = 10", 'seeds = 2\ntricks = ["mixup"]')
    (cli.folder / "mine.toml").write_text(text)
    out = cli.here("run", "mine.toml", *TINY, "--json")

    assert out.returncode == 0, out.stderr
    assert [e["arm"] for e in json.loads(out.stdout)["effects"]] == ["mixup"]
    assert "all 4 runs are done already" in out.stderr, "the same runs as those of the bundled file"


def test_a_greedy_stack_is_ordered_by_validation_and_says_so(cli, five):
    asked = ("--design", "greedy", "--seeds", 2, "--name", "greedy")
    out = cli.here("ablate", "mixup", "erm_baseline", *asked, *ONE, *TINY)
    assert out.returncode == 0, out.stderr
    manifest = read_manifest(cli.folder / "results" / "greedy")

    assert manifest.design == "cumulative"
    assert any("chosen greedily by validation accuracy" in note for note in manifest.notes)
    assert [len(a.tricks) for a in manifest.arms] == [0, 1, 2]
    assert cli.here("plan", "mixup", "--design", "greedy").returncode == 2
