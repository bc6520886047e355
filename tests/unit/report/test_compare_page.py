import json
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from harness.analysis.compare import compare
from harness.analysis.types import Analysis, Effect, Verdict
from harness.cli import app
from harness.errors import UserError
from harness.report.load import analysed
from harness.report.pages.compare import differing, heterogeneity, render_comparison, settings, write_comparison
from harness.report.text.comparison import agreement
from harness.report.text.numbers import told_p
from harness.store.reader import StudyData
from harness.store.schema import CURVES, RUNS
from harness.testing import make_arm, make_manifest, make_row

EVIL = '<script>alert("1")</script>'
TOML = '[experiment]\nname = "digits"\n[recipe]\nlr = 0.2\n[tricks.adam]\nlr = 1.0\n[study]\nseeds = 3\n'


def effect(differences, arm="mixup", kind="helps", base=90.0):
    d, nan = np.asarray(differences), math.nan
    n = len(d)
    half = stats.t.isf(0.025, n - 1) * d.std(ddof=1) / math.sqrt(n)
    return Effect(
        arm=arm, tricks=(arm,), n=n, n_planned=n, seeds=tuple(range(n)), base=(base,) * n,
        treated=tuple((base + d).tolist()), mean_base=base, mean_arm=base + d.mean(), mean=float(d.mean()),
        low=float(d.mean() - half), high=float(d.mean() + half), sd=float(d.std(ddof=1)), p=nan, p_holm=nan,
        p_permutation=nan, p_wilcoxon=nan, p_tost=nan, dz=nan, wins=0, ties=0, mde=nan, more_seeds=None,
        correlation=nan, pairing_gain=nan, noise_share=nan, time=None, memory=None, n_diverged=0, n_failed=0,
        n_skipped=0, reasons=(), verdict=Verdict(kind, kind, ""),
    )  # fmt: skip


def loaded(
    *effects,
    metric="test_accuracy",
    unit="points",
    toml=TOML,
    spec=None,
    margin=0.5,
    alpha=None,
    machine="a",
    blocks="",
):
    """A study; `spec` is what its baseline's runs resolved to, `alpha` mixup's hyperparameter."""
    arms = (
        make_arm("baseline", run_ids={0: "base0"}),
        *(make_arm(e.arm, 0, tricks={e.arm: {"alpha": alpha} if alpha else {}}) for e in effects),
    )
    manifest = make_manifest(arms, 3, study="x", metric=metric, margin=margin, toml=toml)
    row = make_row(arms[0], spec=json.dumps(spec or {}), fingerprint_json=json.dumps({"device": machine}))
    data = StudyData(pd.DataFrame([row], columns=RUNS.names), pd.DataFrame(columns=CURVES.names), None)
    analysis = Analysis(metric, unit, True, margin, 0.05, 3, 90.0, 1.0, 0, effects, blocks=blocks)
    return replace(analysed(manifest, data), analysis=analysis, design=None)


# Means 2 and 5 with standard errors 1 / sqrt(3) and 2 / sqrt(3), see test_compare.py.
FIRST, SECOND = effect([1.0, 2.0, 3.0]), effect([3.0, 5.0, 7.0], base=80.0)
UP, DOWN = effect([1.0, 1.1, 0.9], arm="ema"), effect([-1.0, -1.1, -0.9], arm="ema", base=80.0, kind="hurts")


