import csv
import io
import math
import re
from dataclasses import replace

import pytest

from harness.analysis.types import Ratio
from harness.errors import UserError
from harness.report.text import numbers, tables
from harness.report.text.latex import latex_escape, to_latex


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1.254, 2, "1.25"), (-0.318, 2, "−0.32"), (-0.001, 2, "0.00"), (0.12345, 4, "0.1235"), (7.0, 0, "7")],
)
def test_numbers_are_rounded_and_never_minus_zero(value, digits, text):
    assert numbers.number(value, digits) == text


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_no_number_is_a_dash(value):
    assert numbers.number(value) == numbers.signed(value) == numbers.p_value(value) == "–"
    assert numbers.interval(value, 1.0) == numbers.interval(1.0, value) == "–"


def test_formats():
    assert numbers.signed(1.25) == "+1.25"
    assert numbers.signed(-1.25) == "−1.25"
    assert numbers.interval(0.333, 2.169) == "[0.33, 2.17]"
    assert (numbers.p_value(0.0152), numbers.p_value(0.00099)) == ("0.015", "<0.001")
    assert numbers.ratio(Ratio(1.934, 1.9, 1.96, 10)) == "1.93× [1.90, 1.96]"
    assert (numbers.plural(1, "tie"), numbers.plural(2, "tie")) == ("1 tie", "2 ties")


def test_decimals_follow_the_size_of_the_metric(study):
    nll = replace(study.analysis, unit="nats", baseline_mean=0.41)
    assert numbers.decimals(study.analysis) == 2
    assert numbers.decimals(nll) == 4
    assert numbers.decimals(replace(nll, baseline_mean=3.2e8)) == 0
    assert numbers.decimals(replace(nll, baseline_mean=math.nan)) == 4


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
    assert (mixup["n"], mixup["metric"], mixup["margin"], mixup["alpha"]) == ("10", "test_accuracy", "0.5", "0.05")
    skipped = next(r for r in rows if r["arm"] == "asam+sam")
    assert (skipped["effect"], skipped["reason"]) == ("", "both own the gradient")


def test_markdown_is_bold_only_where_the_interval_excludes_zero(study):
    lines = tables.to_markdown(study.analysis).splitlines()
    bold = {line.split(" | ")[0].removeprefix("| ") for line in lines if "**" in line}
    assert bold == {e.arm for e in study.analysis.effects if e.low > 0 or e.high < 0}
    assert bold
    assert "ema" not in bold


def test_markdown_cells_cannot_break_the_table(study):
    effect = replace(study.analysis.effects[0], arm="a|b\n<script>")
    lines = tables.to_markdown(replace(study.analysis, effects=(effect,))).splitlines()
    rows = lines[: lines.index("")]
    assert len(rows) == 4
    assert r"a\|b \<script>" in rows[-1]
    assert len({len(line.replace(r"\|", "").split("|")) for line in rows}) == 1


def test_markdown_ends_with_what_it_holds_on(study):
    analysis = replace(study.analysis, scope="digits, 100 images | <b>")
    assert tables.to_markdown(analysis).splitlines()[-1] == (
        r"Effects on test accuracy in points, paired by seed, with 95 % t intervals; digits, 100 images \| \<b>."
    )


def test_latex_escapes_specials():
    assert latex_escape("a_b & 50% $x$ #1 {y} ~ ^ \\input < −1\n± × – é 漢") == (
        r"a\_b \& 50\% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}input $<$ $-$1"
        r" $\pm$ $\times$ -- é ?"
    )


def test_a_latex_caption_has_level_n_correction_baseline_and_scope(study):
    analysis = replace(study.analysis, study="digits_many", scope="digits, 10% noise", alpha=0.1, baseline_mean=88.125)
    latex = to_latex(analysis)
    caption = next(line for line in latex.splitlines() if line.startswith(r"\caption"))
    assert r"Effects on test accuracy in points against the baseline, on digits, 10\% noise." in caption
    assert r"90~\% $t$ interval" in caption
    assert "$p$ adjusted by Holm's method for 5 arms" in caption
    assert r"The baseline reaches 88.12 \% (standard deviation" in caption
    assert r"\label{tab:digits-many}" in latex
    # The widest time interval is that of dropout: 1.01 up to 1.04 and down to 0.98, so 1.01 / 0.98 = 1.031.
    assert r"95~\% intervals reach at most 4~\% to either side" in caption
    one = to_latex(study.analysis, ["mixup"])
    assert "for 5 arms" in one, "the correction is that of the study, not of the rows shown"


def test_skipped_arms_carry_their_reason_into_text_tables(study):
    assert "skipped: both own the gradient" in tables.to_markdown(study.analysis)
    latex = to_latex(study.analysis).splitlines()
    after = latex[latex.index(r"\end{tabular}") :]
    assert "asam+sam: skipped, both own the gradient." in after
    assert "swin: failed, out of memory." in after


def test_named_arms_come_in_the_order_of_their_names(study):
    arms = ["sam", "mixup", "sam"]
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(study.analysis, arms))))
    assert [r["arm"] for r in rows] == ["baseline", "sam", "mixup"]
    assert [line.split(" | ")[0] for line in tables.to_markdown(study.analysis, arms).splitlines()[3:5]] == [
        "| sam",
        "| mixup",
    ]
    assert re.findall(r"^(\w+) &", to_latex(study.analysis, arms), flags=re.M) == ["Arm", "sam", "mixup"]


@pytest.mark.parametrize("to", [tables.to_csv, tables.to_markdown, to_latex])
def test_an_unknown_arm_is_refused_with_the_nearest_name(study, to):
    with pytest.raises(UserError, match=r"unknown arm 'mixpu'.*'mixup'\?.*This study has: mixup, ema"):
        to(study.analysis, ["mixpu"])


def test_a_latex_table_refuses_more_arms_than_a_page_holds(study_of):
    analysis = study_of(gains={f"t{i}": i / 10 for i in range(60)}, seeds=3, epochs=2).analysis
    best = sorted(analysis.effects[:60], key=lambda e: -e.mean)[:3]
    with pytest.raises(UserError, match=f"of 62 arms: at most 60 fit; .* --arms {','.join(e.arm for e in best)}$"):
        to_latex(analysis)
    assert to_latex(analysis, [f"t{i}" for i in range(60)]).count("& 3 &") == 60


def test_interval_level_follows_alpha(study):
    titles = [c.title for c in tables.columns(replace(study.analysis, alpha=0.1))]
    assert "90 % CI" in titles
