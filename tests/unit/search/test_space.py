"""Which values a search may change, and what is refused."""

import pytest

from harness.errors import UserError
from harness.experiment import load_experiment
from harness.testing import tiny_info
from harness.tricks import registry
from harness.tuning.space import check_ranges, settle, space_of
from harness.tuning.values import Value

BASE = """
[experiment]
name = "mine"
[data]
name = "digits"
val_size = 10
[model]
name = "digits_resnet"
[recipe]
epochs = 4
batch_size = 8
lr = 0.1
weight_decay = 1e-3
"""


@pytest.fixture
def space(tmp_path):
    """The space of an arm, for an experiment with further lines; values by name, and the notes."""

    def make(*tricks, lines="", nuisance=None, overrides=None):
        path = tmp_path / "mine.toml"
        path.write_text(BASE + lines)
        experiment = load_experiment(str(path), overrides)
        made = [registry.make(n, experiment.tricks.get(n, {})) for n in tricks]
        values, notes = space_of(experiment, made, nuisance, tiny_info())
        return {v.name: v for v in values}, notes

    return make


def test_the_recipe_is_searched_around_its_own_values_on_a_log_scale(space):
    values, notes = space()

    assert values["recipe.lr"] == Value("recipe.lr", 0.1, 0.01, 1.0, log=True)
    assert values["recipe.weight_decay"] == Value("recipe.weight_decay", 1e-3, 3e-5, 0.03, log=True)
    assert (len(values), notes) == (2, [])


def test_without_a_weight_decay_the_range_is_fixed_and_holds_zero(space):
    values, _ = space(overrides={"recipe": {"weight_decay": 0.0}})

    assert values["recipe.weight_decay"] == Value("recipe.weight_decay", 0.0, 0.0, 0.01)


def test_cards_give_ranges_and_choices_and_the_experiment_gives_defaults(space):
    values, _ = space("mixup", nuisance=[], overrides={"tricks": {"mixup": {"alpha": 0.2}}})

    assert values["mixup.alpha"] == Value("mixup.alpha", 0.2, 0.05, 8.0, log=True)
    assert values["mixup.per"] == Value("mixup.per", "batch", choices=("batch", "elem"))
    assert values["mixup.prob"].default == 1.0
    assert list(values) == ["mixup.alpha", "mixup.per", "mixup.prob"]


def test_whole_numbers_stay_whole(space):
    values, _ = space("cutout", nuisance=[])

    assert values["cutout.n_holes"] == Value("cutout.n_holes", 1, 1, 3, integer=True)
    assert values["cutout.n_holes"].record() == {"low": 1, "high": 3, "log": False, "integer": True, "default": 1}


def test_a_stack_has_the_values_of_all_its_tricks(space):
    values, _ = space("ema", "mixup", nuisance=["lr"])

    assert {n.split(".")[0] for n in values} == {"recipe", "ema", "mixup"}


def test_the_file_replaces_ranges_and_adds_numbers_of_the_recipe(space):
    values, _ = space(
        "mixup",
        lines='[search]\n"recipe.lr" = [0.02, 0.5, "log"]\nrecipe.momentum = [0.8, 0.95]\nmixup.alpha = [0.5, 2]\n'
        'mixup.per = { choices = ["batch"] }\nrecipe.augment.rotation = [0, 20]\n',
    )

    assert values["recipe.lr"] == Value("recipe.lr", 0.1, 0.02, 0.5, log=True)
    assert values["recipe.momentum"] == Value("recipe.momentum", 0.9, 0.8, 0.95)
    assert values["recipe.augment.rotation"] == Value("recipe.augment.rotation", 0.0, 0.0, 20.0)
    assert values["mixup.alpha"] == Value("mixup.alpha", 1.0, 0.5, 2.0)
    assert "recipe.weight_decay" in values
    assert "mixup.per" not in values, "one choice is no search"


