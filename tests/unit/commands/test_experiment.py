"""Experiments whose runs are commands: what is refused, what a run's id depends on, and which tricks clash."""

from pathlib import Path

import pytest

from harness.commands.experiment import clashes
from harness.commands.kinds import load_any
from harness.errors import UserError
from harness.experiment import Arm

RUN = '["{python}", "train.py", "--seed", "{seed}", "--output", "{out}", "{flags}"]'

REFUSED = {
    "no seed": ('"--seed", "{seed}"', '"--seed", "0"', r"\[command\] never uses \{seed\}: all runs would be one run"),
    "unknown placeholder": ("{out}", "{ot}", r"unknown placeholder \{ot\}; did you mean 'out'"),
    "pipe": ('"{flags}"]', '"{flags}", "|", "tee"]', r"run has '\|', which only a shell understands"),
    "home": ('"train.py"', '"~/train.py"', "run has '~/train.py', which only a shell"),
    "variable": (RUN, '"python train.py --seed {seed} $HOME {flags}"', r"'\$HOME' needs a shell"),
    "no place for flags": (', "{flags}"]', "]", r"flags are given, and \{flags\} is nowhere in run"),
    "flags inside": ('"{flags}"]', '"x{flags}"]', "is a word of its own"),
    "unknown key": ('code = ["*.py"]', 'cod = ["*.py"]', "unknown key; did you mean 'code'"),
    "unit": ('unit = "percent"', "", r'in which unit is it\? Add unit = "percent" or "fraction"'),
    "direction": (
        '[metrics.top1]\nfile = "run/summary.csv"\ncolumn = "eval_top1"',
        '[metrics.q]\nfile = "run/summary.csv"\ncolumn = "eval_q"',
        "is higher or lower better",
    ),
    "column and key": ('column = "eval_top1"', 'column = "a"\nkey = "b"', "a file with a column or a key, or stdout"),
    "training data": ("eval_top1", "train_top1", "is of training data"),
    "idle value": ('"--mixup" = "{alpha}"', '"--mixup" = 0.3', r"no flag and no variable of the trick uses \{alpha\}"),
    "empty trick": ('flags = { "--ema" = true }', "", "a trick has flags or env"),
    "time": ("[metrics.top1]", 'timeout = "2 hours"\n[metrics.top1]', "write a number and s, m, h or d"),
    "data": ('"{flags}"]', '"{data}", "{flags}"]', r"uses \{data\} and has no data"),
    "expression": ('file = "run/summary.csv"\ncolumn = "eval_top1"', "stdout = 'acc: .*'", "needs a group around"),
}


@pytest.mark.parametrize(("old", "new", "why"), REFUSED.values(), ids=REFUSED)
def test_what_could_not_be_judged_is_refused(read, old, new, why):
    with pytest.raises(UserError, match=why):
        read((old, new))


def test_the_experiment_of_the_documentation_is_one(folder):
    text = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()
    (folder / "docs.toml").write_text(text.split("```toml\n")[1].split("```")[0])
    experiment = load_any("docs.toml")

    assert experiment.metric_name == "top1"
    assert experiment.spec(arm(experiment, "no_amp"), 0).run[-1] == "0.0"  # --amp was the last one


def arm(experiment, *names):
    return Arm(tricks=tuple(experiment.switch(name).spec() for name in names))


def test_a_trick_replaces_the_value_of_a_flag(read):
    experiment = read()

    assert experiment.spec(arm(experiment), 0).run[-4:] == ("--epochs", "3", "--smoothing", "0.0")
    assert experiment.spec(arm(experiment, "smoothing", "mixup"), 0).run[-6:] == (
        "--epochs", "3", "--smoothing", "0.1", "--mixup", "0.2",
    )  # fmt: skip


def test_two_tricks_that_give_one_flag_different_values_clash(read):
    experiment = read()
    both = [experiment.switch("smoothing"), experiment.switch("smoother")]

    assert clashes(both) == ["smoothing and smoother each want to own the flag --smoothing"]
    assert clashes(
        [experiment.switch("smoothing"), experiment.switch("smoother"), experiment.switch("ema")]
    ) == clashes(both)
    assert clashes([experiment.switch("mixup"), experiment.switch("ema")]) == []


def test_the_run_id_is_that_of_all_words_and_of_nothing_else(read):
    base = read().baseline.run_id

    assert read(('--epochs" = 3', '--epochs" = 4')).baseline.run_id != base
    assert read(("[metrics.top1]", 'env = { A = "1" }\n[metrics.top1]')).baseline.run_id != base
    assert read(("[metrics.top1]", "gpus = 1\n[metrics.top1]")).baseline.run_id != base
    assert read(("[metrics.top1]", 'timeout = "3h"\nkeep = ["*.csv"]\n[metrics.top1]')).baseline.run_id == base
    assert read(("last = 2", "last = 1")).baseline.run_id == base


def test_runs_on_several_cards_have_seeds_far_apart(read):
    of = lambda experiment: [experiment.spec(Arm(), seed).number for seed in range(3)]  # noqa: E731

    assert of(read()) == [0, 1, 2]
    assert of(read(("[metrics.top1]", "gpus = 2\nfirst_seed = 7\n[metrics.top1]"))) == [7, 1007, 2007]


def test_a_secret_is_in_no_spec_and_is_known_so_that_it_can_be_hidden(read):
    experiment = read(
        ('"--epochs" = 3', '"--epochs" = 3, "--hub_token" = "abc"'),
        ("[metrics.top1]", 'env = { HF_TOKEN = "def" }\n[metrics.top1]'),
    )

    assert "abc" not in experiment.baseline.canonical_json
    assert "def" not in experiment.baseline.canonical_json
    assert experiment.template(Arm())[1] == {"HF_TOKEN": "def"}
    assert experiment.secrets == ["abc", "def"] or experiment.secrets == ["def", "abc"]


def test_a_text_is_split_as_a_shell_splits_it(read):
    experiment = read((RUN, '"""{python} train.py --seed {seed} --output {out} --name \'a b\' {flags}"""'))

    assert experiment.command.run[-2] == "a b"


def test_the_metric_must_be_named_where_there_are_several(read):
    more = ("[curve]", '[metrics.loss]\nfile = "run/summary.csv"\ncolumn = "eval_loss"\n[curve]')
    with pytest.raises(UserError, match=r"metric is missing: several metrics are given\. Known: top1, loss"):
        read(more)

    experiment = read(more, ("margin = 0.5", 'margin = 0.5\nmetric = "loss"'))
    assert experiment.declared["loss"].better == "lower"
    assert (experiment.declared["top1"].unit, experiment.declared["top1"].split) == ("percent", "val")
