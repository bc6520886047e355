import json

import pytest
from pydantic import Field

from harness.errors import UserError
from harness.experiment import Arm, Experiment, Recipe, TrickSpec, experiments_dir, load_experiment, spec_of
from harness.values import Added, Strict, canonical


def spec(name, **params):
    return TrickSpec(name=name, version=1, params=params)


@pytest.mark.parametrize("path", sorted(experiments_dir().glob("*.toml")), ids=lambda p: p.stem)
def test_every_bundled_experiment_parses_and_says_question_command_minutes_and_expectation(path):
    load_experiment(path.stem)
    head = path.read_text().split("[experiment]")[0]

    assert all(word in head for word in ("# Question:", "# Command:", "# Minutes:", "# Expected:"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[recipe", "not valid TOML"),
        ("[recipe]\nepohcs = 3", "recipe.epohcs: unknown key; did you mean 'epochs'?"),
        ("[recipe]\nepochs = -3", "recipe.epochs = -3: input should be greater than or equal to 1"),
        ("[recipe]\nlr = '0.1'", "recipe.lr = '0.1': input should be a valid number"),
        (
            "[recipe]\nnesterov = true\nmomentum = 0.0\nepochs = 1\nbatch_size = 1\nlr = 0.1",
            "nesterov needs momentum",
        ),
        ("[data]\nname = 'folder'\nval_size = 1", "a folder data set needs root"),
        ("[experiment]\nname = '../evil'", "experiment.name = '../evil'"),
        ("[recipe.augment]\nshfit = 0.1", "recipe.augment.shfit: unknown key; did you mean 'shift'?"),
    ],
)
def test_a_wrong_file_is_refused_with_key_value_and_rule(tmp_path, text, expected):
    path = tmp_path / "wrong.toml"
    path.write_text(text)

    with pytest.raises(UserError) as error:
        load_experiment(str(path))

    assert expected in str(error.value)
    assert str(path) in str(error.value)


def test_unknown_experiment_suggests_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'digits'"):
        load_experiment("digit")


def test_overrides_replace_values_and_merge_tables():
    experiment = load_experiment(
        "digits", {"recipe": {"epochs": 3, "augment": {"flip": True}}, "tricks": {"mixup": {"per": "elem"}}}
    )

    assert experiment.recipe.epochs == 3
    assert experiment.recipe.augment.shift == 0.125
    assert experiment.recipe.augment.flip
    assert experiment.tricks["mixup"] == {"alpha": 0.2, "per": "elem"}


def test_an_arm_is_a_set():
    one = Arm(tricks=(spec("mixup", alpha=1.0), spec("ema", decay=0.9)))
    other = Arm(tricks=(spec("ema", decay=0.9), spec("mixup", alpha=1.0)))

    assert one == other
    assert one.label == "ema+mixup"
    with pytest.raises(ValueError, match="named twice"):
        Arm(tricks=(spec("ema"), spec("ema")))


def test_run_id_depends_on_what_decides_numbers_and_on_nothing_else():
    digits = load_experiment("digits")
    base = spec_of(digits, Arm(), 0).run_id
    renamed = digits.model_copy(update={"experiment": digits.experiment.model_copy(update={"margin": 2.0})})

    assert spec_of(renamed, Arm(), 0).run_id == base
    assert spec_of(digits, Arm(), 1).run_id != base
    assert spec_of(digits, Arm(tricks=(spec("ema", decay=0.9),)), 0).run_id != base
    assert spec_of(load_experiment("digits", {"recipe": {"lr": 0.1}}), Arm(), 0).run_id != base


def test_a_new_option_at_its_neutral_value_keeps_old_ids():
    class Old(Strict):
        lr: float = 0.1

    class New(Strict):
        lr: float = 0.1
        clip: float = Field(default=5.0)
        mode: str = "a"

    class Marked(Strict):
        lr: float = 0.1
        clip: float | None = None

    Marked.model_fields["clip"].metadata.append(Added(None))

    assert canonical(Marked()) == canonical(Old())
    assert canonical(Marked(clip=1.0)) == {"lr": 0.1, "clip": 1.0}
    assert canonical(New()) != canonical(Old())


def test_canonical_json_is_sorted_and_complete():
    parsed = json.loads(spec_of(load_experiment("digits"), Arm(), 3).canonical_json)

    assert list(parsed) == sorted(parsed)
    assert set(parsed["recipe"]) >= {"epochs", "lr", "weight_decay", "augment"}
    assert parsed["seed"] == 3


def test_schema_names_the_sections_of_the_contract():
    assert list(Experiment.model_fields) == ["experiment", "data", "model", "recipe", "study", "tricks", "search"]
    assert {
        "epochs",
        "batch_size",
        "optimizer",
        "lr",
        "momentum",
        "weight_decay",
        "schedule",
        "augment",
        "precision",
    } <= set(Recipe.model_fields)
