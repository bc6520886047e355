import json

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import UserError
from harness.experiment import load_experiment
from harness.sections import Data, Recipe
from harness.tricks import recipes, registry
from harness.tricks.recipes import Preset, Rule, expand, preset, preset_names
from harness.tricks.stack import conflicts

DIGITS = load_experiment("digits-noisy")
WANTED = """
    torchvision-2021 rsb-a1 rsb-a2 rsb-a3 bag-of-tricks-2018 composer-mild composer-medium composer-hot airbench94
    page-2018 imagenette-2020 cifar-augment openmixup label-noise long-tail corruption
"""


def expanded(*words, **given):
    return expand(words, DIGITS.recipe, DIGITS.data, given)


def made(**changes):
    step = {"tricks": ["mixup"], "said": "alpha 1"}
    facts = {
        "name": "x", "title": "X", "source": "somewhere", "design": "cumulative", "model": "a network",
        "data": "images", "metric": "accuracy in %", "selection": "last epoch", "base": {},
        "ingredients": [step, step | {"tricks": ["ema"]}],
    }  # fmt: skip
    return Preset.model_validate(facts | changes)


def test_the_presets_that_are_wanted_are_there():
    assert preset_names() == sorted(WANTED.split())


@pytest.mark.parametrize("name", preset_names())
def test_every_ingredient_is_a_trick_that_acts_and_all_of_a_stack_can_be_one_arm(name):
    found = preset(name)
    values = expanded(f"preset:{name}").values
    tricks = [registry.make(trick, values[trick]) for i in found.ingredients for trick in i.tricks]
    for trick in tricks:
        trick.check_acts()
    if found.design != "one_at_a_time":
        assert conflicts(tricks) == []


def test_the_steps_of_a_stack_and_of_single_ingredients():
    first, second = {"tricks": ["mixup"], "said": "a"}, {"tricks": ["ema"], "said": "b"}
    told = {"baseline": 70.0, "status": "S"}
    both = [first | {"published": 71.5, "status": "S"}, second | {"published": 71.0, "status": "R"}]
    assert made(ingredients=both, **told).steps == [1.5, -0.5]
    assert made(ingredients=both, design="one_at_a_time", **told).steps == [1.5, 1.0]
    assert made(ingredients=[first, both[1]], **told).steps == [None, None]


def test_published_steps_add_up_to_what_the_source_says():
    assert sum(preset("torchvision-2021").steps) == pytest.approx(4.728)
    assert sum(preset("bag-of-tricks-2018").steps) == pytest.approx(79.29 - 75.87)
    assert dict(zip(["mixup", "cutmix"], preset("openmixup").steps, strict=False)) == pytest.approx(
        {"mixup": 78.52 - 76.42, "cutmix": 79.45 - 76.42}
    )


@pytest.mark.parametrize(
    ("of", "times", "value"),
    [
        ("epochs", 0.05, 2.0),
        ("batch_size", 4.0, 80),
        ("batch_size", 0.01, 1),
        ("lr", 0.5, 0.05),
        ("weight_decay", 0.2, 0.001),
        ("half_life", 0.1, 0.5 ** (1 / 20)),  # 40 epochs of 5 updates; a tenth is 20
        ("half_life", 0.001, 0.5),  # never shorter than an update
    ],
)
def test_a_rule_takes_its_part_of_the_experiment(of, times, value):
    recipe = Recipe(epochs=40, batch_size=20, lr=0.1, weight_decay=0.005)
    data = Data(name="digits", train_size=119, val_size=20)
    assert Rule(of=of, times=times).value(recipe, data, "x") == pytest.approx(value)


def test_a_half_life_of_an_unknown_number_of_updates_is_refused_and_a_given_decay_is_not():
    data = Data(name="cifar10", val_size=5000)
    with pytest.raises(UserError, match=r"ema\.decay is a share of training.*set data\.train_size"):
        expand(["preset:torchvision-2021"], DIGITS.recipe, data)
    found = expand(["preset:torchvision-2021"], DIGITS.recipe, data, {"ema": {"decay": 0.9}})
    assert found.values["ema"] == {}


def test_a_preset_stands_in_its_place_and_given_values_win():
    found = expanded("sam", "preset:label-noise", "elr", elr={"lam": 7.0})
    assert found.tricks[:2] == ["sam", "mixup"]
    assert found.tricks.count("elr") == 1
    assert found.values["elr"] == {"beta": 0.7}
    assert list(found.presets) == ["label-noise"]


def test_steps_of_several_tricks_are_one_arm():
    assert expanded("preset:bag-of-tricks-2018").tricks[0] == "batch_size+linear_lr_scaling"
    assert expanded("preset:bag-of-tricks-2018").values["batch_size"] == {"size": 4 * DIGITS.recipe.batch_size}


def test_presets_that_disagree_are_no_one_study():
    with pytest.raises(UserError, match="different values of lamb"):
        expanded("preset:rsb-a1", "preset:rsb-a3")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ingredients": [{"tricks": ["mixup"], "said": "a", "published": 1.0}] * 2}, "has a status"),
        ({"ingredients": [{"tricks": ["mixup"], "said": "a", "values": {"ema": {"decay": 0.9}}}] * 2}, "values of ema"),
        ({"ingredients": [{"tricks": ["mixup"], "said": "a"}] * 2}, "in two ingredients"),
        ({"selection": "best"}, "selection"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_file_is_refused(changes, why):
    with pytest.raises(ValidationError, match=why):
        made(**changes)


def test_what_the_figures_are_is_said():
    assert made(n_runs=3, sd=0.2).caution == (
        "accuracy in %, a network on images: 3 runs for each figure, standard deviation 0.2, of the last weights, "
        "as ours."
    )
    assert (
        "one run for each figure, of the best epoch; ours are of the last weights."
        in made(n_runs=1, selection="best epoch").caution
    )


def shown(*words):
    return CliRunner().invoke(app, ["tricks", *words], env={"COLUMNS": "200"})


def test_the_terminal_shows_a_preset_and_which_trick_is_in_which():
    one = shown("preset:torchvision-2021").output
    assert "+1.80" in one
    assert "ema.decay: here 0.027" in one
    table = shown("--presets").output
    row = next(line for line in table.splitlines() if line.startswith("lamb "))
    assert row.count("x") == 3
    everything = json.loads(shown("--presets", "--json").output)
    assert {p["name"] for p in everything} == set(preset_names())
    assert json.loads(shown("preset:rsb-a3", "--json").output)["together"] == 78.1


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: preset("preset:rsb-a9"), "unknown preset 'rsb-a9'; did you mean 'rsb-a3'"),
        (lambda: recipes.check(["mixup", "preset:none"]), "unknown preset 'none'"),
        (lambda: registry.check("preset:rsb-a3"), "a preset is a list of tricks"),
    ],
)
def test_a_wrong_name_is_answered(call, why):
    with pytest.raises(UserError, match=why):
        call()
