import pytest

from harness.errors import UserError
from harness.experiment import Arm, experiments_dir, load_experiment, spec_of
from harness.study.conditions import conditions, cross


@pytest.fixture(scope="module")
def digits():
    return load_experiment("digits")


def test_conditions_are_section_key_and_value():
    assert conditions("data.label_noise=0,0.2") == [("data", "label_noise", 0), ("data", "label_noise", 0.2)]
    assert conditions("recipe.augment.flip=true,false")[0] == ("recipe", "augment.flip", True)


def asks(experiment, question):
    """The experiment under another question."""
    return experiment.model_copy(update={"experiment": experiment.experiment.model_copy(update={"question": question})})


def test_each_condition_changes_its_option_and_its_question_and_nothing_else(digits):
    crossed = dict(cross(digits, "data.label_noise=0,0.2"))

    assert list(crossed) == ["label_noise-0", "label_noise-0.2"]
    assert crossed["label_noise-0.2"].data.label_noise == 0.2
    changed = crossed["label_noise-0.2"].data.model_copy(update={"label_noise": 0.0})
    question = f"{digits.experiment.question} (label_noise = 0.2)"
    assert crossed["label_noise-0.2"].model_copy(update={"data": changed}) == asks(digits, question)


def test_the_condition_that_the_experiment_has_keeps_its_run_ids(digits):
    same = dict(cross(digits, "data.label_noise=0,0.2"))["label_noise-0"]

    assert spec_of(same, Arm(), 3).run_id == spec_of(digits, Arm(), 3).run_id


@pytest.mark.parametrize("path", sorted(experiments_dir().glob("*.toml")), ids=lambda p: p.stem)
def test_every_bundled_experiment_can_be_crossed(path):
    experiment = load_experiment(path.stem)

    same = cross(experiment, f"recipe.lr={experiment.recipe.lr},0.001")[0][1]
    assert asks(same, experiment.experiment.question) == experiment


def test_an_experiment_without_a_question_gets_none(digits):
    assert [e.experiment.question for _, e in cross(asks(digits, ""), "recipe.epochs=1,2")] == ["", ""]


def test_nested_options_and_words(digits):
    flips = dict(cross(digits, "recipe.augment.flip=true,false"))
    rates = dict(cross(digits, "recipe.schedule=cosine,step"))

    assert flips["flip-true"].recipe.augment.flip is True
    assert flips["flip-true"].recipe.augment.shift == digits.recipe.augment.shift
    assert rates["schedule-cosine"].recipe.schedule == "cosine"


def test_labels_can_be_part_of_a_file_name(digits):
    names = [label for label, _ in cross(digits, "model.name=timm/resnet18,timm/resnet34")]

    assert names == ["name-timm-resnet18", "name-timm-resnet34"]


def test_conditions_whose_labels_would_be_equal_are_told_apart(digits):
    """In any order, so that the same condition always has the same name."""
    one = dict(cross(digits, "model.args.act=a b,a-b,c"))
    other = dict(cross(digits, "model.args.act=a-b,a b"))
    numbers = dict(cross(digits, 'model.args.x=1,"1",true'))

    assert [e.model.args["act"] for e in one.values()] == ["a b", "a-b", "c"]
    assert [label[:8] for label in one] == ["act-a-b-", "act-a-b-", "act-c"]
    assert set(other) < set(one)
    assert [e.model.args["x"] for e in numbers.values()] == [1, "1", True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label_noise=0,0.2", "SECTION.KEY=VALUE,VALUE"),
        ("study.seeds=1,2", "sections: data, model, recipe"),
        ("data.label_noise=0.2", "at least two different values"),
        ("data.label_noise=0,-0.0,1e-400", "at least two different values"),
        ("data.label_noise=0,inf", "--cross data.label_noise=inf: input should be a finite number"),
        ("data.=0,1", "SECTION.KEY=VALUE,VALUE"),
        ("data.label_noise=0.2,0.2", "at least two different values"),
        ("data.label_nose=0,0.2", "did you mean 'label_noise'"),
        ("data.label_noise=0,2", "--cross data.label_noise=2: input should be less than or equal to 1"),
        ("recipe.lr.x=1,2", "lr has no options of its own"),
    ],
)
def test_bad_conditions_are_refused(digits, text, words):
    with pytest.raises(UserError) as error:
        cross(digits, text)

    assert words in str(error.value)
