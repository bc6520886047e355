import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from scipy import stats

from harness.report import tables
from harness.report.render import curve_panels, lost_runs, render_study

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "input", "br", "wbr", "link", "img", "hr"}


class Page(HTMLParser):
    """Collects tags with attributes, text by element, and complains about unbalanced tags."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.stack, self.rows, self.text = [], [], [], []
        self.feed(html)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.stack):
            self.text.append(data)
        if {"td", "th"} & set(self.stack) and "table" in self.stack:
            self.rows[-1][-1] += data

    def cells(self, arm):
        return next([c.strip() for c in row] for row in self.rows if row[0] == arm)


@pytest.fixture(scope="module")
def html(study):
    return render_study(*study.parts, ["runs/abc.parquet: truncated"])


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_question_is_the_title_and_each_verdict_is_told(study, page):
    text = " ".join(page.text)
    assert text.count(study.manifest.question) == 2
    assert all(e.verdict.sentence in text for e in study.analysis.effects)
    assert study.manifest.scope in text
    assert "±0.5 points" in text


def test_sections_are_labelled_by_their_headings(page):
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    labels = [attrs["aria-labelledby"] for tag, attrs in page.tags if tag == "section"]
    assert set(labels) <= ids
    assert labels == [
        *("verdict", "table", "forest", "curves", "pairs"),
        *("cost", "variance", "checks", "lost", "provenance", "reading"),
    ]
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in page.tags if tag == "th")


def test_nothing_is_loaded_from_anywhere(html, page):
    assert not re.search(r"https?://|url\(|@import", html)
    assert not [attrs for _, attrs in page.tags if {"src", "href"} & attrs.keys()]
    assert "link" not in {tag for tag, _ in page.tags}


def test_every_effect_stands_with_its_n_and_interval(study, page):
    for row in tables.effect_rows(study.analysis)[1:6]:
        cells = page.cells(row["arm"])
        assert f"{row['n']}/{row['n_planned']}" in cells
        assert tables.signed(row["effect"]) in cells
        assert tables.interval(row["low"], row["high"]) in cells


def test_page_and_markdown_show_equal_cells(study, page):
    for line in tables.to_markdown(study.analysis).splitlines()[2:8]:
        wanted = [c.replace("**", "").replace("\\", "").strip() for c in line.strip("|").split("|")]
        assert [c for c in wanted[2:] if c not in page.cells(wanted[0])] == []


def test_skipped_and_failed_arms_are_rows_with_their_reason(page):
    assert page.cells("asam+sam")[-1] == "both own the gradient"
    assert page.cells("swin")[-1] == "out of memory"


def test_the_sign_of_a_verdict_is_not_colour_alone(page):
    assert page.cells("mixup")[1] == "▲ helps"
    assert page.cells("dropout")[1] == "▼ hurts"


def test_the_test_split_has_no_curve(study, html):
    assert (study.curves["split"] == "test").any()
    assert "42.42" not in html
    assert "0.4242" not in html


def test_lost_runs_and_unreadable_files_are_listed(study, html):
    assert "runs/abc.parquet: truncated" in html
    lost = lost_runs(study.manifest, study.runs)
    assert [(r["arm"], r["status"], r["reason"]) for r in lost] == [
        ("asam+sam", "skipped", "both own the gradient"),
        ("swin", "failed", "out of memory"),
    ]


def test_a_planned_run_without_a_row_is_missing(study):
    gone = study.manifest.arms[1].run_ids[3]
    lost = lost_runs(study.manifest, study.runs[study.runs["run_id"] != gone])
    assert {"arm": "mixup", "status": "missing", "reason": "no stored run", "seeds": "3"} in lost


def test_bands_are_t_intervals_over_the_finished_seeds_of_this_fingerprint(study):
    runs = study.runs.assign(label=study.runs["arm"], ok=study.runs["status"] == "ok")
    foreign = study.curves.assign(fingerprint="other", value=0.0)
    names = list(runs["label"].unique())
    accuracy = curve_panels(runs, pd.concat([study.curves, foreign]), names)[0]
    series = accuracy.series[names.index("mixup")]
    ids = set(study.manifest.arms[1].run_ids.values())
    points = study.curves.query("split == 'val' and metric == 'accuracy' and epoch == 20")
    values = 100 * points[points["run_id"].isin(ids)]["value"].to_numpy()
    low, high = stats.t.interval(0.95, 9, values.mean(), stats.sem(values))
    assert (series.mean[-1], series.low[-1], series.high[-1]) == pytest.approx((values.mean(), low, high))
    assert series.n == 10


def test_names_cannot_inject_markup(study_of):
    study = study_of(gains={EVIL: 1.0, "mixup": 0.2}, seeds=5, epochs=4, experiment=EVIL)
    manifest = study.manifest.model_copy(
        update=dict.fromkeys(("study", "question", "scope", "command", "toml", "design", "created"), EVIL)
    )
    analysis = replace(study.analysis, checks=((EVIL, False, EVIL),))
    runs = study.runs.assign(reason=EVIL, device=EVIL, git_commit=EVIL, status="failed").iloc[:3]
    for shown in (study.runs, runs):
        html = render_study(manifest, analysis, shown, study.curves, [EVIL])
        assert EVIL not in html
        assert "</script>alert" not in html
        assert EVIL in "".join(Page(html).text)
    html = render_study(manifest, analysis, study.runs, study.curves, [])
    data = re.search(r'<script type="application/json" id="curve-data">(.*?)</script>', html)[1]
    assert EVIL in json.loads(data)["arms"]


def test_read_out_data_is_strict_json_with_null_for_missing_bands(study_of):
    study = study_of(gains={"mixup": 1.3}, seeds=2, epochs=3)
    curves = study.curves[study.curves["run_id"].str.endswith("0")]
    html = render_study(study.manifest, study.analysis, study.runs, curves, [])
    text = re.search(r'id="curve-data">(.*?)</script>', html)[1]
    series = json.loads(text, parse_constant=pytest.fail)["panels"][0]["series"]
    assert [s["n"] for s in series] == [1, 1]
    assert series[0]["low"] == [None] * 3


def test_at_most_eight_arms_are_drawn_at_first(study_of):
    study = study_of(gains={f"t{i}": i / 10 for i in range(12)}, seeds=3, epochs=3)
    page = Page(render_study(*study.parts, []))
    boxes = [attrs for tag, attrs in page.tags if tag == "input"]
    assert len(boxes) == 13
    assert sum("checked" in b for b in boxes) == 8


def test_a_study_without_any_result_still_renders(study):
    lost = tuple(e for e in study.analysis.effects if not e.n)
    analysis = replace(study.analysis, effects=lost, baseline_n=0, baseline_mean=math.nan, baseline_sd=math.nan)
    page = Page(render_study(study.manifest, analysis, study.runs.iloc[:0], study.curves.iloc[:0], []))
    labels = {attrs.get("aria-labelledby") for tag, attrs in page.tags if tag == "section"}
    assert labels.isdisjoint({"forest", "curves", "pairs", "cost", "variance"})
    assert "no stored run" in " ".join(page.text)


def test_a_metric_without_a_declared_margin_has_no_band_and_no_nan(study):
    analysis = replace(study.analysis, metric="test_nll", unit="", margin=math.nan, higher_is_better=False)
    html = render_study(study.manifest, analysis, study.runs, study.curves, [])
    assert not re.search(r"\bnan\b", html, flags=re.I)
    assert "better →" not in html


def test_a_hundred_arms_stay_small(study_of):
    study = study_of(gains={f"trick_{i}": i / 40 - 1 for i in range(100)}, seeds=10, epochs=20)
    assert len(render_study(*study.parts, []).encode()) < 3_000_000


def test_rendering_needs_neither_torch_nor_matplotlib():
    code = "import sys, harness.report.render; print(*{'torch', 'timm', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
