"""No value of a hyperparameter trains the baseline under a trick's name."""

from functools import lru_cache
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.testing import tiny_spec
from harness.training.execute import execute
from harness.training.place import Place
from harness.training.session import set_up
from harness.tricks import registry
from harness.tricks.contract import NoEffect, NoOp

PLACE = Place(data_root=Path("unused-by-digits"))
TRICKS = sorted(registry.builtin())

BESIDE = {
    "cosine_decay": {"schedule": "constant"},
    "sgdr_warm_restarts": {"schedule": "constant"},
    "step_decay": {"schedule": "constant"},
}
"""Recipes in which a value at the end of its domain would be the recipe's own."""

EXTREMES = (0, 1)


def declared():
    """Every trick, hyperparameter and value that is declared to do nothing."""
    for name in TRICKS:
        for key, field in registry.load(name).model_fields.items():
            yield from ((name, key, mark.value) for mark in field.metadata if isinstance(mark, NoOp))


@lru_cache(maxsize=2)
def baseline(schedule):
    result = execute(tiny_spec(schedule=schedule), "no-op", PLACE)
    return result.row["test_digest"], result.points


TOGETHER = [
    ("colout", {"p_row": 0.0, "p_col": 0.0}),
    ("color_jitter_hsv", {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}),
    ("consistency_reg", {"shift": 0.0, "noise": 0.0}),
    ("dropout_multiplier", {"head": 0.0, "block": 0.0, "path": 0.0}),
    ("kd_logits_cached", {"hard": 1.0, "soft": 0.0}),
    ("kd_plus_ood", {"hard": 1.0, "soft": 0.0}),
    ("knowledge_distillation", {"hard": 1.0, "soft": 0.0}),
    ("random_affine", {"degrees": 0.0, "translate": 0.0, "scale": 0.0, "shear": 0.0}),
    ("random_resize", {"low": 1.0, "high": 1.0}),
    ("simcse_aux", {"weight": 0.0, "p": 0.0}),
    ("weight_decay", {"wd": 0.0}),
    ("weight_decay", {"wd": 0.0, "mode": "decoupled"}),
]
"""Values that do nothing only together, or only beside this recipe."""


def with_extreme(name, key, value, small):
    """The trick with one hyperparameter at zero or one, or None where that is no valid value."""
    for number in (int(value), float(value)):
        try:
            return registry.make(name, {**small(name).model_dump(exclude_unset=True), key: number})
        except UserError:
            continue
    return None


def test_the_values_at_which_formulas_vanish_are_declared():
    assert len(list(declared())) >= 25
    assert ("label_smoothing", "eps", 0) in declared()


@pytest.mark.parametrize(("name", "key", "value"), list(declared()))
def test_a_value_that_does_nothing_is_refused_in_the_same_words(name, key, value):
    trick = registry.make(name, {key: value})

    with pytest.raises(NoEffect, match=f"^{key} = {value} leaves everything as it is in the baseline$"):
        set_up(tiny_spec(trick), PLACE)


@pytest.mark.parametrize(("name", "params"), TOGETHER)
def test_values_that_do_nothing_together_are_refused(name, params):
    with pytest.raises(NoEffect):
        set_up(tiny_spec(registry.make(name, params)), PLACE)


@pytest.mark.parametrize("kind", ["norm", "value"])
def test_a_clip_that_clips_nothing_is_refused(kind):
    def status(limit):
        row = execute(tiny_spec(registry.make("gradient_clipping", {"limit": limit, "kind": kind})), "no-op", PLACE).row
        return row["status"], row["reason"]

    assert status(1e6) == ("skipped", "no gradient ever left limit = 1e+06, so this was the baseline")
    assert status(1e-3)[0] == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("name", TRICKS)
def test_no_extreme_value_trains_the_baseline(name, small):
    recipe = BESIDE.get(name, {"schedule": "constant"})
    for key in registry.load(name).model_fields:
        for value in EXTREMES:
            trick = with_extreme(name, key, value, small)
            if trick is None:
                continue
            result = execute(tiny_spec(trick, **recipe), "no-op", PLACE)
            if result.row["status"] == "ok":
                same = (result.row["test_digest"], result.points) == baseline(recipe["schedule"])
                assert not same, f"{name}.{key} = {value}"
