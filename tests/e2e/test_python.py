"""The same from Python: a study is made, loaded, shown and exported, as in the cells of a notebook."""

import subprocess
import sys

import pytest

import harness
from harness.errors import UserError
from harness.workflow.events import Epoch, Finished, Planned, Started, Written

OPTIONS = {"seeds": 2, "workers": 1, "settings": ["recipe.epochs=2", "data.test_size=400"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study made from Python, with all that happened."""
    folder = tmp_path_factory.mktemp("python")
    events = []
    places = {"results": folder / "results", "reports": folder / "reports"}
    study = harness.ablate("label_smoothing", on_event=events.append, progress=False, **OPTIONS, **places)
    return study, events, places


def test_a_study_is_made_with_events_and_comes_as_frames(made):
    study, events, places = made

    assert [type(e) for e in events if not isinstance(e, Epoch)] == [Planned, Started, *[Finished] * 4, Written]
    assert (events[1].total, events[1].missing) == (4, 4)
    told = [e for e in events if isinstance(e, Epoch) and (e.arm, e.seed) == ("baseline", 1)]
    curve = study.curves[study.curves["run_id"] == study.manifest.arms[0].run_ids[1]]
    assert (told[-1].epoch, told[-1].epochs) == (2, 2)
    assert sorted(p for e in told for p in e.points) == sorted(
        curve[["epoch", "step", "split", "metric", "value"]].itertuples(index=False, name=None)
    ), "all of the curve is told, in pieces"
    assert study.name == "digits-noisy-label-smoothing"
    assert study.effects.index.tolist() == ["label_smoothing"]
    effect = study.effects.loc["label_smoothing"]
    runs = study.runs.pivot(index="seed", columns="arm", values="test_accuracy")
    assert effect["mean"] == pytest.approx(100 * (runs["label_smoothing"] - runs["baseline"]).mean())
    assert (effect["n"], effect["verdict"]) == (2, "no verdict")
    assert set(study.curves["split"]) == {"train", "val"}
    assert study.sentences == [effect["sentence"]]
    assert str(study) == effect["sentence"]
    assert (places["reports"] / "digits-noisy-label-smoothing.html").exists()


def test_a_stored_study_is_loaded_and_exported(made):
    study, _, places = made
    again = harness.load("digits-noisy-label-smoothing", places["results"])

    assert again.effects.equals(study.effects)
    assert harness.load(study.folder).runs.equals(study.runs)
    assert again.html(places["reports"]).read_text().startswith("<!doctype html>")
    assert "\\begin{tabular}" in again.latex()
    assert again.table("csv").splitlines()[0].startswith("study,scope,")
    assert "<td>label_smoothing</td>" in again._repr_html_()


def test_the_command_line_is_the_same_call(made, tmp_path):
    """What Python has made is done for the command line, and the other way round."""
    study, _, places = made
    words = ["ablate", "label_smoothing", "--seeds", "2", "--workers", "1", "--results", places["results"]]
    words += [word for text in OPTIONS["settings"] for word in ("--set", text)]
    command = [sys.executable, "-m", "harness", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)

    assert "all 4 runs are done already" in done.stderr
    assert study.sentences[0] in done.stdout
    assert study.manifest.command == (
        "harness ablate label_smoothing --experiment digits-noisy --seeds 2 --set recipe.epochs=2 "
        "--set data.test_size=400"
    )
    assert study.manifest.asked == {
        "verb": "ablate",
        "tricks": ["label_smoothing"],
        "options": {"experiment": "digits-noisy", "seeds": 2, "set": ["recipe.epochs=2", "data.test_size=400"]},
    }


def test_a_script_without_a_guard_is_run_once(tmp_path):
    """Its workers start by spawning, which would otherwise run the script again in each of them."""
    script = tmp_path / "study.py"
    settings = {**OPTIONS, "seeds": 1, "workers": 2}
    script.write_text(
        "print('begins')\nimport harness\n"
        f"print(harness.ablate('label_smoothing', progress=False, **{settings!r}).name)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, timeout=240)

    assert (done.returncode, done.stdout.split()) == (0, ["begins", "digits-noisy-label-smoothing"]), done.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"seed": 3}, "unknown option 'seed'; did you mean 'seeds'?"),
        ({"seeds": "many"}, "--seeds many: a number of seeds"),
        ({"threads": 0}, "threads = 0: input should be greater than or equal to 1"),
        ({"settings": ["recipe.epochs"]}, "--set recipe.epochs: write NAME.KEY=VALUE"),
    ],
)
def test_what_is_no_option_is_one_clear_error(options, expected):
    with pytest.raises(UserError, match=expected.replace("?", r"\?")):
        harness.ablate("mixup", progress=False, **options)


def test_importing_is_light():
    script = "import sys, harness; print([m for m in ('torch', 'pandas', 'numpy', 'pydantic') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "[]"
