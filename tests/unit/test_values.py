"""What may be a value, which id it has, and what is to blame when it may not."""

import math

import pytest
from pydantic import ValidationError

from harness.errors import UserError
from harness.experiment import Arm, Model, TrickSpec, load_experiment, spec_of
from harness.tricks import registry
from harness.values import parted, read_seeds, read_toml, read_value, read_values, readable, seeds_word

ENDLESS = [math.inf, -math.inf, math.nan, 10**400, -(10**400), 2**53 + 1]


@pytest.mark.parametrize("value", ENDLESS)
@pytest.mark.parametrize(
    "make",
    [
        lambda v: load_experiment("digits", {"recipe": {"lr": v}}),
        lambda v: load_experiment("digits", {"experiment": {"margin": v}}),
        lambda v: load_experiment("digits", {"recipe": {"milestones": [0.5, v]}}),
        lambda v: load_experiment("digits", {"recipe": {"augment": {"shift": v}}}),
        lambda v: load_experiment("digits", {"model": {"args": {"x": v}}}),
        lambda v: load_experiment("digits", {"tricks": {"mixup": {"alpha": v}}}),
        lambda v: load_experiment("digits", {"search": {"recipe.lr": [0.1, v]}}),
        lambda v: registry.make("mixup", {"alpha": v}),
        lambda v: Model(name="resnet8", args={"x": v}),
        lambda v: TrickSpec(name="x", version=1, params={"a": v}),
        lambda v: TrickSpec(name="x", version=1, params={"a": [v]}),
    ],
)
def test_no_number_without_a_size_gets_in_anywhere(make, value):
    with pytest.raises((UserError, ValidationError), match=r"finite number|go up to 2\^53|less than or equal"):
        make(value)


def test_minus_zero_is_zero_and_has_its_id():
    def run(**recipe):
        return spec_of(load_experiment("digits", {"recipe": recipe}), Arm(), 0).run_id

    assert run(weight_decay=-0.0) == run(weight_decay=0.0)
    assert run(augment={"shift": -0.0}) == run(augment={"shift": 0.0})
    least = [registry.make("label_smoothing", {"eps": eps}).spec() for eps in (-0.0, 0.0)]
    assert least[0].model_dump_json() == least[1].model_dump_json()


def test_text_that_can_be_stored():
    assert readable("é 💥 a\tb\nc")
    for text in ("\x00", "\x1b[31m", "\x7f", "\x9b", "\udcff", "a\rb"):
        assert not readable(text)


def test_a_typed_value_is_toml_or_text():
    assert [read_value(t, "x") for t in ("0.5", "true", "[1, 2]", "cosine", "'1'", "²")] == [
        0.5, True, [1, 2], "cosine", "1", "²",
    ]  # fmt: skip
    assert read_values("1,true,1.0,a", "x") == [1, True, "a"]
    for text, why in (("9" * 5000, "2^53"), ("[" * 3000, "nested"), ("1\nlr = 2", "one line")):
        with pytest.raises(UserError) as error:
            read_value(text, "--set recipe.epochs=...")
        assert str(error.value).startswith("--set recipe.epochs=...: ")
        assert why in str(error.value)


@pytest.mark.parametrize("text", ["a = 1\na = 2", f"a = {'9' * 5000}", f"a = {'[' * 3000}", "a"])
def test_a_text_that_is_no_toml_is_refused(text):
    with pytest.raises(UserError, match=r"^my\.toml: not valid TOML: "):
        read_toml(text, "my.toml")


def blame(tmp_path, *changes, overrides=None, options=None):
    text = load_text().replace(*changes) if changes else load_text()
    (tmp_path / "my.toml").write_text(text)
    with pytest.raises(UserError) as error:
        load_experiment(str(tmp_path / "my.toml"), overrides, options)
    return str(error.value).replace(f"{tmp_path}/", "")


def load_text():
    from harness.experiment import find_experiment

    return find_experiment("digits").read_text()


