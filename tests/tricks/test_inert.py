"""No hyperparameter is inert in a bundled experiment: values all over the range of a search make different trainings.

Schedules are evaluated for every experiment; the slow suite trains the others on the digits.
"""

from functools import cache
from pathlib import Path

import pytest

from harness.experiment import Arm, experiments_dir, load_experiment, spec_of
from harness.testing import tiny_info, tiny_run
from harness.training.execute import execute
from harness.training.session import Place, data_info, factors_of_rate
from harness.tricks import registry
from harness.tricks.contract import HOOKS, NotApplicable, overrides
from harness.tricks.stack import Stack
from harness.tuning.space import space_of

PLACE = Place(data_root=Path("unused-by-digits"))
EXPERIMENTS = sorted(path.stem for path in experiments_dir().glob("*.toml"))
SHARES = (0.0, 1 / 3, 2 / 3, 1.0)
IMAGES = 5000
"""Training images where an experiment takes all there are."""

REFUSED = "refused"


def owned_hooks(name):
    return {hook for hook in HOOKS if overrides(registry.make(name), hook)}


SCHEDULES = [name for name in sorted(registry.builtin()) if owned_hooks(name) & {"schedule", "wrap_schedule"}]
ONLY_SCHEDULES = [name for name in SCHEDULES if owned_hooks(name) <= {"schedule", "wrap_schedule"}]


def tried(value):
    """All choices, or four values from end to end of a range, evenly on its scale."""
    return list(value.choices) or list(dict.fromkeys(value.at(share) for share in SHARES))


def settings(space, value, params):
    """What the trick's other choices may be while one value changes: as they are, or one of them otherwise."""
    yield params
    for other in space:
        if other.choices and other.name != value.name:
            key = other.name.partition(".")[2]
            yield from ({**params, key: option} for option in other.choices if option != other.default)


def inert(experiment, name, outcome, data):
    """Hyperparameters of which two values gave the same outcome whatever the trick's choices are, with these values."""
    params = experiment.tricks.get(name, {})
    space, _ = space_of(experiment, [registry.make(name, params)], [], data)
    found = {}
    for value in space:
        key = value.name.partition(".")[2]
        alike = []
        for around in settings(space, value, params):
            seen = {}
            for number in tried(value):
                seen.setdefault(outcome(name, {**around, key: number}), []).append(number)
            refused = seen.pop(REFUSED, [])
            alike = [numbers for numbers in seen.values() if len(numbers) > 1]
            if not alike and len(refused) < len(tried(value)):
                break
        else:
            found[key] = alike
    return found


def schedule_outcome(experiment):
    recipe, size = experiment.recipe, experiment.data.train_size or IMAGES

    def outcome(name, params):
        run = tiny_run(**recipe.model_dump(exclude_unset=True))
        run.steps_per_epoch = size // recipe.batch_size
        try:
            return tuple(factors_of_rate(Stack([registry.make(name, params)]), run))
        except NotApplicable:
            return REFUSED

    return outcome


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_value_of_a_schedule_makes_another_schedule(experiment):
    loaded = load_experiment(experiment)
    found = {name: inert(loaded, name, schedule_outcome(loaded), tiny_info()) for name in ONLY_SCHEDULES}

    assert {name: values for name, values in found.items() if values} == {}


def test_a_flat_part_of_a_range_is_found():
    """As of a ramp that never reaches the decay which is asked for."""
    loaded = load_experiment("digits")

    def outcome(name, params):
        return min(params["decay"], 0.95), params.get("ramp")

    assert inert(loaded, "ema", outcome, tiny_info()) == {"decay": [[0.99, 0.999, 0.9999]]}


EXCEPTIONS: dict[tuple[str, str], str] = {}
"""Hyperparameters with values that train alike on the digits, for a reason that is right."""


@cache
def trained(experiment, name, params):
    loaded = load_experiment(experiment)
    arm = Arm(tricks=(registry.make(name, dict(params)).spec(),))
    row = execute(spec_of(loaded, arm, 0), "inert", PLACE).row
    return REFUSED if row["status"] == "skipped" else row["test_digest"] or row["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(registry.builtin()) - set(ONLY_SCHEDULES)))
def test_every_value_of_a_trick_makes_another_training_of_the_digits(name):
    loaded = load_experiment("digits")

    def outcome(name, params):
        return trained("digits", name, tuple(params.items()))

    found = inert(loaded, name, outcome, data_info(loaded.data, PLACE))
    assert {key: values for key, values in found.items() if (name, key) not in EXCEPTIONS} == {}