def text(html):
    """What a reader sees, in one line."""
    body = re.sub(r"<(style|script)\b.*?</\1>", " ", html, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def page(first, second, **options):
    return render_comparison({"laptop": first, "server": second}, **options)


def section(html, name):
    return text(html[html.index(f'id="{name}"') :].split("</section>")[0])


def test_flips_come_first_with_both_effects_their_intervals_and_n():
    html = page(loaded(FIRST, UP), loaded(SECOND, DOWN))

    ids = re.findall(r'<h2 id="(\w+)"', html)
    assert ids[:3] == ["flips", "heterogeneity", "effects"]
    flips = section(html, "flips")
    assert "ema" in flips
    assert "mixup" not in flips
    assert "+1.00 [0.75, 1.25] points in laptop (n = 3); −1.00 [−1.25, −0.75] points in server (n = 3)" in flips


def test_an_interval_that_holds_zero_is_no_flip():
    html = page(loaded(UP), loaded(effect([-3.0, 2.0, -1.0], arm="ema", base=80.0)))

    assert "Nowhere" in section(html, "flips")


def test_what_differs_has_the_difference_its_interval_the_number_of_studies_and_the_test():
    assert "Nowhere: for none of 1 arms" in section(page(loaded(FIRST), loaded(SECOND)), "heterogeneity")
    row = section(page(loaded(FIRST, blocks="d"), loaded(SECOND, blocks="d")), "heterogeneity")

    # 2, 3 and 4: mean 3 with standard error 1 / sqrt(3); one arm, so Holm changes nothing.
    assert "server minus laptop, 95 % interval" in row
    assert "mixup +3.00 [0.52, 5.48] 2 p = 0.035 (paired t over 3 blocks) 0.035" in row


def test_holm_counts_all_arms_that_can_be_tested():
    ema = effect([1.0, 2.0, 3.0], arm="ema"), effect([1.1, 2.1, 3.1], arm="ema", base=80.0)
    studies = {"a": loaded(FIRST, ema[0]).analysis, "b": loaded(SECOND, ema[1]).analysis}
    tested = heterogeneity(compare(studies))

    assert [t.arm.arm for t in tested] == ["mixup", "ema"]
    assert tested[0].p_holm == pytest.approx(2 * tested[0].found.p)


def test_every_study_of_an_arm_has_its_effect_interval_n_and_verdict():
    rows = section(page(loaded(FIRST), loaded(SECOND)), "effects")

    assert "laptop +2.00 [−0.48, 4.48] n = 3 ▲ helps server +5.00 [0.03, 9.97] n = 3 ▲ helps" in rows


def test_bold_only_where_the_interval_excludes_zero():
    html = page(loaded(FIRST), loaded(SECOND))

    assert "<b>+5.00</b>" in html
    assert "<b>+2.00</b>" not in html


def test_studies_that_share_runs_are_told_so_and_not_tested():
    html = page(loaded(FIRST), loaded(effect([1.0, 2.0, 3.0, 4.0])))

    assert "laptop and server share their runs" in section(html, "effects")
    assert "Not tested" in section(html, "heterogeneity")


def test_other_metrics_stand_side_by_side_without_a_common_axis():
    html = page(loaded(FIRST), loaded(SECOND, metric="test_nll", unit="nats"))

    assert '<svg class="lane"' not in html
    assert "test accuracy, test nll" in text(html)
    assert "Not tested" in text(html)


def test_a_skipped_arm_has_a_row_without_a_mark_and_no_nan():
    skipped = replace(
        FIRST, n=0, mean=math.nan, low=math.nan, high=math.nan, sd=math.nan, seeds=(), base=(), treated=()
    )
    html = page(loaded(skipped, UP), loaded(SECOND, DOWN))

    assert "laptop – n = 0" in section(html, "effects")
    assert not re.search(r"\bnan\b", html)


def test_arms_of_one_study_only_are_listed():
    html = page(loaded(FIRST, UP), loaded(SECOND))

    assert "laptop: ema" in text(html)


def test_what_differs_is_told_by_key_with_what_the_command_line_changed():
    file = TOML.replace("0.2", "0.1")
    a = loaded(FIRST, spec={"data": {"label_noise": 0.0}, "recipe": {"lr": 0.2}, "seed": 0, "arm": {}}, alpha=0.2)
    b = loaded(SECOND, spec={"data": {"label_noise": 0.4}, "recipe": {"lr": 0.2}, "seed": 0, "arm": {}}, alpha=1.0,
               toml=file, machine="b")  # fmt: skip
    rows = differing([settings(a), settings(b)])

    assert dict(rows) == {
        "data.label_noise": ["0.0", "0.4"],
        "machine.device": ["a", "b"],
        "tricks.mixup.alpha": ["0.2", "1.0"],
    }, "lr is 0.2 in both although the files differ: one was overridden"


def test_a_key_that_one_file_lacks_is_a_difference_but_not_an_absent_trick():
    a = {"recipe.lr": "0.1", "recipe.momentum": "0.9", "tricks.sam.rho": "0.05"}

    assert differing([a, {"recipe.lr": "0.1"}]) == [("recipe.momentum", ["0.9", "–"])]


def test_a_broken_experiment_file_does_not_break_the_page():
    assert "Does it help?" in page(loaded(FIRST, toml="= ="), loaded(SECOND))


def test_p_values_in_sentences():
    assert told_p(0.0474) == "p = 0.047"
    assert told_p(0.0001) == "p < 0.001"


def test_agreement_in_words():
    (arm,) = compare({"a": loaded(FIRST).analysis, "b": loaded(SECOND).analysis}).arms

    assert agreement(arm) == "signs agree; same verdict; test that the effects are equal: p = 0.104 (Welch's t)"


def test_three_independent_studies_have_a_mean_with_its_interval():
    studies = {"a": loaded(FIRST), "b": loaded(SECOND), "c": loaded(effect([0.0, 1.0, -1.0], base=70.0))}

    assert "mean of 3 studies +2.33 [−3.92, 8.58]" in section(render_comparison(studies), "effects")


def test_the_page_says_which_studies_are_compared_block_by_block():
    assert "The same blocks were trained by laptop and server." in text(
        page(loaded(FIRST, blocks="d"), loaded(SECOND, blocks="d"))
    )
    assert "The same blocks" not in text(page(loaded(FIRST), loaded(SECOND)))


def test_text_is_escaped_and_nothing_comes_from_outside():
    evil = loaded(replace(FIRST, arm=EVIL))
    html = render_comparison({EVIL: evil, "b": loaded(replace(SECOND, arm=EVIL))}, title=EVIL, preface=EVIL)

    assert "<script>alert" not in html
    assert not re.search(r"""(src|href)=["']?https?:|@import|url\(""", html)
    assert "default-src 'none'" in html


def test_pages_of_studies_are_linked_where_they_are(tmp_path):
    (tmp_path / "laptop.html").write_text("")
    studies = {"laptop": loaded(FIRST), "server": loaded(SECOND)}
    html = write_comparison(studies, tmp_path / "both.html").read_text()

    assert '<a href="laptop.html">laptop</a>' in html
    assert 'href="server.html"' not in html


def test_a_preface_keeps_its_paragraphs():
    html = page(loaded(FIRST), loaded(SECOND), title="T", preface="One.\n\nTwo.")

    assert "<p>One.</p>\n<p>Two.</p>" in html


def test_a_page_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another place with --html"):
        write_comparison({"a": loaded(FIRST), "b": loaded(SECOND)}, tmp_path / "file" / "x.html")


def test_the_command_refuses_one_study(tmp_path):
    out = CliRunner().invoke(app, ["compare", "a", "a", "--html", str(tmp_path / "x.html")])

    assert isinstance(out.exception, UserError)
    assert not (tmp_path / "x.html").exists()
