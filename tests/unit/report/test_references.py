import re
from dataclasses import replace

import pytest
from pydantic import ValidationError

from harness.report.pages.study import render_study
from harness.report.text import references
from harness.report.text.references import (
    Measurement,
    Publication,
    Published,
    check,
    count,
    direction,
    publications,
    published,
)
from harness.tricks import registry

ROW = {"trick": "mixup", "data": "CIFAR-10", "model": "ResNet-18", "setup": "200 epochs", "before": 4.72, "after": 3.99}


def figure(before, after, measure="accuracy"):
    source = Publication(cite="somebody", measure=measure, runs="1 run", figure=[Measurement(**ROW | {"before": 50.0})])
    return Published(Measurement(**ROW | {"before": before, "after": after}), source)


def effect(study, low, high, n=10):
    return replace(study.analysis.effects[0], mean=(low + high) / 2, low=low, high=high, n=n)


def test_every_trick_with_a_figure_exists():
    assert {row.trick for source in publications() for row in source.figure} <= set(registry.names())


def test_every_source_can_be_found_and_no_figure_is_given_twice():
    for source in publications():
        assert re.search(r"arXiv:\d{4}\.\d{5}|\w+/[\w-]+ on GitHub|blog", source.cite), source.cite
    rows = [(source.cite, row.model_dump_json()) for source in publications() for row in source.figure]
    assert len(rows) == len(set(rows))


def test_an_effect_is_positive_where_the_trick_helped_whatever_was_measured():
    assert figure(4.72, 3.99, "error").effect == pytest.approx(0.73)
    assert figure(93.10, 92.94).effect == pytest.approx(-0.16)
    assert figure(93.10, 93.38).effect == pytest.approx(0.28)


@pytest.mark.parametrize(
    ("after", "low", "high", "n", "expected"),
    [
        (51.0, 0.1, 2.0, 10, "same direction"),
        (51.0, -2.0, -0.1, 10, "opposite direction"),
        (49.0, 0.1, 2.0, 10, "opposite direction"),
        (49.0, -2.0, -0.1, 10, "same direction"),
        (51.0, -0.1, 2.0, 10, "undecided here"),
        (51.0, 0.0, 2.0, 10, "undecided here"),
        (51.0, 0.1, 2.0, 5, "same direction"),
        (51.0, 0.1, 2.0, 4, "undecided here"),
    ],
)
def test_the_direction_by_hand(study, after, low, high, n, expected):
    assert direction(figure(50.0, after), effect(study, low, high, n)) == expected


def test_an_effect_without_an_interval_is_undecided(study):
    assert direction(figure(50.0, 51.0), effect(study, float("nan"), float("nan"))) == "undecided here"


def test_only_arms_of_one_trick_are_checked(study):
    checks = check(study.manifest, study.analysis)

    assert [c.effect.arm for c in checks] == ["mixup", "ema", "sam"], "dropout has no figure, cutmix is in a stack"
    assert len(checks[1].figures) == len(published("ema"))
    assert sum(count(checks).values()) == sum(len(published(t)) for t in ("mixup", "ema", "sam"))


def test_other_metrics_than_accuracies_are_not_checked(study):
    assert check(study.manifest, replace(study.analysis, metric="test_nll")) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"after": 4.72}, "no direction"),
        ({"before": 0.0}, "greater than 0"),
        ({"seeds": 3}, "Extra inputs"),
        ({"data": ""}, "at least 1 character"),
    ],
)
def test_a_broken_row_is_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        Measurement(**ROW | change)


def test_the_study_page_names_the_setup_of_every_figure(study):
    html = render_study(*study.parts, [])

    section = html[html.index('id="references"') :]
    assert "siahuat0727/bag-of-tricks on GitHub" in section
    assert "ResNet-18, 400 epochs, alpha 0.3" in section
    assert "+1.35 (94.05 → 95.40 % accuracy)" in section
    assert "nothing here is a reproduction" in section


def test_more_than_ten_arms_are_folded(study_of, monkeypatch):
    study = study_of(gains={f"trick_{i}": 0.5 for i in range(11)})
    monkeypatch.setattr(references, "published", lambda trick: (figure(50.0, 51.0),) if "_" in trick else ())

    assert "<summary>11 arms with their published figures</summary>" in render_study(*study.parts, [])


def test_a_study_without_figures_has_no_such_section(study_of):
    assert 'id="references"' not in render_study(*study_of(gains={"dropout": 1.0}).parts, [])
