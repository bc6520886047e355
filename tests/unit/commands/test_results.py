"""Scores and curves as programs leave them."""

import math

import pytest

from harness.commands.results import Unfinished, results_of

FILE = 'file = "run/summary.csv"\ncolumn = "eval_top1"'


@pytest.fixture
def found(read, folder):
    """What is found of a run whose files have these texts."""

    def of(*replaced, printed="", **files):
        out = folder / "out"
        for name, text in files.items():
            path = out / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        out.mkdir(exist_ok=True)
        (folder / "log").write_text(printed)
        return results_of(read(*replaced), out, folder / "log")

    return of


HEADER = "epoch,train_loss,eval_top1\n"


def test_the_last_row_of_a_resumed_log_counts(found):
    got = found(run__summary_dot_csv=f"{HEADER}0,2,70\n1,1,71.5\n{HEADER}1,1,71\n2,1,72.25\n")

    assert got.scores == {"top1": 72.25}
    assert [(p["epoch"], p["eval_top1"]) for p in got.curve] == [(0, 70), (1, 71), (2, 72.25)]


def test_the_best_row_counts_where_it_is_asked_for(found):
    best = (FILE, f'{FILE}\nrow = "min:train_loss"')

    assert found(best, run__summary_dot_csv=f"{HEADER}0,2,70\n1,0.5,73\n2,1,72\n").scores == {"top1": 73}


def test_a_curve_that_ends_early_is_no_finished_run(found):
    with pytest.raises(Unfinished, match="ends at epoch 1, and should at 2: the run ended early"):
        found(run__summary_dot_csv=f"{HEADER}0,2,70\n1,1,71\n")


def test_a_missing_column_is_named_with_those_that_are_there(found):
    with pytest.raises(Unfinished, match=r"no eval_top1 in run/summary.csv \(metrics.top1\); it has: epoch, acc"):
        found(run__summary_dot_csv="epoch,acc\n0,70\n")


def test_a_missing_file_is_named_with_those_that_are_there(found):
    with pytest.raises(Unfinished, match=r"no file run/summary.csv in \{out\}; it has: other.csv"):
        found(other_dot_csv="epoch\n")


JSON = (FILE, 'file = "all_results.json"\nkey = "eval_accuracy"'), ('unit = "percent"', 'unit = "fraction"')
TRAINER = (
    '{"log_history": [{"epoch": 1.0, "loss": 2.0}, {"epoch": 1.0, "eval_accuracy": 0.5}, {"epoch": 2.0, "loss": 1.0}]}'
)


def test_keys_of_json_files_and_curves_in_them(found):
    curve = ('[curve]\nfile = "run/summary.csv"', '[curve]\nfile = "trainer_state.json"\nkey = "log_history"')
    cost = ("[tricks.mixup]", '[cost]\nseconds = "train_runtime"\n[tricks.mixup]')
    got = found(
        *JSON, curve, cost,
        all_results_dot_json='{"eval_accuracy": 0.75, "train_runtime": 12.5}', trainer_state_dot_json=TRAINER,
    )  # fmt: skip

    assert got.scores == {"top1": 0.75}
    assert got.seconds == 12.5
    assert got.curve == [{"epoch": 1.0, "loss": 2.0, "eval_accuracy": 0.5}, {"epoch": 2.0, "loss": 1.0}]


def test_the_last_match_in_what_was_printed_counts(found):
    printed = (FILE, "stdout = 'acc: (?P<value>[0-9.]+)'"), ('[curve]\nfile = "run/summary.csv"\nlast = 2', "")

    assert found(*printed, printed="acc: 70.5\racc: 71.5\nacc: 72\n").scores == {"top1": 72}
    with pytest.raises(Unfinished, match="nothing that the command printed matches"):
        found(*printed, printed="accuracy 72")


def test_a_number_that_is_none_is_found_and_not_missing(found):
    got = found(run__summary_dot_csv=f"{HEADER}0,nan,70\n1,nan,71\n2,nan,nan\n")

    assert math.isnan(got.scores["top1"])


def test_runs_that_logged_the_same_have_equal_digests_whatever_the_clock_says(found):
    header = "epoch,train_loss,eval_top1,seconds\n"
    rows = "0,2,70,{0}\n1,1,71,{0}\n2,1,72,{0}\n"
    first = found(run__summary_dot_csv=header + rows.format(1)).digest

    assert found(run__summary_dot_csv=header + rows.format(2)).digest == first
    assert found(run__summary_dot_csv=header + rows.replace("0,2,70", "0,2.1,70").format(1)).digest != first
