"""Designs against lists made by hand."""

from itertools import combinations

import numpy as np
import pytest

from harness.errors import UserError
from harness.study.designs import DESIGNS, PlannedArm, _columns, arms_of, parse_arm
from harness.values import read_values


def labels(design, *asked, max_arms=None):
    return [arm.label for arm in arms_of(design, asked, max_arms).arms]


def matrix(design):
    """The arms as signs, (arms, factors)."""
    return np.array([[1 if set(f) <= set(arm.names) else -1 for f in design.factors] for arm in design.arms])


def test_one_at_a_time_keeps_combinations_that_were_asked_for():
    assert labels("one_at_a_time", "b", "c+a", "b") == ["baseline", "b", "a+c"]
    assert arms_of("one_at_a_time", ["a"]).factors == ()


def test_leave_one_out():
    assert labels("leave_one_out", "a", "b", "c") == ["baseline", "a+b+c", "b+c", "a+c", "a+b"]


def test_cumulative_follows_the_order_given():
    assert labels("cumulative", "c", "a", "b") == ["baseline", "c", "a+c", "a+b+c"]
    assert arms_of("cumulative", ["c", "a", "b"]).factors == (("c",), ("a",), ("b",))


def test_pairs():
    assert labels("pairs", "a", "b", "c") == ["baseline", "a", "b", "c", "a+b", "a+c", "b+c"]


def test_factorial():
    assert labels("factorial", "a", "b") == ["baseline", "a", "b", "a+b"]
    assert labels("factorial", "a", "b", "c") == ["baseline", "a", "b", "c", "a+b", "a+c", "b+c", "a+b+c"]


def test_a_combination_is_one_factor():
    assert labels("factorial", "b+a", "c") == ["baseline", "a+b", "c", "a+b+c"]


def test_aa_is_the_baseline_and_the_placebo():
    assert labels("aa") == labels("aa", "placebo") == ["baseline", "placebo"]


def test_sweep_gives_each_value_an_arm_with_a_label_of_its_own():
    arms = arms_of("sweep", ["mixup.alpha=0.1,0.4,0.1"]).arms

    assert arms[1:] == (
        PlannedArm(("mixup",), {"mixup": {"alpha": 0.1}}),
        PlannedArm(("mixup",), {"mixup": {"alpha": 0.4}}),
    )
    assert [a.label for a in arms] == ["baseline", "mixup(alpha=0.1)", "mixup(alpha=0.4)"]


def test_values_are_those_of_toml_and_bare_words_are_strings():
    assert read_values("2,0.5,true,2.0", "x") == [2, 0.5, True]
    assert read_values("sgd,0.5", "x") == ["sgd", 0.5]
    assert read_values("[0.5],[0.3, 0.6]", "x") == [[0.5], [0.3, 0.6]]
    assert read_values("", "x") == []


def test_the_half_fraction_of_four():
    assert labels("fractional", "a", "b", "c", "d") == [
        "baseline", "c+d", "b+d", "b+c", "a+d", "a+c", "a+b", "a+b+c+d",
    ]  # fmt: skip
    assert arms_of("fractional", "abcd").notes == (
        "8 of 16 arms, a 2^(4-1) fraction of resolution IV.",
        "Only the sum of these interactions can be estimated: a:b = c:d.",
        "Only the sum of these interactions can be estimated: a:c = b:d.",
        "Only the sum of these interactions can be estimated: a:d = b:c.",
    )


@pytest.mark.parametrize(
    ("k", "max_arms", "arms"),
    [
        *((2, None, 4), (3, None, 8), (4, None, 8), (5, None, 16), (6, None, 16), (7, None, 16), (8, None, 16)),
        *((9, None, 32), (16, None, 32), (17, None, 64)),
        *((4, 15, 8), (4, 16, 16), (5, 32, 16), (6, 40, 32), (8, 64, 64)),
    ],
)
def test_number_of_arms_of_a_fraction(k, max_arms, arms):
    design = arms_of("fractional", [f"t{i}" for i in range(k)], max_arms)

    assert len(design.arms) == len({a.names for a in design.arms}) == arms
    assert design.arms[0].names == ()


