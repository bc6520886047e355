"""Headlines count additions, and what else a study has stands apart from them."""

import math
import re
from dataclasses import replace

import pytest

from harness.report.pages.study import render_study
from harness.report.text.kinds import headline, kind_of_arm, kinds_of, tally
from harness.testing import make_arm, make_manifest
from webpage import Page

GAINS = {"a": 3.0, "b": 3.0, "c": -3.0, "d": 3.0, "e": -3.0, "f": -3.0, "g": 3.0, "h": -3.0, "i": -3.0}
"""Far from nothing, so that each arm of a study of these helps or hurts."""


def with_kinds(study, **kinds):
    arms = tuple(a.model_copy(update={"kind": kinds.get(a.label, "addition")}) for a in study.manifest.arms)
    return replace(study, manifest=study.manifest.model_copy(update={"arms": arms}))


@pytest.fixture(scope="module")
def plain(study_of):
    """Of nine arms with an effect four help (a, b, d, g) and five hurt; two more were skipped or failed."""
    return study_of(gains=GAINS)


@pytest.fixture(scope="module")
def mixed(plain):
    return with_kinds(plain, d="removal", e="removal", f="fault", g="control")


def words(study):
    found = headline(study.analysis.effects, kinds_of(study.manifest))
    return found.first, found.rest


def test_additions_are_counted_and_the_others_apart(mixed):
    assert words(mixed) == (
        "2 of 7 additions help and 3 hurt.",
        "Of the 4 other arms (2 removals, 1 fault, 1 control), 2 help and 2 hurt.",
    )


@pytest.mark.parametrize(
    ("arm", "verdict", "rest"),
    [
        ("e", "hurts", "The other arm, a fine-tuning method, hurts."),
        ("d", "helps", "The other arm, a fine-tuning method, helps."),
        ("swin", "failed", "The other arm, a fine-tuning method, neither helps nor hurts."),
    ],
)
def test_one_other_arm_is_told_in_the_singular(plain, arm, verdict, rest):
    assert next(e for e in plain.analysis.effects if e.arm == arm).verdict.kind == verdict
    assert words(with_kinds(plain, **{arm: "fine-tuning"}))[1] == rest


def test_a_study_of_additions_has_arms_and_nothing_else(plain):
    assert words(plain) == ("4 of 11 arms help and 5 hurt.", "")


def test_a_study_without_additions_counts_what_it_has_and_says_so(plain):
    study = with_kinds(plain, **{a.label: "value" for a in plain.manifest.arms})

    assert words(study) == ("4 of 11 arms help and 5 hurt.", "No arm is an addition: 11 changed values.")


def test_what_is_likely_is_counted_apart(plain):
    effects = list(plain.analysis.effects)
    for arm, verdict in (("a", "likely helps"), ("b", "likely hurts"), ("c", "likely hurts")):
        i = next(i for i, e in enumerate(effects) if e.arm == arm)
        effects[i] = replace(effects[i], verdict=replace(effects[i].verdict, kind=verdict))
    told = headline(effects, kinds_of(plain.manifest)).first

    assert told.endswith("; 1 other likely helps and 2 likely hurt.")


def test_one_of_a_kind_takes_the_singular(plain):
    others = {a.label: "fault" for a in plain.manifest.arms if a.label != "a"}

    assert words(with_kinds(plain, **others))[0] == "1 of 1 addition helps and 0 hurt."


def test_a_kind_that_only_a_foreign_study_knows_comes_last(plain):
    study = with_kinds(plain, a="bonus", b="control")
    effects = [e for e in study.analysis.effects if e.arm in "abc"]

    assert tally(effects, kinds_of(study.manifest)) == "1 addition, 1 control, 1 bonus arm"


def test_an_old_study_takes_kinds_from_the_cards_and_a_new_one_says_them():
    old = make_manifest([make_arm("baseline"), make_arm("batch_norm+mixup"), make_arm("mine"), make_arm("mixup")])

    assert kinds_of(old) == {
        "baseline": "addition", "mine": "addition", "mixup": "addition", "batch_norm+mixup": "removal",
    }  # fmt: skip
    assert kind_of_arm(make_arm("batch_norm", kind="value")) == "value"


def test_the_page_counts_additions_first_and_marks_the_others(mixed):
    html = render_study(*mixed.parts, [])
    page = Page(html)

    assert " ".join(words(mixed)) in page.text
    hurts = html[html.index('<h3 class="group"><span class="badge hurts"') :]
    heading, listed = hurts[: hurts.index("</h3>")], hurts[: hurts.index("</ul>")]
    assert heading.endswith("3 additions, 1 removal, 1 fault")
    assert re.findall(r'">(\w)</a>(?: <span class="tag"[^>]*>([a-z-]+)</span>)?', listed) == [
        ("c", ""), ("h", ""), ("i", ""), ("e", "removal"), ("f", "fault"),
    ]  # fmt: skip
    rows = {cell for row in page.rows if row for cell in row[:1]}
    assert {"d removal", "f fault", "g control", "a"} <= rows
    assert "a known mistake, made on purpose" in page.text
    assert "must show no effect" in page.text


def test_a_short_page_marks_them_too_and_a_page_of_additions_has_no_mark(study):
    short = with_kinds(study, dropout="removal")
    sentence = next(e.verdict.sentence for e in short.analysis.effects if e.arm == "dropout")

    assert f"{sentence} removal" in Page(render_study(*short.parts, [])).text
    assert 'class="tag"' not in render_study(*study.parts, [])


def test_undecided_arms_are_those_of_all_kinds(mixed):
    effects = tuple(
        replace(e, verdict=replace(e.verdict, kind="undecided"), mde=2.0) if e.arm in "ade" else e
        for e in mixed.analysis.effects
    )
    html = render_study(mixed.manifest, replace(mixed.analysis, effects=effects), mixed.own, mixed.points, [])

    assert all(math.isfinite(e.mde) for e in effects if e.n)
    assert "1 of 7 additions helps and 3 hurt." in Page(html).text
    assert "Of all arms, 3 are undecided" in Page(html).text