def test_an_error_blames_the_place_that_the_value_came_from(tmp_path):
    shift = "--set recipe.augment={shift = 2}"

    assert blame(tmp_path, "epochs = 80", "epochs = -1") == (
        "my.toml: recipe.epochs = -1: input should be greater than or equal to 1"
    )
    assert blame(
        tmp_path, overrides={"recipe": {"epochs": -1}}, options={("recipe", "epochs"): "--set recipe.epochs=-1"}
    ) == "--set recipe.epochs=-1: input should be greater than or equal to 1"  # fmt: skip
    assert blame(
        tmp_path, overrides={"recipe": {"augment": {"shift": 2}}}, options={("recipe", "augment"): shift}
    ) == f"{shift}: recipe.augment.shift = 2: input should be less than or equal to 0.5"  # fmt: skip
    assert blame(
        tmp_path, "nesterov = true\n", "", overrides={"recipe": {"momentum": 0.0}},
        options={("recipe", "momentum"): "--set recipe.momentum=0.0"},
    ) == (
        "my.toml with --set recipe.momentum=0.0: recipe: nesterov needs momentum > 0 (the default of recipe.nesterov "
        "is true); set nesterov = false"
    )  # fmt: skip


def test_a_hyperparameter_blames_its_place_too():
    typed = {("tricks", "mixup", "alpha"): "--set mixup.alpha=-1"}
    asked = load_experiment("digits", {"tricks": {"mixup": {"alpha": -1}}}, typed)
    with pytest.raises(UserError) as error:
        registry.make("mixup", asked.tricks["mixup"], asked.origins)
    assert str(error.value) == "--set mixup.alpha=-1: input should be greater than 0"

    with pytest.raises(UserError) as error:
        registry.make("ema", {"decay": 7.0}, asked.origins)
    assert str(error.value).endswith("digits.toml: tricks.ema.decay = 7.0: input should be less than 1")


def test_a_question_says_which_of_its_premises_are_others():
    digits = load_experiment("digits").experiment.question

    def asked(overrides):
        return load_experiment("digits", overrides).experiment.question

    assert asked({"recipe": {"epochs": 6, "lr": 0.2}}) == f"{digits} (with recipe.epochs = 6)", "the rate is the file's"
    assert asked({"data": {"image_size": 16}, "recipe": {"augment": {"flip": True}}}) == (
        f"{digits} (with data.image_size = 16, recipe.augment.flip = true)"
    )
    assert asked({"experiment": {"margin": 1.0}, "tricks": {"mixup": {"alpha": 1.0}}, "study": {"seeds": 3}}) == digits
    assert asked({"experiment": {"question": "Mine?"}, "recipe": {"epochs": 6}}) == "Mine?"
    assert asked({"experiment": {"question": ""}, "recipe": {"epochs": 6}}) == ""


@pytest.mark.parametrize(
    ("asked", "seeds"), [(3, (0, 1, 2)), ("3", (0, 1, 2)), ("10:13", (10, 11, 12)), ("0:2", (0, 1)), ("007:9", (7, 8))]
)
def test_seeds_are_a_number_or_a_range(asked, seeds):
    assert tuple(read_seeds(asked)) == seeds


BAD = (
    "20:10",
    "5:5",
    "-1:3",
    "a:b",
    "",
    ":",
    "3:",
    ":3",
    "1:2:3",
    "1.5",
    "0",
    0,
    -1,
    10_001,
    "0:10001",
    True,
    2.0,
    None,
)


@pytest.mark.parametrize("asked", BAD)
def test_what_is_no_set_of_seeds_is_refused(asked):
    with pytest.raises(ValueError, match="a number of seeds from 1 to 10000, or a range such as 10:20"):
        read_seeds(asked)


def test_seeds_are_written_as_they_are_read_where_they_are_unbroken():
    assert seeds_word((0, 1, 2)) == 3
    assert seeds_word((10, 11)) == "10:12"
    assert seeds_word((3, 5)) is seeds_word(()) is None


def test_labels_are_parted_at_commas_but_not_inside_parentheses():
    assert parted("mixup, cutmix(alpha=1, prob=0.5),ema") == ["mixup", "cutmix(alpha=1, prob=0.5)", "ema"]
    assert parted(" , ") == []
