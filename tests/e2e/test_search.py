"""A search from the command line to the page: resumed, shared by processes, judged on fresh seeds."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import optuna
import pytest

from harness.experiment import experiments_dir
from harness.store.reader import read_kind

TINY = ("--set", "recipe.epochs=1", "--set", "data.test_size=100")
SEARCH = ("search", "mixup", "--trials", "3", "--seeds", "2", "--fresh", "2", "--name", "s", *TINY)


@pytest.fixture
def folder(searches, tmp_path):
    return searches(tmp_path)


@pytest.fixture(scope="module")
def whole(searches, tmp_path_factory):
    """One undisturbed search of one worker, and what it printed."""
    folder = searches(tmp_path_factory.mktemp("whole"))
    folder.out, folder.err = folder(*SEARCH, "--workers", 1, "--export", "best.toml")
    return folder


def wanted(record):
    """The run ids that a search needs: all of its trials and of its comparisons."""
    trials = {i for arm in record.arms for t in arm.trials for i in t.run_ids.values()}
    return trials | {i for m in record.comparisons.values() for arm in m.arms for i in arm.run_ids.values()}


def test_a_search_ends_with_trials_comparisons_a_page_and_an_export(whole):
    record = whole.record()

    assert [(arm.label, len(arm.trials)) for arm in record.arms] == [("baseline", 3), ("mixup", 3)]
    assert set(record.comparisons) == {"default", "tuned", "tuning"}
    assert (record.tuning_seeds, record.fresh_seeds) == ((0, 1), (2, 3))
    html = (whole.path / "reports" / "s.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", html)
    assert whole.out.splitlines()[-1] == "report: reports/s.html"


def test_every_run_is_trained_once_and_every_row_is_there(whole):
    starts = whole.starts()
    table, _, problems = read_kind(whole.path / "results" / "s", "runs")

    assert set(starts.values()) == {1}
    assert set(starts) == wanted(whole.record()) == set(table["run_id"].to_pylist())
    assert problems == []
    assert not list((whole.path / "results" / "s" / "locks").glob("process-*"))
    assert not list((whole.path / "results" / ".locks" / "runs").iterdir())


def test_the_terminal_gives_values_optimism_effects_and_the_command(whole):
    for words in ("baseline: trial", "tuning alone: ", "default values: ", "tuned, against the tuned baseline: "):
        assert words in whole.out
    assert len(re.findall(r"when chosen \(n = 2 seeds\).* on n = 2 fresh seeds; optimism [+-]", whole.out)) == 2
    command = re.search(r"use it: (harness ablate mixup .*mixup\.alpha=.*)", whole.out).group(1)
    values = dict(word.split("=", 1) for word in command.split() if re.match(r"(recipe|mixup|data)\.", word))
    best = next(t for t in whole.record().arms[1].trials if t.number == whole.record().arms[1].winner)
    assert float(values["mixup.alpha"]) == best.params["mixup.alpha"]


@pytest.mark.slow
def test_the_command_and_the_exported_file_find_the_winner_s_runs(whole):
    command = re.search(r"use it: harness ablate (mixup .*)", whole.out).group(1).split()
    out = run(whole, "plan", *command, "--seeds", 2).stdout
    assert re.search(r"to train: [02] runs; [24] are stored already", out), "at least the winner's own"
    assert "--plugin starts.py" in " ".join(command), "the command is complete"
    out = run(whole, "plan", "mixup", "--experiment", "best.toml", "--seeds", 2).stdout
    assert re.search(r"to train: [02] runs; [24] are stored already", out)


def test_the_same_command_again_trains_nothing(whole):
    before = whole.starts()
    out, err = whole(*SEARCH, "--workers", 2, "--json")
    document = json.loads(out)

    assert "6 ended already" in err
    assert whole.starts() == before
    assert document["search"] == "s"
    assert {e["arm"] for e in document["comparisons"]["tuned"]["effects"]} == {"mixup"}
    assert [len(a["trials"]) for a in document["arms"]] == [3, 3]


def run(folder, *arguments):
    """The command line without the plug-in."""
    return subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)], cwd=folder.path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_a_killed_search_resumes_with_the_same_trials(folder, whole, wait_until):
    folder.hold(4)  # two runs of the first trial of each arm
    process = folder.start(*SEARCH, "--workers", 1)
    wait_until(lambda: folder.starts().total() == 5, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    folder.release()
    _, err = folder(*SEARCH, "--workers", 1)

    assert "2 ended already" in err
    assert folder.trials() == whole.trials()
    assert folder.starts().total() == len(wanted(folder.record())) + 1, "what was under way is trained again"


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_fails_no_trial(folder):
    folder.hold(3)  # of two runs a trial, so that at least one trial ends
    process = folder.start(*SEARCH, "--workers", 2)
    for line in process.stderr:
        if "trial" in line and "val" in line:
            break
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate()

    assert process.returncode == 130
    assert "the same command goes on from here" in err
    assert "Traceback" not in err
    states = Counter(t.state.name for t in stored(folder))
    assert states["COMPLETE"] >= 1
    assert states["RUNNING"] >= 1, "what was under way is left for the next process"
    assert states["FAIL"] == 0


def share(folder, wait_until, *arguments):
    """Start the same search twice, let neither go on before the other has begun a run, and wait for both."""
    folder.hold(0)
    both = [folder.start(*arguments, "--workers", 1) for _ in range(2)]
    for process in both:
        wait_until(lambda: folder.starts().total() == 2, process)
    folder.release()
    for process in both:
        _, err = process.communicate()
        assert process.returncode == 0, err


def check_shared(folder):
    """The budget is kept and no run was trained twice."""
    record = folder.record()
    assert [len(a.trials) for a in record.arms] == [3, 3]
    assert set(folder.starts().values()) == {1}
    assert set(folder.starts()) == wanted(record)
    assert set(record.comparisons) == {"default", "tuned", "tuning"}


@pytest.mark.slow
def test_two_processes_share_a_search_and_train_no_run_twice(folder, wait_until):
    share(folder, wait_until, *SEARCH)

    check_shared(folder)
    names = {t.user_attrs["process"] for t in stored(folder)}
    assert len(names) == 2, "both took part"


def stored(folder, url="sqlite:///results/s/optuna.db"):
    storage = optuna.storages.RDBStorage(url.replace("sqlite:///", f"sqlite:///{folder.path}/"))
    studies = [optuna.load_study(storage=storage, study_name=f"s/{arm}") for arm in ("baseline", "mixup")]
    return [t for study in studies for t in study.get_trials()]


@pytest.mark.slow
def test_processes_share_a_journal(folder, wait_until):
    share(folder, wait_until, *SEARCH, "--storage", "journal:trials.log")

    check_shared(folder)
    assert (folder.path / "trials.log").stat().st_size > 0


@pytest.mark.slow
def test_hosts_that_share_a_journal_alone_do_not_wait_for_one_that_died(folder, whole):
    """Two results folders stand for two hosts; what they share is the journal and the locks beside it."""
    process = folder.start(*SEARCH, "--storage", "journal:trials.log", "--workers", 1, "--results", "a")
    for line in process.stderr:
        if "baseline, trial 0" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    folder(*SEARCH, "--storage", "journal:trials.log", "--workers", 1)

    assert folder.trials() == whole.trials()


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(6))
def test_a_search_killed_at_a_random_moment_resumes_with_the_same_trials(folder, whole, attempt, wait_until):
    storage = ("--storage", "journal:trials.log") if attempt % 2 else ()
    draw = random.Random(attempt)
    runs = draw.randrange(len(wanted(whole.record()))) + 1
    process = folder.start(*SEARCH, *storage, "--workers", 1)
    wait_until(lambda: folder.starts().total() >= runs, process)
    time.sleep(draw.uniform(0, 0.5))  # into the run, or beyond it
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    folder(*SEARCH, *storage, "--workers", 1)

    assert folder.trials() == whole.trials()


@pytest.mark.slow
def test_a_dying_worker_costs_a_second_try_and_then_the_trial(folder):
    (folder.path / "dying.py").write_text(
        "import os, signal\nfrom pathlib import Path\nfrom typing import ClassVar\n"
        "from harness.tricks.contract import Info, Trick\n\n"
        "def card(name):\n"
        "    return Info(name=name, family='m', summary='s', paper='p', formula='f', expect='e')\n\n"
        "class DiesOnce(Trick):\n    info: ClassVar = card('dies_once')\n\n"
        "    def epoch_end(self, run):\n"
        "        if not Path('died').exists():\n"
        "            Path('died').touch()\n            os.kill(os.getpid(), signal.SIGKILL)\n\n"
        "class DiesAlways(Trick):\n    info: ClassVar = card('dies_always')\n\n"
        "    def epoch_end(self, run):\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    options = ("--trials", 2, "--seeds", 1, "--fresh", 1, "--name", "s", *TINY)
    folder("search", "dies_once", "dies_always", *options, "--plugin", "dying.py")
    once, always = folder.record().arms[1:]

    assert [t.state for t in once.trials] == ["complete", "complete"]
    assert [t.state for t in always.trials] == ["failed", "failed"]
    assert "seed 0 failed: the worker process died 2 times" in always.trials[0].reason
    assert always.winner is None


@pytest.mark.slow
def test_a_trick_and_its_copy_agree_after_tuning(folder):
    """An A/A search: mixup under its own name and under another one, which draws from other streams.

    Both visit the same grid, because the intervals are over seeds and do not cover the luck of a random search.
    """
    (folder.path / "again.py").write_text(
        "from typing import ClassVar\nfrom harness.tricks.core.mixup import Mixup\n"
        "class Copy(Mixup):\n    info: ClassVar = Mixup.info._replace(name='copy', excludes={})\n"
    )
    ranges = "".join(
        f'[search.{trick}]\nalpha = [0.05, 2.0, "log"]\nper = {{ choices = ["batch"] }}\n'
        "prob = { choices = [1.0] }\n" for trick in ("mixup", "copy")
    )  # fmt: skip
    text = (experiments_dir() / "digits.toml").read_text() + "\n" + ranges
    (folder.path / "mine.toml").write_text(text)
    options = (
        "--experiment", "mine.toml", "--sampler", "grid", "--nuisance", "none", "--trials", 6, "--seeds", 4,
        "--fresh", 8, "--set", "recipe.epochs=20", "--set", "data.test_size=600", "--plugin", "again.py", "--json",
    )  # fmt: skip
    out, _ = folder("search", "mixup", "copy", *options)
    document = json.loads(out)
    mixup, copy = document["comparisons"]["tuned"]["effects"]

    tried = [sorted(v for t in arm["trials"][1:] for v in t["params"].values()) for arm in document["arms"][1:]]
    assert tried[0] == tried[1]
    assert len(tried[0]) == 5
    assert mixup["mean"] != copy["mean"]
    assert mixup["low"] < copy["high"]
    assert copy["low"] < mixup["high"]


@pytest.mark.slow
def test_the_dashboard_opens_the_file_as_it_is(whole, wait_until, free_port):
    dashboard = shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent))
    if dashboard is None:
        pytest.skip("optuna-dashboard is not installed")
    import urllib.request

    port, url = free_port(), f"sqlite:///{whole.path}/results/s/optuna.db"
    process = subprocess.Popen(
        [dashboard, url, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )

    def get(path=""):
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies{path}") as answer:
            return json.load(answer)

    try:
        studies = wait_until(get, process)["study_summaries"]
        assert {s["study_name"] for s in studies} == {"s/baseline", "s/mixup"}
        for study in studies:
            assert len(get(f"/{study['study_id']}")["trials"]) == 3
    finally:
        process.terminate()
        process.wait()