@pytest.mark.parametrize("k", [4, 5, 6, 7, 8, 9, 11, 16, 17])
def test_a_fraction_is_orthogonal_and_its_main_effects_are_clear_of_interactions(k):
    signs = matrix(arms_of("fractional", [f"t{i}" for i in range(k)]))

    assert (signs.T @ signs == len(signs) * np.eye(k)).all()
    assert (signs.sum(axis=0) == 0).all()
    for a, b in combinations(range(k), 2):
        assert not (signs.T @ (signs[:, a] * signs[:, b])).any()


@pytest.mark.parametrize(
    ("k", "m", "words"),
    [(5, 4, 0), (6, 4, 3), (7, 4, 7), (8, 4, 14), (7, 5, 1), (8, 5, 3), (9, 5, 6), (10, 5, 10), (11, 5, 25),
     (12, 5, 38), (7, 6, 0), (8, 6, 0), (9, 6, 1), (10, 6, 2)],
)  # fmt: skip
def test_fractions_have_the_fewest_words_of_four_letters(k, m, words):
    # Minimum aberration designs as tabulated by Box, Hunter and Hunter 2005 and Wu and Hamada 2009.
    assert _columns(k, m)[0] == words


def test_five_tricks_fit_in_sixteen_arms_without_aliases():
    assert arms_of("fractional", "abcde").notes == ("16 of 32 arms, a 2^(5-1) fraction of resolution V or higher.",)


def test_arms_that_clash_are_skipped_with_the_reason_and_a_note():
    design = arms_of("factorial", ["a", "b", "c"]).skipping(lambda names: ["no"] if {"a", "b"} <= set(names) else [])

    assert {a.label for a in design.arms if a.skipped == "no"} == {"a+b", "a+b+c"}
    assert sum(a.skipped is None for a in design.arms) == 6
    assert design.notes[0].startswith("2 of 8 arms cannot run")
    assert "not balanced" in design.notes[0]


def test_nothing_is_noted_where_nothing_clashes():
    design = arms_of("pairs", ["a", "b"])

    assert design.skipping(lambda _: []) == design
    assert design.notes == ()


@pytest.mark.parametrize(
    ("design", "asked", "max_arms", "words"),
    [
        ("latin", ["a"], None, "unknown design 'latin'"),
        ("factorail", ["a"], None, "did you mean 'factorial'"),
        ("plackett-burman", ["a", "b"], None, "resolution is III"),
        ("factorial", list("abcde"), None, "has 32 arms, and the limit is 16; use design fractional (16 arms)"),
        ("factorial", list("abc"), 7, "has 8 arms, and the limit is 7"),
        ("fractional", list("abcdefg"), 15, "has 16 arms"),
        ("pairs", list("abc"), 6, "has 7"),
        ("leave_one_out", ["a+b+c"], None, "at least two tricks, and got 'a+b+c'; write them apart"),
        ("cumulative", ["a+b", "b"], None, "b is in more than one of a+b, b"),
        ("sweep", ["mixup"], None, "TRICK.PARAM=VALUE,VALUE"),
        ("sweep", ["mixup.alpha="], None, "TRICK.PARAM=VALUE,VALUE"),
        ("aa", ["mixup"], None, "leave out mixup"),
    ],
)
def test_bad_designs_are_refused_with_the_rule(design, asked, max_arms, words):
    with pytest.raises(UserError) as error:
        arms_of(design, asked, max_arms)

    assert words in str(error.value)


def test_a_larger_factorial_can_be_allowed():
    assert len(arms_of("factorial", "abcde", 32).arms) == 32


def test_dashes_and_underscores_are_the_same():
    assert arms_of("one-at-a-time", ["a"]).name == "one_at_a_time"
    assert labels("leave-one-out", "a", "b") == labels("leave_one_out", "a", "b")


def test_every_design_has_a_description_and_can_be_made():
    asked = {"sweep": ["a.p=1,2"], "aa": []}
    for name, description in DESIGNS.items():
        assert description
        assert arms_of(name, asked.get(name, ["a", "b"])).arms[0].label == "baseline"


def test_parse_arm_sorts():
    assert parse_arm("b+a+b") == ("a", "b")
