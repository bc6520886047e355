"""What the page, and the facts for programs, say of what many arms share."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.analysis.sweep import sweep_of
from harness.report.pages.study import render_study
from harness.report.text.numbers import chance, interval, signed
from harness.workflow.ablation import facts_of
from webpage import Page


def gains(arms):
    return {f"a{i}": (i % 5 - 2) / 4 for i in range(arms)} | {"placebo": 0.0}


def page_of(study):
    return Page(render_study(*study.parts, [], sweep=sweep_of(study.analysis)))


def test_a_page_of_a_few_arms_has_no_such_section(study_of):
    assert "sweep" not in page_of(study_of(gains(9), epochs=4)).ids


def test_the_page_says_what_is_shared_with_n_and_interval(study_of):
    study = study_of(gains(12), epochs=4)
    found, text = sweep_of(study.analysis), page_of(study).text
    for level in (found.shared, found.placebo):
        assert f"{signed(level.mean)} points {interval(level.low, level.high)} (n = 10" in text
    assert f"({found.mild_arms} mild arms of the 12 that changed anything)" in text
    assert f"The median of their effects is {signed(found.median)}." in text
    assert "Effects are shrunk from 20 arms on." in text
    assert "Sign holds" not in text


def test_the_page_says_whether_the_interval_holds_zero(study_of):
    study = study_of(gains(12), epochs=4)
    raised = {f"a{i}": 5.0 for i in range(12)}
    assert "The interval holds zero" in page_of(study).text
    assert "the baseline was unlucky on these seeds, or most arms do act" in page_of(study_of(raised, epochs=4)).text


def test_shrunk_effects_stand_in_a_folded_table_best_first(study_of):
    study = study_of(gains(30), epochs=4)
    page, found = page_of(study), sweep_of(study.analysis)
    assert len(found.shrunk) == 30
    rows = next(rows for _, rows in page.tables if "Sign holds" in rows[0])
    best = max(found.shrunk, key=lambda a: a.shrunk)
    assert rows[1] == [best.arm, signed(best.raw), signed(best.shrunk), chance(best.chance), "10"]
    assert len(rows) == 31
    assert f"{chance(found.halves.claimed)} of the signs were to hold there" in page.text


def test_where_the_trial_on_halves_fails_the_page_says_so_and_shows_none(study_of, monkeypatch):
    study = study_of(gains(30), epochs=4)
    halves = replace(sweep_of(study.analysis).halves, error_shrunk=9.0, error_raw=1.0)
    monkeypatch.setattr("harness.analysis.sweep.validate", lambda d: halves)
    text = page_of(study).text
    assert "Shrunk effects are not shown, because they fail on this study’s own rows" in text
    assert "a mean error of 9.00 where raw effects have 1.00" in text
    assert "Sign holds" not in text


def test_facts_for_programs_have_it(study_of):
    def facts(arms):
        study = study_of(gains(arms), epochs=4)
        loaded = SimpleNamespace(
            findings=lambda: [],
            manifest=study.manifest,
            design=None,
            analysis=study.analysis,
            looked="",
            replication=None,
            probes=(),
            sweep=sweep_of(study.analysis),
        )
        return study, facts_of(SimpleNamespace(loaded=loaded, study="s", page=Path("s.html")))

    study, found = facts(12)
    assert json.loads(json.dumps(found["sweep"])) == json.loads(json.dumps(asdict(sweep_of(study.analysis))))
    assert "sweep" not in facts(9)[1]


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.5, "50 %"), (0.973, "97 %"), (0.99, "99 %"), (0.991, ">99 %"), (1.0, ">99 %"), (float("nan"), "–")],
)
def test_no_chance_is_a_certainty(p, text):
    assert chance(p) == text
