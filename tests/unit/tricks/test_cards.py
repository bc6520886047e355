"""What cards say of the published sweeps, held against their rows; and commands that do not lean on a default."""

import re
from functools import cache
from pathlib import Path

import pytest

from harness.analysis.effects import analyse
from harness.store.reader import read_manifest, read_study
from harness.tricks.index import indexed

PUBLISHED = Path(__file__).parents[3] / "results" / "published"
FIGURE = re.compile(r"([+−]\d+\.\d)(?: points)? \[([+−]?\d+\.\d), ([+−]?\d+\.\d)\] on (noisy )?digits")
SAID = sorted(
    (name, noisy != "", *(float(number.replace("−", "-")) for number in numbers))
    for name, card in indexed().items()
    for *numbers, noisy in FIGURE.findall(str(card))
)


@cache
def effects(study):
    manifest = read_manifest(PUBLISHED / study)
    runs = read_study(PUBLISHED / study, manifest.runs, predictions=False).runs
    return {e.arm: e for e in analyse(runs, manifest).effects}


def test_cards_say_figures_of_both_sweeps():
    assert len(SAID) > 20
    assert {noisy for _, noisy, *_ in SAID} == {True, False}


@pytest.mark.parametrize(("name", "noisy", "mean", "low", "high"), SAID)
def test_a_figure_on_a_card_is_that_of_the_published_rows(name, noisy, mean, low, high):
    found = effects("digits-noisy-all-tricks" if noisy else "digits-all-tricks")[name]
    assert (mean, low, high) == pytest.approx((found.mean, found.low, found.high), abs=0.0501)


@pytest.mark.parametrize("name", sorted(indexed()))
def test_a_command_on_a_card_names_its_experiment(name):
    for command in re.findall(r"harness (?:ablate|search) [^;)]*", str(indexed()[name])):
        assert "--experiment" in command, command
