import csv
import io
import math
from dataclasses import replace

import pytest

from harness.analysis.types import Ratio
from harness.report import tables


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1.254, 2, "1.25"), (-0.318, 2, "−0.32"), (-0.001, 2, "0.00"), (0.12345, 4, "0.1235"), (7.0, 0, "7")],
)
def test_numbers_are_rounded_and_never_minus_zero(value, digits, text):
    assert tables.number(value, digits) == text


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_no_number_is_a_dash(value):
    assert tables.number(value) == tables.signed(value) == tables.p_value(value) == "–"
    assert tables.interval(value, 1.0) == tables.interval(1.0, value) == "–"


def test_formats():
    assert tables.signed(1.25) == "+1.25"
    assert tables.signed(-1.25) == "−1.25"
    assert tables.interval(0.333, 2.169) == "[0.33, 2.17]"
    assert (tables.p_value(0.0152), tables.p_value(0.00099)) == ("0.015", "<0.001")
    assert tables.ratio(Ratio(1.934, 1.9, 1.96, 10)) == "1.93× [1.90, 1.96]"
    assert (tables.plural(1, "tie"), tables.plural(2, "tie")) == ("1 tie", "2 ties")


def test_decimals_follow_the_size_of_the_metric(study):
    nll = replace(study.analysis, unit="nats", baseline_mean=0.41)
    assert tables.decimals(study.analysis) == 2
    assert tables.decimals(nll) == 4
    assert tables.decimals(replace(nll, baseline_mean=3.2e8)) == 0
    assert tables.decimals(replace(nll, baseline_mean=math.nan)) == 4


def test_baseline_comes_first_and_every_arm_has_one_row(study):
    rows = tables.effect_rows(study.analysis)
    assert [r["arm"] for r in rows] == ["baseline", *(e.arm for e in study.analysis.effects)]
    assert rows[0]["mean_base"] == study.analysis.baseline_mean
    assert all(r.keys() == rows[0].keys() for r in rows)


def test_holm_is_shown_when_several_arms_were_tested(study, study_of):
    one = study_of(gains={"mixup": 1.3}).analysis
    assert "p_holm" in {c.key for c in tables.columns(study.analysis)}
    assert "p_holm" not in {c.key for c in tables.columns(one)}


def test_equivalence_needs_a_margin(study):
    columns = tables.columns(replace(study.analysis, margin=math.nan))
    assert "p_tost" not in {c.key for c in columns}
    assert not any("nan" in c.meaning for c in columns)


def test_seeds_for_the_margin(study):
    first = study.analysis.effects[0]
    cases = {
        "17 (7 more)": replace(first, more_seeds=7, mde=0.9),
        "enough": replace(first, more_seeds=None, mde=0.4),
        "out of reach": replace(first, more_seeds=None, mde=90.0),
        "–": replace(first, more_seeds=None, mde=math.nan),
    }
    rows = tables.variance_rows(replace(study.analysis, effects=tuple(cases.values())))
    assert [r["Seeds for the margin"] for r in rows] == list(cases)


def test_unpaired_spread_follows_from_the_pairing_gain(study):
    effect = replace(study.analysis.effects[0], sd=0.5, pairing_gain=4.0)
    (row,) = tables.variance_rows(replace(study.analysis, effects=(effect,)))
    assert (row["sd unpaired"], row["sd paired"]) == ("1.00", "0.50")


def test_csv_holds_numbers_that_parse(study):
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(study.analysis))))
    mixup = next(r for r in rows if r["arm"] == "mixup")
    effect = study.analysis.effects[0]
    assert float(mixup["effect"]) == pytest.approx(effect.mean, rel=1e-5)
    assert float(mixup["high"]) == pytest.approx(effect.high, rel=1e-5)
    assert (mixup["n"], mixup["metric"], mixup["margin"]) == ("10", "test_accuracy", "0.5")
    skipped = next(r for r in rows if r["arm"] == "asam+sam")
    assert (skipped["effect"], skipped["reason"]) == ("", "both own the gradient")


def test_csv_markdown_and_latex_show_equal_numbers(study):
    from_csv = {r["arm"]: r for r in csv.DictReader(io.StringIO(tables.to_csv(study.analysis)))}
    markdown, latex = tables.to_markdown(study.analysis), tables.to_latex(study.analysis)
    for effect in study.analysis.effects[:5]:
        raw = from_csv[effect.arm]
        mean = tables.signed(float(raw["effect"]))
        ends = tables.interval(float(raw["low"]), float(raw["high"]))
        line = next(x for x in markdown.splitlines() if x.startswith(f"| {effect.arm} "))
        assert mean in line
        assert ends in line
        assert f"| {effect.n}/{effect.n_planned} |" in line
        line = next(x for x in latex.splitlines() if x.startswith(tables.latex_escape(effect.arm) + " "))
        assert tables.latex_escape(mean) in line
        assert tables.latex_escape(ends) in line


def test_markdown_is_bold_only_where_the_interval_excludes_zero(study):
    lines = tables.to_markdown(study.analysis).splitlines()
    bold = {line.split(" | ")[0].removeprefix("| ") for line in lines if "**" in line}
    assert bold == {e.arm for e in study.analysis.effects if e.low > 0 or e.high < 0}
    assert bold
    assert "ema" not in bold


def test_markdown_cells_cannot_break_the_table(study):
    effect = replace(study.analysis.effects[0], arm="a|b\n<script>")
    lines = tables.to_markdown(replace(study.analysis, effects=(effect,))).splitlines()
    assert len(lines) == 4
    assert r"a\|b \<script>" in lines[-1]
    assert len({len(line.replace(r"\|", "").split("|")) for line in lines}) == 1


def test_latex_escapes_specials(study):
    assert tables.latex_escape(r"a_b & 50% $x$ #1 {y} ~ ^ \input < −1") == (
        r"a\_b \& 50\% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}input $<$ $-$1"
    )
    latex = tables.to_latex(study.analysis)
    assert r"cutmix+label\_smoothing" in latex
    assert r"95 \% CI" in latex
    assert all(line.endswith(r"\\") for line in latex.splitlines() if " & " in line)


def test_skipped_arms_carry_their_reason_into_text_tables(study):
    assert "skipped: both own the gradient" in tables.to_markdown(study.analysis)
    assert "failed: out of memory" in tables.to_latex(study.analysis)


def test_interval_level_follows_alpha(study):
    titles = [c.title for c in tables.columns(replace(study.analysis, alpha=0.1))]
    assert "90 % CI" in titles
