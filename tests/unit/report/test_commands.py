import shlex

import pytest

from harness.report.text.commands import arm_commands
from harness.study.plan import make_plan
from harness.training.place import Place
from harness.workflow.settings import load, parse_settings


def planned(command, tmp_path):
    """The manifest that a command of ours declares, without running it."""
    words = shlex.split(command)[2:]
    first = next(i for i, w in enumerate(words) if w.startswith("--"))
    options = list(zip(words[first::2], words[first + 1 :: 2], strict=True))
    given = dict(options)
    settings = parse_settings([value for option, value in options if option == "--set"], given["--experiment"])
    experiment = load(given["--experiment"], settings)
    return make_plan(
        experiment,
        words[:first],
        design=given.get("--design", experiment.study.design),
        seeds=range(int(given.get("--seeds", experiment.study.seeds))),
        place=Place(data_root=tmp_path, device="cpu", threads=int(given.get("--threads", 1))),
        results=tmp_path,
        command=command,
        toml="",
        images="images",
    ).manifest


@pytest.mark.parametrize(
    "command",
    [
        "harness ablate mixup ema mixup+ema --experiment digits --seeds 5 --set mixup.alpha=0.4 --set recipe.epochs=3",
        "harness ablate mixup ema cutout --experiment digits --design factorial --set ema.decay=0.9 --threads 2",
        "harness ablate mixup ema cutout --experiment digits-noisy --design leave_one_out",
        "harness ablate random_flip random_crop --experiment digits --set random_flip.force=true",
    ],
)
def test_the_command_of_an_arm_plans_the_same_runs(command, tmp_path):
    study = planned(command, tmp_path)
    commands = arm_commands(study)
    assert list(commands) == [a.label for a in study.arms if a.tricks]
    for arm in study.arms[1:]:
        again = planned(commands[arm.label], tmp_path)
        assert [a.label for a in again.arms] == ["baseline", arm.label]
        assert [a.run_ids for a in again.arms] == [study.arms[0].run_ids, arm.run_ids]
        assert again.fingerprint == study.fingerprint


def test_a_range_of_seeds_is_repeated(study):
    of_mixup = arm_commands(manifest(study, seeds=(10, 11, 12)))["mixup"]
    assert of_mixup.endswith(" --seeds 10:13")


def manifest(study, **changes):
    return study.manifest.model_copy(update=changes)


def test_settings_of_other_tricks_are_left_out(study):
    command = "harness ablate mixup ema --experiment digits --seeds 10 --set ema.decay=0.9 --set recipe.lr=0.1"
    of_mixup = arm_commands(manifest(study, command=command))["mixup"]
    assert of_mixup == "harness ablate mixup --experiment digits --set recipe.lr=0.1 --seeds 10"


def test_the_place_of_the_data_and_the_device_are_kept_and_the_name_is_not(study):
    command = "harness ablate mixup ema --experiment digits --data-root 'a b' --name mine --device cpu --cuda-graphs"
    of_mixup = arm_commands(manifest(study, command=command))["mixup"]
    assert of_mixup == (
        "harness ablate mixup --experiment digits --data-root 'a b' --device cpu --cuda-graphs --seeds 10"
    )


def test_another_design_is_named_as_one_at_a_time(study):
    changed = manifest(study, design="pairs", command="harness ablate mixup ema --experiment digits --design pairs")
    alone = arm_commands(changed)["mixup"]
    assert alone == "harness ablate mixup --experiment digits --design one_at_a_time --seeds 10"


@pytest.mark.parametrize(
    "change",
    [
        {"design": "sweep"},
        {"seeds": (3, 5, 6)},
        {"command": "harness ablate mixup --experiment digits --until-decided"},
        {"command": "harness ablate mixup --experiment digits --until-decided --max-seeds 20"},
        {"command": "harness ablate mixup --experiment digits --cross data.label_noise=0,0.2"},
        {"command": "harness ablate mixup --experiment digits --unheard-of 3"},
        {"command": "harness search mixup --experiment digits"},
        {"command": "harness ablate 'mixup"},
        {"command": "rm -rf everything"},
        {"command": ""},
    ],
)
def test_where_it_is_not_certain_there_is_no_command(study, change):
    assert "mixup" in arm_commands(study.manifest)
    assert arm_commands(manifest(study, **change)) == {}


def test_the_baseline_and_skipped_arms_have_no_command(study):
    assert {"baseline", "asam+sam"}.isdisjoint(arm_commands(study.manifest))


def test_names_are_quoted_for_the_shell(study):
    arm = study.manifest.arms[1].model_copy(update={"tricks": {"$(reboot)": {}}})
    (command,) = arm_commands(manifest(study, arms=(arm,))).values()
    assert shlex.split(command)[2] == "$(reboot)"


def test_what_was_asked_decides_and_the_text_is_not_read(study):
    options = {
        "experiment": "my digits.toml", "margin": 0.0, "seeds": 10, "design": "one_at_a_time", "budget": "20m",
        "set": ["mixup.alpha=0.2", "ema.decay=0.9", "recipe.lr=0.1"], "plugin": ["a b.py"], "cuda-graphs": True,
        "max-arms": None, "until-decided": False,
    }  # fmt: skip
    asked = {"verb": "ablate", "tricks": ["mixup", "ema"], "options": options}
    of_mixup = arm_commands(manifest(study, asked=asked, command="harness ablate no --unheard-of"))["mixup"]
    assert of_mixup == (
        "harness ablate mixup --experiment 'my digits.toml' --margin 0.0 --set mixup.alpha=0.2 --set recipe.lr=0.1 "
        "--cuda-graphs --plugin 'a b.py' --design one_at_a_time --seeds 10"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"verb": "search"},
        {"options": {"until-decided": True}},
        {"options": {"cross": "data.label_noise=0,0.2"}},
        {"options": {"unheard-of": 3}},
    ],
)
def test_a_request_that_one_arm_cannot_repeat_has_no_commands(study, change):
    asked = {"verb": "ablate", "tricks": ["mixup"], "options": {"experiment": "digits"}}
    assert "mixup" in arm_commands(manifest(study, asked=asked))
    assert arm_commands(manifest(study, asked=asked | change)) == {}
