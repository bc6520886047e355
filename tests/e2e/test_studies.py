"""Plans, sequential seeds, conditions and comparisons from the command line."""

import json
import shutil

import pytest

import harness
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


CONDITIONS = (
    "ablate", "label_smoothing", "--seeds", 2, "--cross", "data.label_noise=0,0.3", "--name", "noise", *ONE, *TINY,
)  # fmt: skip


@pytest.fixture(scope="module")
def conditions(cli):
    """Two studies with and without wrong labels."""
    done = cli.here(*CONDITIONS)
    assert done.returncode == 0, done.stderr
    return done


FRESH = ("--results", "fresh")
AGAIN = ("--results", "again")


@pytest.fixture(scope="module")
def fresh(cli, five):
    """The arm of `five` on two further seeds, as a study of its own in a folder that has a copy of `five`."""
    shutil.copytree(cli.folder / "results" / "five", cli.folder / "fresh" / "five")
    done = cli.here("ablate", "mixup", "--seeds", "5:7", *FRESH, *ONE, *TINY)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def replicated(cli, fresh):
    """The replication of `five`, whose runs are stored, but in no study that anybody looked at."""
    shutil.copytree(cli.folder / "fresh", cli.folder / "again")
    for declared in (cli.folder / "again").glob("*mixup-seeds-from*/study.json"):
        declared.unlink()
    done = cli.here("replicate", "five", "--arms", "mixup", "--seeds", 2, *AGAIN)
    assert done.returncode == 0, done.stderr
    return done


def test_a_range_of_seeds_is_a_study_of_its_own_which_has_those_seeds(cli, five, fresh):
    names = {folder.name: read_manifest(folder) for folder in (cli.folder / "fresh").glob("*mixup-seeds-from*")}

    assert list(names) == ["digits-noisy-mixup-seeds-from-5"]
    assert names["digits-noisy-mixup-seeds-from-5"].seeds == (5, 6)
    assert "4 runs, 0 done already, 4 to train" in fresh.stderr
    again = cli.here("ablate", "mixup", "--seeds", "05:7", *FRESH, *ONE, *TINY)
    assert "all 4 runs are done already" in again.stderr, "the same request, which needs no plan"
    taken = cli.here("ablate", "mixup", "--seeds", "5:7", "--name", "five", *FRESH, *ONE, *TINY)
    assert (taken.returncode, "it has the arms erm_baseline, mixup" in taken.stderr) == (2, True)


@pytest.mark.parametrize("seeds", ["20:10", "5:5", "-1:3", "a:b", "0:10001"])
def test_a_range_that_is_none_is_refused_in_one_line(cli, seeds):
    done = cli.here("ablate", "mixup", "--seeds", seeds)

    assert done.returncode == 2
    assert done.stderr.startswith(
        f"error: --seeds {seeds}: a number of seeds from 1 to 10000, or a range such as 10:20"
    )
    assert len(done.stderr.splitlines()) == 1


def test_looks_are_recorded_and_the_same_command_is_no_new_one(cli, five):
    looks = []
    for seeds in (2, 5, 5):
        assert cli.here("ablate", "ema", "--seeds", seeds, "--name", "looks", *ONE, *TINY).returncode == 0
        looks.append(read_manifest(cli.folder / "results" / "looks").looks)

    assert looks == [(2,), (2, 5), (2, 5)]


def test_a_replication_trains_what_a_study_found_on_fresh_seeds_and_sets_both_side_by_side(cli, replicated):
    assert "all 4 runs are done already" in replicated.stderr, "data, recipe and values are those of the stored rows"
    *_, last = replicated.stdout.splitlines()
    assert last.startswith(("0 of 1 held, 0 of 1", "0 of 1 held, 1 of 1"))
    assert read_manifest(cli.folder / "again" / "five-replication").seeds == (5, 6)

    study = harness.load("five-replication", cli.folder / "again")
    old, new = (harness.load(name, cli.folder / "again").effects.loc["mixup"] for name in ("five", study.name))
    row = study.replication.loc["mixup"]
    assert (row["old_mean"], row["old_n"]) == (pytest.approx(old["mean"]), 5)
    assert (row["new_mean"], row["new_n"]) == (pytest.approx(new["mean"]), 2)
    assert (row["both_mean"], row["both_n"]) == (pytest.approx((5 * old["mean"] + 2 * new["mean"]) / 7), 7)
    assert last in str(study)
    places = {name: cli.folder / folder for name, folder in (("results", "again"), ("reports", "reports"))}
    called = harness.replicate("five", arms="mixup", seeds=2, progress=False, **places)
    assert called.replication.equals(study.replication)
    assert f"<td>{row['outcome']}</td>" in study._repr_html_()


def test_the_page_and_json_of_a_replication_have_the_comparison(cli, replicated):
    page = (cli.folder / "reports" / "five-replication.html").read_text()
    again = cli.here(
        "replicate", "five", "--arms", "mixup", "--seeds", "5:7", "--name", "five-replication", *AGAIN, "--json"
    )
    found = json.loads(again.stdout)["replication"]

    assert "What held on fresh seeds" in page
    assert found["summary"] in page
    assert "The arms of five on seeds that no look at it has used" in page
    assert (found["study"], found["arms"][0]["arm"], found["arms"][0]["old"]["n"]) == ("five", "mixup", 5)
    assert "chosen after their old effects were seen" in found["notes"][0]


