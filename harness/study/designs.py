"""Designs: pure functions from the tricks that were asked for to the arms of a study.

A *factor* is what one design switches on and off: a trick, or a combination that was asked for as "a+b".
The arms of most designs are sets of factors. Plackett-Burman designs are left out on purpose: they mix
two-way interactions into the main effects, and tricks interact.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from harness.errors import UserError, did_you_mean
from harness.experiment import BASELINE
from harness.values import read_values

ArmNames = tuple[str, ...]
"""The tricks of one arm, sorted; () is the baseline."""

DESIGNS = {
    "one_at_a_time": "the baseline and each trick by itself",
    "leave_one_out": "the baseline, all tricks together, and all but each",
    "cumulative": "one trick more at a time, in the order given",
    "pairs": "each trick and each pair of tricks",
    "factorial": "every combination",
    "fractional": "a balanced part of all combinations, of resolution IV or higher",
    "sweep": "one trick at several values of a hyperparameter, written TRICK.PARAM=VALUE,VALUE",
    "aa": "the baseline against itself with other random streams (the placebo)",
}
"""Each design in a few words."""

FACTORIAL_ARMS = 16
"""Most arms of a full factorial, unless another limit is asked for."""

PLACEBO = "placebo"


@dataclass(frozen=True)
class PlannedArm:
    """One arm as a design made it.

    `params` are hyperparameters of this arm only, trick -> parameter -> value. `skipped` is the reason why
    the arm cannot run, or None. `called` is its label, where it has one from before.
    """

    names: ArmNames
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    skipped: str | None = None
    called: str = ""

    @property
    def label(self) -> str:
        """Trick names joined by "+", each followed by its parameters, as in "mixup(alpha=0.4)"; or "baseline"."""

        def shown(name: str) -> str:
            given = ", ".join(f"{k}={v}" for k, v in self.params.get(name, {}).items())
            return f"{name}({given})" if given else name

        return self.called or "+".join(shown(n) for n in self.names) or BASELINE


@dataclass(frozen=True)
class Design:
    """The arms of a study, the baseline first.

    `name` is one of `DESIGNS`. `factors` are what the arms are sets of, in the order asked; empty where
    they are no such sets. `notes` are sentences that a reader of the results must know.
    """

    name: str
    arms: tuple[PlannedArm, ...]
    factors: tuple[ArmNames, ...] = ()
    notes: tuple[str, ...] = ()

    def skipping(self, clashes: Callable[[ArmNames], Sequence[str]]) -> Design:
        """The same design with every arm marked as skipped whose tricks clash.

        Args:
            clashes: the reasons why tricks cannot be combined; empty when they can.
        """
        arms = tuple(replace(arm, skipped="; ".join(clashes(arm.names)) or None) for arm in self.arms)
        lost = sum(arm.skipped is not None for arm in arms)
        if not lost:
            return self
        note = f"{lost} of {len(arms)} arms cannot run, because tricks in them cannot be combined"
        if self.factors:
            note += "; the design is not balanced, and what needs those arms is not estimated"
        return replace(self, arms=arms, notes=(*self.notes, f"{note}."))


def one_at_a_time(asked: Sequence[ArmNames]) -> list[ArmNames]:
    """The baseline, then each asked arm by itself (a combination that was asked for as "a+b" is one arm)."""
    return [(), *dict.fromkeys(asked)]


def leave_one_out(factors: Sequence[ArmNames]) -> list[ArmNames]:
    """The baseline, the full stack, and the full stack without each factor."""
    return _distinct([], factors, *([f for f in factors if f != left] for left in factors))


def cumulative(factors: Sequence[ArmNames]) -> list[ArmNames]:
    """The baseline, the first factor, the first two, and so on."""
    return _distinct(*(factors[:n] for n in range(len(factors) + 1)))


def pairs(factors: Sequence[ArmNames]) -> list[ArmNames]:
    """The baseline, every factor, and every pair."""
    return _distinct(*(chosen for size in range(3) for chosen in combinations(factors, size)))


def factorial(factors: Sequence[ArmNames]) -> list[ArmNames]:
    """All 2^k sets of k factors, the small ones first."""
    return _distinct(*(chosen for size in range(len(factors) + 1) for chosen in combinations(factors, size)))


def fractional(factors: Sequence[ArmNames], max_arms: int | None = None) -> list[ArmNames]:
    """A regular two-level fraction of resolution IV or higher that holds the baseline.

    Main effects are clear of two-way interactions. Of the fractions within the limit, one with the fewest
    two-way interactions that cannot be told apart, and of those the smallest.

    Args:
        factors: k of them; below four, only all combinations have resolution IV.
        max_arms: limit; by default the number of arms of the smallest such fraction.

    Raises:
        UserError: the limit is below the smallest such fraction.
    """
    from pyDOE3 import fracfact  # takes a second to import

    k = len(factors)
    smallest = min(k, 1 + max(2, (k - 1).bit_length()))  # resolution IV holds at most 2^(m-1) factors in 2^m arms
    largest = min(k, (max_arms or 2**smallest).bit_length() - 1)
    if largest < smallest:
        raise UserError(
            f"max arms = {max_arms}: the smallest design of resolution IV for {k} tricks has {2**smallest} arms; "
            f"allow {2**smallest}, or ask for fewer tricks"
        )
    _, columns = min((_columns(k, m) for m in range(smallest, largest + 1)), key=lambda found: found[0])
    matrix = fracfact(" ".join("".join(string.ascii_lowercase[i] for i in _bits(c)) for c in columns))
    matrix = matrix * -matrix[0]  # turning columns round keeps the resolution and makes the first arm the baseline
    rows = [[f for f, on in zip(factors, row > 0, strict=True) if on] for row in matrix]
    return _distinct(*sorted(rows, key=len))


def sweep(asked: Sequence[str]) -> list[PlannedArm]:
    """The baseline, then one arm for each value of a hyperparameter.

    Args:
        asked: "TRICK.PARAM=VALUE,VALUE"; values as in TOML, and bare words are strings.

    Raises:
        UserError: the text has another form.
    """
    arms = [PlannedArm(())]
    for text in asked:
        left, _, right = text.partition("=")
        trick, _, parameter = left.partition(".")
        values = read_values(right, f"sweep of '{text}'")
        if not (trick and parameter and values):
            raise UserError(f"sweep of '{text}': write TRICK.PARAM=VALUE,VALUE, for example mixup.alpha=0.1,0.2,0.4")
        arms += [PlannedArm((trick,), {trick: {parameter: value}}) for value in values]
    return arms


def arms_of(design: str, asked: Sequence[str], max_arms: int | None = None) -> Design:
    """The arms of a design.

    Args:
        design: a name of `DESIGNS`, with "_" or "-".
        asked: what was typed: trick names, combinations joined by "+", or for a sweep a trick with values.
        max_arms: the most arms wanted, the baseline included; by default 16 for a full factorial and
            for a fraction the smallest of resolution IV.

    Raises:
        UserError: the design is unknown, does not fit what was asked for, or has more arms than allowed.
    """
    name = design.replace("-", "_").lower()
    if name in ("plackett_burman", "pb"):
        raise UserError(
            f"design '{design}' is not offered: its resolution is III, so that interactions of two tricks are counted "
            "as effects of a third one, and tricks interact; use fractional"
        )
    if name not in DESIGNS:
        raise UserError(f"unknown design '{design}'{did_you_mean(name, DESIGNS)} Known: {', '.join(DESIGNS)}")
    made = _make(name, asked, max_arms)
    if max_arms is not None and len(made.arms) > max_arms:
        raise UserError(f"max arms = {max_arms}: design {name} of {', '.join(asked)} has {len(made.arms)}; allow them")
    return made


def _make(name: str, asked: Sequence[str], max_arms: int | None) -> Design:
    if name == "sweep":
        return Design(name, tuple(sweep(asked)))
    parsed = list(dict.fromkeys(parse_arm(text) for text in asked))
    if name == "aa":
        if parsed not in ([], [(PLACEBO,)]):
            raise UserError(f"design aa compares the baseline with {PLACEBO} only; leave out {', '.join(asked)}")
        return _planned(name, [(), (PLACEBO,)])
    if name == "one_at_a_time":
        return _planned(name, one_at_a_time(parsed))
    _check_factors(name, asked, parsed)
    if name == "factorial":
        _check_size(len(parsed), max_arms or FACTORIAL_ARMS)
        return _planned(name, factorial(parsed), parsed)
    if name == "fractional":
        arms = fractional(parsed, max_arms)
        return _planned(name, arms, parsed, _fraction_notes(arms, parsed))
    build = {"leave_one_out": leave_one_out, "cumulative": cumulative, "pairs": pairs}[name]
    return _planned(name, build(parsed), parsed)


def _planned(
    name: str, arms: Iterable[ArmNames], factors: Iterable[ArmNames] = (), notes: Iterable[str] = ()
) -> Design:
    return Design(name, tuple(PlannedArm(arm) for arm in arms), tuple(factors), tuple(notes))


def _check_factors(name: str, asked: Sequence[str], factors: Sequence[ArmNames]) -> None:
    if len(factors) < 2:
        raise UserError(
            f"design {name} needs at least two tricks, and got '{' '.join(asked)}'; write them apart, as in a b c"
        )
    twice = [trick for trick, count in Counter(t for f in factors for t in f).items() if count > 1]
    if twice:
        raise UserError(
            f"design {name}: {', '.join(twice)} is in more than one of {', '.join(asked)}; "
            "this design switches each trick on and off by itself, so name it once"
        )


def _check_size(k: int, limit: int) -> None:
    if 2**k > limit:
        smaller = 2 ** min(k, 1 + max(2, (k - 1).bit_length()))
        cheaper = f"use design fractional ({smaller} arms), or allow" if smaller < 2**k else "allow"
        raise UserError(
            f"a full factorial of {k} tricks has {2**k} arms, and the limit is {limit}; {cheaper} max arms = {2**k}"
        )


def _fraction_notes(arms: Sequence[ArmNames], factors: Sequence[ArmNames]) -> list[str]:
    from harness.analysis.interactions import aliases  # scipy and pandas, which the names of designs do not need

    k, p = len(factors), len(factors) - (len(arms).bit_length() - 1)
    if not p:
        return [f"No smaller part of the {2**k} arms has the resolution wanted: this is the full factorial."]
    chains = aliases(
        [[set(f) <= set(arm) for f in factors] for arm in arms],
        ["+".join(f) for f in factors],
    )
    resolution = "IV" if chains else "V or higher"
    notes = [f"{len(arms)} of {2**k} arms, a 2^({k}-{p}) fraction of resolution {resolution}."]
    return notes + [f"Only the sum of these interactions can be estimated: {chain}." for chain in chains]


def _columns(k: int, m: int) -> tuple[int, list[int]]:
    """The best k columns found for 2^m arms, as sets of the m basic columns that each is the product of (bits).

    No product of three columns is constant, which is resolution IV; the first value counts the products of
    four that are, each of which aliases three pairs of interactions. A greedy search over the longest
    product allowed finds the designs of the tables for up to 9 factors (tests).
    """
    # Not pyDOE3's fracfact_by_res: its designs for 9 and more factors do not have the resolution asked for.
    found = []
    for longest in range(m, 0, -1):
        columns, words = [1 << i for i in range(m)], 0
        allowed = [c for c in range(1, 2**m) if 2 <= c.bit_count() <= longest]
        allowed.sort(key=int.bit_count, reverse=True)
        while len(columns) < k:
            products = {a ^ b for a, b in combinations(columns, 2)}
            triples = Counter(a ^ b ^ c for a, b, c in combinations(columns, 3))
            free = [c for c in allowed if c not in products and c not in columns]
            if not free:
                break
            columns.append(min(free, key=lambda c: triples[c]))
            words += triples[columns[-1]]
        if len(columns) == k:
            found.append((words, columns))
    return min(found, key=lambda f: f[0])


def _bits(mask: int) -> list[int]:
    return [i for i in range(mask.bit_length()) if mask >> i & 1]


def _distinct(*sets: Iterable[ArmNames]) -> list[ArmNames]:
    """Sets of factors as arms, without repetitions."""
    return list(dict.fromkeys(tuple(sorted(t for f in chosen for t in f)) for chosen in sets))


def parse_arm(text: str) -> ArmNames:
    """An arm from the command line: trick names joined by "+", in any order."""
    return tuple(sorted({part for part in text.split("+") if part}))