def test_the_file_may_ask_for_the_scale_of_the_distance_to_one(space):
    values, _ = space(lines='[search]\nrecipe.momentum = [0.5, 0.99, "log1m"]\n')

    assert values["recipe.momentum"] == Value("recipe.momentum", 0.9, 0.5, 0.99, log1m=True)
    assert values["recipe.momentum"].at(0.5) == pytest.approx(1 - 0.005**0.5, abs=1e-4)


def test_a_named_nuisance_is_searched_and_the_others_are_not(space):
    ranges = "[search]\nrecipe.momentum = [0.8, 0.95]\nrecipe.epochs = [2, 8]\n"

    assert list(space(lines=ranges, nuisance=["epochs"])[0]) == ["recipe.epochs"]
    assert space(lines=ranges, nuisance=["epochs"])[0]["recipe.epochs"].integer
    assert space(lines=ranges, nuisance=[])[0] == {}


def test_a_range_without_the_default_is_widened_and_a_note_says_so(space):
    values, notes = space(lines='[search]\nrecipe.lr = [0.2, 2.0, "log"]\nrecipe.epochs = { choices = [8, 16] }\n')

    assert (values["recipe.lr"].low, values["recipe.lr"].high) == (0.1, 2.0)
    assert values["recipe.epochs"].choices == (4, 8, 16)
    assert "recipe.lr: the range is widened to hold the default, 0.1" in notes[0]
    assert "recipe.epochs: the default 4 is tried beside" in notes[1]


def test_a_default_that_no_range_can_hold_is_tried_once_and_a_note_says_so(space):
    values, notes = space("mixup_latent", nuisance=[])

    assert not values["mixup_latent.layer"].holds_default
    assert "only trial 0 has it" in notes[0]


def test_values_of_the_recipe_that_an_arm_sets_itself_are_not_searched_for_it(space):
    values, notes = space("adamw")

    assert not [n for n in values if n.startswith("recipe")]
    assert "recipe.lr is not searched for adamw, which sets its own." in notes
    assert "recipe.lr" in space("linear_lr_scaling")[0], "scaling a rate is not setting it"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("recipe.lrr = [0.1, 1]", "search.recipe.lrr: unknown value; did you mean 'lr'?"),
        ("mixpu.alpha = [0.1, 1]", "unknown trick 'mixpu'; did you mean 'mixup'?"),
        ("mixup.alhpa = [0.1, 1]", "search.mixup.alhpa: unknown value; did you mean 'alpha'?"),
        ("mixup.alpha = [-1, 1]", "search.mixup.alpha: -1.0 is not possible: input should be greater than 0"),
        ("recipe.momentum = [0.5, 1.5]", "search.recipe.momentum: 1.5 is not possible: input should be less than 1"),
        ("recipe.epochs = [1.5, 3]", "search.recipe.epochs: 1.5 is not possible: input should be a valid integer"),
        ("recipe.nesterov = { choices = [true, false] }", "a search changes numbers only"),
        ("recipe.schedule = [0, 1]", "a search changes numbers only"),
        ("recipe.lr.peak = [0, 1]", "recipe has no 'lr' with values of its own"),
        ("mixup.per = [0, 1]", "search.mixup.per: is not a number; write {choices = [...]}"),
        ('mixup.per = { choices = ["batch", "image"] }', "search.mixup.per: 'image' is not possible: input should be"),
    ],
)
def test_a_range_that_fits_nothing_is_refused(space, line, expected):
    with pytest.raises(UserError) as error:
        space("mixup", lines=f"[search]\n{line}\n")

    assert expected in str(error.value)