def test_the_page_of_a_replication_without_its_study_says_so(cli, replicated):
    alone = cli.folder / "alone" / "five-replication"
    shutil.copytree(cli.folder / "again" / "five-replication", alone)
    assert cli.here("report", "--results", "alone", "--reports", "alone").returncode == 0

    assert (
        "replicates five, whose rows are not in this results folder"
        in (alone.parent / "five-replication.html").read_text()
    )
    assert harness.load(alone).replication is None


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


def test_a_budget_below_five_seeds_says_that_five_are_planned(cli, five):
    """Of the two arms one is stored, and so is the baseline."""
    words = ("plan", "mixup", "cutout", "--seeds", "auto", "--max-seeds", 8, *TINY, "--json", "--budget")
    short, long = cli(*words, "0.001s"), cli(*words, "9h")

    assert json.loads(short.stdout)["seeds"] == 5
    said = "--budget 0.001s: it holds 0 seeds, and a verdict needs the 5 planned here"
    assert json.loads(short.stdout)["warnings"] == [said]
    assert f"warning: {said}" in short.stderr
    assert (json.loads(long.stdout)["seeds"], json.loads(long.stdout)["warnings"]) == (8, [])


RAISES = """
from typing import ClassVar

import torch

from harness.tricks.contract import Info, Trick


class Raises(Trick):
    info: ClassVar = Info(name="raises", family="x", summary="x", paper="x", formula="x", expect="x")

    def batch(self, batch, run):
        return torch.cat([batch.x, torch.zeros(3)])  # line 13
"""


def test_a_study_of_which_no_arm_can_be_judged_exits_with_1_and_names_the_line_of_the_author(cli, five):
    (cli.folder / "raises.py").write_text(RAISES)
    words = ("ablate", "raises", "--plugin", "raises.py", "--seeds", 1, "--json", *TINY)
    done, shown = cli(*words), cli("--debug", *words)

    assert (done.returncode, shown.returncode) == (1, 1)
    (effect,) = json.loads(done.stdout, parse_constant=pytest.fail)["effects"]
    assert effect["verdict"]["kind"] == "failed"
    assert "(raises.py:13)" in effect["reasons"][0]
    assert "Traceback" not in done.stderr
    assert 'raises.py", line 13, in batch' in shown.stderr, "failed runs are tried again"


def test_until_decided_stops_at_the_first_look_that_decides(cli, five):
    out = cli.here("ablate", "erm_baseline", "--until-decided", "--max-seeds", 10, "--results", "until", *TINY)
    assert out.returncode == 0, out.stderr
    manifest = read_manifest(next((cli.folder / "until").glob("*/study.json")).parent)

    assert manifest.seeds == (0, 1, 2, 3, 4)
    assert manifest.alpha < 0.05, "each look is stricter, so that all looks keep the level"
    assert any("looks at 5, 10 seeds" in note for note in manifest.notes)
    assert (manifest.looks, manifest.level) == ((5,), 0.05)
    assert "looked at once, with 5 seeds, as planned" in out.stdout


def test_conditions_are_studies_of_their_own_and_are_compared(cli, conditions):
    assert {p.name for p in (cli.folder / "results").glob("noise-*")} == {
        "noise-label_noise-0",
        "noise-label_noise-0.3",
    }
    assert "difference" in conditions.stdout
    assert "noise-label_noise-0.3" in conditions.stdout

    document = json.loads(cli.here(*CONDITIONS, "--json").stdout, parse_constant=pytest.fail)
    assert document["studies"] == ["noise-label_noise-0", "noise-label_noise-0.3"]
    assert [c["study"] for c in document["conditions"]] == document["studies"]
    assert [e["arm"] for c in document["conditions"] for e in c["effects"]] == ["label_smoothing"] * 2
    assert [e["n"] for c in document["conditions"] for e in c["effects"]] == [2, 2]


def test_compare_puts_the_same_arm_of_two_studies_side_by_side(cli, conditions):
    names = ["noise-label_noise-0", "noise-label_noise-0.3"]
    out = cli.here("compare", *names, "--json")
    comparison = json.loads(out.stdout)

    assert comparison["studies"] == names
    assert [a["arm"] for a in comparison["arms"]] == ["label_smoothing"]
    assert cli.here("compare", names[0], names[0]).returncode == 2


def test_a_file_can_declare_its_study(cli, five):
    from harness.experiment import experiments_dir

    text = (
        (experiments_dir() / "digits-noisy.toml").read_text().replace("seeds = 12", 'seeds = "1:3"\ntricks = ["mixup"]')
    )
    (cli.folder / "mine.toml").write_text(text)
    out = cli.here("run", "mine.toml", *TINY, "--json")

    assert out.returncode == 0, out.stderr
    assert [e["arm"] for e in json.loads(out.stdout)["effects"]] == ["mixup"]
    assert "all 4 runs are done already" in out.stderr, "the same runs as those of the bundled file"
    assert json.loads(out.stdout)["study"] == "digits-noisy-mixup-seeds-from-1"


def test_a_greedy_stack_is_ordered_by_validation_and_says_so(cli, five):
    asked = ("--design", "greedy", "--seeds", 2, "--name", "greedy")
    out = cli.here("ablate", "mixup", "erm_baseline", *asked, *ONE, *TINY)
    assert out.returncode == 0, out.stderr
    manifest = read_manifest(cli.folder / "results" / "greedy")

    assert manifest.design == "cumulative"
    assert any("chosen greedily by validation accuracy" in note for note in manifest.notes)
    assert [len(a.tricks) for a in manifest.arms] == [0, 1, 2]
    assert cli.here("plan", "mixup", "--design", "greedy").returncode == 2
