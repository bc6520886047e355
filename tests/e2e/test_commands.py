"""Studies whose runs are commands, from the file to the page."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.store.reader import read_manifest, read_study

PROGRAM = Path(__file__).parents[1] / "shared" / "programs" / "timm_like.py"

TOML = """
[experiment]
name = "timm-like"
question = "Does it help?"

[command]
run = ["{python}", "train.py", "--seed", "{seed}", "--output", "{out}", "{flags}"]
code = ["*.py"]
resume = ["--resume", "{out}/run/last.pth.tar"]
keep = ["run/summary.csv"]
flags = { "--epochs" = 3, "--smoothing" = 0.0 }
env = { HF_TOKEN = "abc123" }

[metrics.top1]
file = "run/summary.csv"
column = "eval_top1"
unit = "percent"

[curve]
file = "run/summary.csv"
last = 2

[tricks.mixup]
flags = { "--mixup" = "{alpha}" }
alpha = 0.2

[tricks.smoothing]
flags = { "--smoothing" = 0.1 }

[tricks.smoother]
flags = { "--smoothing" = 0.3 }

[tricks.ema]
flags = { "--ema" = true }
"""


@pytest.fixture
def program(cli, tmp_path):
    """A folder of its own with the program and its experiment."""
    cli = type(cli)(tmp_path)
    shutil.copy(PROGRAM, tmp_path / "train.py")
    (tmp_path / "timm.toml").write_text(TOML)
    return cli


def edit(program, old, new):
    path = program.folder / "timm.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def study(program, name="timm-like-ema-mixup"):
    folder = program.folder / "results" / name
    manifest = read_manifest(folder)
    return folder, manifest, read_study(folder, manifest.runs)


def test_a_study_of_commands_is_judged_and_repeated_without_running_anything(program):
    done = program.here("ablate", "mixup", "ema", "-e", "timm.toml", "--seeds", 5, "--workers", 2, "--json")
    assert done.returncode == 0, done.stderr
    effects = {e["arm"]: e for e in json.loads(done.stdout)["effects"]}

    assert effects["mixup"]["verdict"]["kind"] == "helps"
    assert effects["mixup"]["mean"] == pytest.approx(2, abs=0.3)
    assert effects["ema"]["verdict"]["kind"] == "inactive"
    assert effects["mixup"]["n"] == 5

    again = program.here("ablate", "mixup", "ema", "-e", "timm.toml", "--seeds", 5, "--fail-on", "hurts,helps")
    assert "all 15 runs are done already" in again.stderr
    assert (again.returncode, again.stderr.splitlines()[-1]) == (3, "--fail-on hurts,helps: mixup: helps")

    folder, manifest, data = study(program)
    assert set(data.runs["status"]) == {"ok"}
    assert json.loads(data.runs["scores"].iloc[0]).keys() == {"top1"}
    assert sorted(data.curves["metric"].unique()) == ["eval_loss", "eval_top1", "train_loss"]
    assert [p.name for p in folder.glob("out/*/*/*")] == ["summary.csv"] * 15  # nothing else is kept
    page = (program.folder / "reports" / f"{manifest.study}.html").read_text()
    assert "These runs are commands (train.py)" in page
    stored = [p for p in (program.folder / "results").rglob("*") if p.is_file()]
    assert not [p for p in stored if b"abc123" in p.read_bytes()]
    assert "abc123" not in page


def test_tricks_that_set_one_flag_are_skipped_by_a_design_and_refused_as_one_arm(program):
    refused = program.here("ablate", "smoothing+smoother", "-e", "timm.toml", "--seeds", 1)
    assert "smoothing and smoother each want to own the flag --smoothing" in refused.stderr.replace("\n", " ") or (
        "smoother and smoothing each want to own the flag --smoothing" in refused.stderr.replace("\n", " ")
    )

    planned = program.here("plan", "smoothing", "smoother", "mixup", "-e", "timm.toml", "--design", "pairs", "--json")
    arms = {arm["arm"]: arm["skipped"] for arm in json.loads(planned.stdout)["arms"]}
    assert "each want to own the flag --smoothing" in arms["smoother+smoothing"]
    assert arms["mixup+smoothing"] is None


def test_the_plan_prints_the_words_of_each_arm(program):
    said = program.here("plan", "mixup", "-e", "timm.toml", "--seeds", 1).stdout

    assert "train.py --seed '{seed}' --output '{out}' --epochs 3 --smoothing 0.0 --mixup 0.2" in said


def test_what_fails_in_every_run_stops_at_the_first_with_the_end_of_its_log(program):
    edit(program, '"--epochs" = 3', '"--epochs" = 3, "--fail" = "no such option"')
    failed = program.here("ablate", "mixup", "-e", "timm.toml", "--seeds", 3)

    assert failed.returncode == 2
    assert "the first run of the baseline failed, so nothing else starts: exit code 3: no such option" in failed.stderr
    assert "argv [" in failed.stderr  # the line before in the log
    _, _, data = study(program, "timm-like-mixup")
    assert data.runs["status"].tolist() == ["failed"]


def test_an_arm_that_fails_is_a_row_and_the_others_go_on(program):
    edit(program, '"--ema" = true', '"--ema" = true, "--fail" = "CUDA out of memory"')
    program.here("ablate", "mixup", "ema", "-e", "timm.toml", "--seeds", 2, "--workers", 2)
    _, _, data = study(program)
    failed = data.runs[data.runs["status"] == "failed"]

    assert set(failed["arm"]) == {"ema"}
    assert set(failed["reason"]) == {"out of memory, exit code 3: CUDA out of memory"}
    assert (data.runs["status"] == "ok").sum() == 4


def test_a_run_that_was_killed_goes_on_where_it_was(program):
    edit(program, '"--ema" = true', '"--ema" = true, "--die-at" = 1')
    program.here("ablate", "ema", "-e", "timm.toml", "--seeds", 1)
    folder, _, data = study(program, "timm-like-ema")
    assert data.runs.set_index("arm")["reason"]["ema"].startswith("killed by signal 9")

    program.here("ablate", "ema", "-e", "timm.toml", "--seeds", 1)
    _, _, data = study(program, "timm-like-ema")
    assert set(data.runs["status"]) == {"ok"}
    (table,) = [p for p in folder.glob("out/*/run/summary.csv") if p.read_text().count("epoch") == 2]
    assert [line.split(",")[0] for line in table.read_text().splitlines()] == ["epoch", "0", "1", "epoch", "2"]


def test_without_a_way_to_go_on_what_was_left_is_put_aside(program):
    edit(program, 'resume = ["--resume", "{out}/run/last.pth.tar"]\n', "")
    edit(program, '"--ema" = true', '"--ema" = true, "--fail" = "x"')
    for _ in range(2):
        program.here("ablate", "ema", "-e", "timm.toml", "--seeds", 1)
    folder, _, _ = study(program, "timm-like-ema")

    assert len([p for p in folder.glob("out/*") if p.name.endswith(".before")]) == 1


def test_other_code_makes_other_runs(program):
    program.here("ablate", "mixup", "-e", "timm.toml", "--seeds", 1)
    with (program.folder / "train.py").open("a") as file:
        file.write("# changed\n")
    again = program.here("ablate", "mixup", "-e", "timm.toml", "--seeds", 1)

    assert "2 stored runs are of other code of the command: not used" in again.stderr


def test_code_that_changes_under_a_study_stops_it(program):
    source = (program.folder / "train.py").read_text()
    (program.folder / "train.py").write_text(source + "Path(__file__).write_text(Path(__file__).read_text() + '#')\n")
    stopped = program.here("ablate", "mixup", "-e", "timm.toml", "--seeds", 1)

    assert stopped.returncode == 2
    assert "changed while the study ran" in stopped.stderr


def test_in_a_checkout_the_commit_and_what_differs_from_it_are_the_code(program):
    edit(program, 'code = ["*.py"]\n', "")
    refused = program.here("ablate", "mixup", "-e", "timm.toml", "--seeds", 1)
    assert "is in no git checkout with a commit, so nothing says which code runs" in refused.stderr

    git = ["git", "-C", str(program.folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "train.py", "timm.toml"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    (program.folder / "helper.py").write_text("x = 1\n")
    assert program.here("ablate", "mixup", "-e", "timm.toml", "--seeds", 1).returncode in (0, 1)
    folder, _, data = study(program, "timm-like-mixup")
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    (diff,) = (folder / "code").iterdir()

    assert set(data.runs["git_commit"]) == {commit}
    assert data.runs["git_dirty"].all()
    assert "untracked helper.py" in diff.read_text()


def test_slots_own_the_cards_that_were_named(program):
    edit(program, 'code = ["*.py"]', 'code = ["*.py"]\ngpus = 2')
    refused = program.here("ablate", "mixup", "-e", "timm.toml", "--seeds", 1, "--devices", "3")
    assert "command.gpus = 2: 1 cards are visible here" in refused.stderr

    program.here("ablate", "mixup", "-e", "timm.toml", "--seeds", 2, "--devices", "4,5,6,7")
    folder, _, data = study(program, "timm-like-mixup")
    cards = {log.read_text().split("cards ")[1].split()[0] for log in (folder / "logs").iterdir()}
    assert cards == {"4,5", "6,7"}
    assert sorted({json.loads(spec)["number"] for spec in data.runs["spec"]}) == [0, 1000]


def test_looks_stop_when_every_arm_is_decided(program):
    done = program.here("ablate", "mixup", "-e", "timm.toml", "--until-decided", "--max-seeds", 10, "--json")

    assert json.loads(done.stdout)["looks"] == [5]


def test_an_interrupt_ends_the_commands(program):
    edit(program, '"--smoothing" = 0.0', '"--smoothing" = 0.0, "--sleep" = 60')
    command = [sys.executable, "-m", "harness", "ablate", "mixup", "-e", "timm.toml", "--seeds", "1"]
    with subprocess.Popen(command, cwd=program.folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        logs = program.folder / "results" / "timm-like-mixup" / "logs"
        while not (logs.is_dir() and any(log.stat().st_size for log in logs.iterdir())):
            assert process.poll() is None, process.stderr.read()
        process.terminate()
        assert process.wait() == 143

    assert not list((program.folder / "results" / "timm-like-mixup" / "runs").iterdir())


def test_a_replication_takes_its_commands_from_the_file_that_is_named(program):
    program.here("ablate", "mixup", "-e", "timm.toml", "--seeds", 5)
    refused = program.here("replicate", "timm-like-mixup")
    assert "no command is taken from a stored study: name the experiment file with" in refused.stderr.replace("\n", " ")

    done = program.here("replicate", "timm-like-mixup", "-e", "timm.toml", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    _, manifest, data = study(program, "timm-like-mixup-replication")
    assert manifest.seeds == (5, 6, 7, 8, 9)
    assert facts["replication"]["study"] == "timm-like-mixup"
    assert set(data.runs["status"]) == {"ok"}


def test_a_value_of_another_sort_fills_no_placeholder(program):
    swept = program.here("ablate", "mixup.alpha=0.1,big", "-e", "timm.toml", "--design", "sweep")

    assert "mixup.alpha = 'big': it must be a number, as 0.2 is" in swept.stderr


def checked(program, *arguments):
    done = program.here("check", "timm.toml", "--json", *arguments)
    facts = json.loads(done.stdout)
    return done.returncode, {fact["about"]: (fact["state"], fact["said"]) for fact in facts["facts"]}


def test_a_check_says_what_repeats_and_which_tricks_change_nothing(program):
    edit(program, "[metrics.top1]", 'probe = { "--epochs" = 1 }\n[metrics.top1]')
    code, facts = checked(program, "--workers", 2, "--seeds", 3)

    assert code == 1
    assert facts["repeatable"] == ("ok", "two runs with one seed logged the same numbers")
    assert facts["seed used"] == ("ok", "3 different runs of 3 seeds")
    assert facts["mixup"][0] == facts["smoothing"][0] == "ok"
    assert facts["ema"] == ("problem", "inactive: it logged the baseline's numbers, so it changes nothing")
    assert "with --epochs 1; in proportion a whole run takes" in facts["time"][1]
    assert "seeds of the baseline with sd" in facts["seeds"][1]
    assert not (program.folder / "results").exists()


PLAIN = """
import os, random
random.seed(0)
scores = [random.gauss(70, 1) for _ in range(5)]
print(f"test acc: {scores[-1] + (1 if os.environ.get('CUTOUT') else 0):.3f}")
"""


@pytest.mark.parametrize("seeded", [False, True])
def test_a_program_that_has_no_seed_is_refused_with_the_reason(program, seeded):
    (program.folder / "train.py").write_text(PLAIN)
    env = 'env = { SEED = "{seed}" }' if seeded else ""
    (program.folder / "timm.toml").write_text(f"""