def test_every_wrong_range_has_a_line_even_of_tricks_that_are_not_searched(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(BASE + "[search]\nmixup.alpha = [-1, 1]\ncutmix.prob = [0, 2]\nrecipe.lr = [0, 1]\n")

    with pytest.raises(UserError) as error:
        check_ranges(load_experiment(str(path)))

    assert [line.split(":")[0] for line in str(error.value).splitlines()] == [
        "search.mixup.alpha", "search.cutmix.prob", "search.recipe.lr",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[1, 0.5]", "low must be below high, and 1 is not below 0.5"),
        ('[0, 1, "log"]', "a log scale needs low > 0, and it is 0"),
        ('[0, 1, "log1m"]', "the scale log1m needs high < 1, and it is 1"),
        ("{ low = 0.1, high = 0.9, log = true, log1m = true }", "log and log1m are two scales; choose one"),
        ("[0, 1, 2]", 'a range is [low, high], [low, high, "log"], [low, high, "log1m"] or {choices = [...]}'),
        ('"log"', 'a range is [low, high], [low, high, "log"], [low, high, "log1m"] or {choices = [...]}'),
        ("[0.1, inf]", "search.recipe.lr.high = inf: input should be a finite number"),
        ("[true, 2]", "search.recipe.lr.low = True: input should be a valid number"),
        ("{ choices = [] }", "search.recipe.lr.choices = []"),
        ("{ choices = [1, 1] }", "a choice is named twice: 1, 1"),
        ("{ low = 1 }", "a range needs low and high, or choices"),
        ("{ choices = [1], log = true }", "choices have neither ends nor a scale"),
        ("{ lo = 1, high = 2 }", "search.recipe.lr.lo: unknown key"),
    ],
)
def test_a_range_of_the_wrong_form_is_refused_when_the_file_is_read(space, value, expected):
    with pytest.raises(UserError) as error:
        space(lines=f'[search]\n"recipe.lr" = {value}\n')

    assert expected in str(error.value)


def test_a_nuisance_without_a_range_says_where_to_give_one(space):
    with pytest.raises(UserError, match=r'--nuisance momentum: nothing says where to look .* "recipe.momentum" = '):
        space(nuisance=["momentum"])
    with pytest.raises(UserError, match=r"search.recipe.lrr: unknown value; did you mean 'lr'"):
        space(nuisance=["lrr"])


def test_ranges_change_no_run_and_survive_a_copy(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(BASE)
    plain = load_experiment(str(path))
    path.write_text(BASE + '[search]\nrecipe.lr = [0.02, 0.5, "log"]\n')
    ranged = load_experiment(str(path))

    assert settle(plain, ("mixup",), {})[0].recipe == settle(ranged, ("mixup",), {})[0].recipe
    assert type(ranged).model_validate(ranged.model_dump()) == ranged


def test_values_reach_the_recipe_and_the_tricks(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(BASE)
    values = {"recipe.lr": 0.3, "recipe.augment.shift": 0.25, "mixup.alpha": 0.7}
    experiment, arm = settle(load_experiment(str(path)), ("ema", "mixup"), values)

    assert (experiment.recipe.lr, experiment.recipe.augment.shift) == (0.3, 0.25)
    assert {t.name: t.params.get("alpha") for t in arm.tricks} == {"ema": None, "mixup": 0.7}
    assert experiment.recipe.epochs == 4


def test_values_that_do_not_go_together_are_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(BASE)

    with pytest.raises(UserError, match="nesterov needs momentum > 0"):
        settle(load_experiment(str(path)), (), {"recipe.momentum": 0.0})


@pytest.mark.parametrize(
    ("value", "ends"),
    [
        (Value("a", 1.0, 0.01, 1.0, log=True), (0.01, 0.1, 1.0)),
        (Value("a", 1.0, 0.0, 3.0), (0.0, 1.5, 3.0)),
        (Value("a", 1, 1, 5, integer=True), (1, 3, 5)),
        (Value("a", "x", choices=("x", "y", "z")), ("x", "y", "z")),
    ],
)
def test_shares_of_the_way_through_a_range(value, ends):
    assert tuple(value.at(share) for share in (0.0, 0.5, 1.0)) == pytest.approx(ends)


def test_tried_values_have_four_digits_but_for_the_default():
    value = Value("a", 0.123456789, 0.001, 1.0, log=True)

    assert value.used(0.0123456) == 0.01235
    assert value.used(0.123456789) == 0.123456789
    assert value.used(0.99999) == 1.0
    assert Value("a", 0.1, 0.0, 0.99996).used(0.99996) == 0.99996, "rounding never leaves the range"