experiment.name = "plain"
[command]
run = "{{python}} train.py"
code = ["*.py"]
{env}
[metrics.acc]
stdout = 'test acc: (?P<value>[0-9.]+)'
unit = "percent"
[tricks.cutout]
env = {{ CUTOUT = "1" }}
""")
    if not seeded:
        refused = program.here("check", "timm.toml")
        assert refused.returncode == 2
        assert "[command] never uses {seed}: all runs would be one run" in refused.stderr
        return
    code, facts = checked(program)
    assert code == 1
    assert facts["seed used"][0] == "problem"
    assert "2 seeds logged the same numbers, so all runs of a study would be copies of one" in facts["seed used"][1]
    assert facts["cutout"] == ("ok", "changes what is logged")


def test_a_program_that_does_not_repeat_is_told_so(program):
    (program.folder / "train.py").write_text("import random; print('acc:', random.random())")
    (program.folder / "timm.toml").write_text("""
experiment.name = "plain"
[command]
run = "{python} train.py {seed}"
code = ["*.py"]
[metrics.acc]
stdout = 'acc: ([0-9.]+)'
unit = "fraction"
[tricks.none]
env = { NOTHING = "1" }
""")
    code, facts = checked(program)

    assert code == 0
    assert facts["repeatable"][0] == "note"
    assert facts["seed used"] == ("note", "not known, since runs with one seed differ, too")
    assert "whether it changes anything is not known" in facts["none"][1]


@pytest.mark.slow
def test_an_experiment_of_the_loop_is_checked_by_the_same_verb(program, short):
    (program.folder / "loop.toml").write_text(
        (Path(__file__).parents[2] / "experiments" / "digits.toml").read_text().split("[study]")[0]
        + '[study]\ntricks = ["mixup", "erm_baseline"]\n'
    )
    done = program.here("check", "loop.toml", "--json", *short, "--set", "recipe.epochs=1")
    facts = {fact["about"]: (fact["state"], fact["said"]) for fact in json.loads(done.stdout)["facts"]}

    assert facts["repeatable"][0] == facts["seed used"][0] == facts["mixup"][0] == "ok"
    assert facts["erm_baseline"][1].startswith("inactive")


def gated(program, candidate, *arguments, env=None):
    done = program.here("gate", "timm.toml", "--candidate", candidate, "--json", *arguments)
    assert done.returncode in (0, 3, 4), done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_gate_accepts_what_helps_and_rejects_the_rest(program, monkeypatch, tmp_path):
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    code, decided = gated(program, "mixup", "--candidates", 3)
    assert (code, decided["decision"], decided["exit_code"]) == (0, "accept", 0)
    assert [look["n"] for look in decided["looks"]] == [5]
    assert decided["fresh"]["n"] == 10
    assert decided["fresh"]["mean"] == pytest.approx(2, abs=0.2)
    assert decided["noise"]["n"] == 5
    assert decided["noise"]["sd"] > 0
    assert decided["charged"] == 0

    code, decided = gated(program, "ema", "--candidates", 3)
    assert (code, decided["decision"], decided["charged"]) == (3, "inactive", 0)
    code, decided = gated(program, "smoothing", "--candidates", 3)
    assert (code, decided["decision"], decided["charged"]) == (3, "reject", 1)
    assert decided["why"] == "a gain of 0.5 is out of reach"

    runs = len(list((program.folder / "results").rglob("*.txt")))
    assert gated(program, "smoothing", "--candidates", 3) == (code, decided)  # remembered
    assert len(list((program.folder / "results").rglob("*.txt"))) == runs
    assert summary.read_text().startswith("### Gate: mixup: accept")
    assert "Noise floor: sd" in summary.read_text()

    other = program.here("gate", "timm.toml", "--candidate", "smoother", "--alpha", 0.1)
    assert "it was begun for another stream (alpha was 0.05 and is 0.1; candidates was 3 and is 20)" in other.stderr


def test_a_stream_that_is_spent_accepts_nothing_more(program):
    gated(program, "smoothing", "--candidates", 1)
    spent = program.here("gate", "timm.toml", "--candidate", "mixup", "--candidates", 1)

    assert spent.returncode == 2
    assert "the 1 declared candidates are spent" in spent.stderr.replace("\n", " ")


def test_a_gate_judges_rows_that_were_made_elsewhere(program):
    rows = ["method,seed,val_acc"]
    for seed in range(7):
        base = 70 + seed % 3
        rows += [f"base,{seed},{base}", f"good,{seed},{base + 3 + seed / 50}", f"even,{seed},{base + (-1) ** seed}"]
    (program.folder / "runs.csv").write_text("\n".join(rows) + "\n")

    def decided(candidate):
        done = program.here("gate", "runs.csv", "--from", "table", "--candidate", candidate, "--json")
        return done.returncode, json.loads(done.stdout)["why"]

    assert decided("good")[0] == 0
    assert decided("even") == (4, "7 pairs, and the next look is at 10")


def test_a_search_tunes_flags_and_hyperparameters_by_the_validation_metric(program):
    with (program.folder / "timm.toml").open("a") as file:
        file.write('[search]\nmixup.alpha = [0.1, 0.4]\n"flags.--smoothing" = [0.0, 0.2]\n')
    said = program.here(
        "search",
        "mixup",
        "-e",
        "timm.toml",
        "--trials",
        3,
        "--seeds",
        2,
        "--fresh",
        5,
        "--sampler",
        "random",
        "--workers",
        2,
    )
    assert said.returncode == 0, said.stderr
    record = json.loads((program.folder / "results" / "timm-like-search-mixup" / "search.json").read_text())
    arms = {arm["label"]: arm for arm in record["arms"]}

    assert set(arms["mixup"]["space"]) == {"mixup.alpha", "flags.--smoothing"}
    assert set(arms["baseline"]["space"]) == {"flags.--smoothing"}
    won = arms["mixup"]["trials"][arms["mixup"]["winner"]]
    assert won["params"]["mixup.alpha"] == max(t["params"]["mixup.alpha"] for t in arms["mixup"]["trials"])
    assert 0.7 < won["values"]["accuracy"][0] < 0.8  # a fraction of the percent that the program writes
    tuned = record["comparisons"]["tuned"]
    assert (tuned["metric"], tuned["seeds"]) == ("top1", [2, 3, 4, 5, 6])
    assert "tuned, against the tuned baseline: +" in said.stdout
    used = shlex.split(said.stdout.split("use it: ")[2].splitlines()[0])[1:]
    again = program.here(*used, "--seeds", "2:7")
    assert "all 10 runs are done already" not in again.stderr  # the baseline of the search is tuned, too
    assert "5 to train" in again.stderr


def test_a_search_needs_a_metric_of_validation_data(program):
    edit(program, 'unit = "percent"', 'unit = "percent"\nsplit = "test"')
    with (program.folder / "timm.toml").open("a") as file:
        file.write("[search]\nmixup.alpha = [0.1, 0.4]\n")
    refused = program.here("search", "mixup", "-e", "timm.toml", "--trials", 2)

    assert "choosing by results needs a metric of validation data" in refused.stderr
