import json
import math
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest
from scipy import stats

from harness.analysis.types import DesignAnalysis, Estimate, Finding
from harness.identity import Identity
from harness.report.drawings.curves import curve_panels
from harness.report.pages.provenance import LostRuns, lost_runs, provenance
from harness.report.pages.study import grouped, render_study
from harness.report.text import numbers, tables
from webpage import Page

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def html(study):
    return render_study(*study.parts, ["runs/abc.parquet: truncated"])


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_question_is_the_title_and_each_verdict_is_told(study, page):
    text = " ".join(page.pieces)
    assert text.count(study.manifest.question) == 2
    assert all(e.verdict.sentence in text for e in study.analysis.effects)
    assert study.manifest.scope in text
    assert "±0.5 points" in text


def test_several_looks_are_told_beside_the_verdicts(study, html):
    said = "looked at 2 times, with 5 and 10 seeds: with each look tested at 0.05"
    again = render_study(study.manifest.model_copy(update={"looks": (5, 10)}), *study.parts[1:], [])
    verdicts = again[again.index('id="verdict"') : again.index('id="table"')]

    assert said in verdicts
    assert "looked at" not in html


def test_sections_are_labelled_by_their_headings(page):
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    labels = [attrs["aria-labelledby"] for tag, attrs in page.tags if tag == "section"]
    assert set(labels) <= ids
    assert labels == [
        *("verdict", "table", "forest", "curves", "pairs"),
        *("cost", "references", "variance", "checks", "lost", "provenance", "reading"),
    ]
    assert all(attrs.get("scope") in ("row", "rowgroup", "col") for tag, attrs in page.tags if tag == "th")


def test_nothing_is_loaded_from_anywhere(html, page):
    assert not re.search(r"https?://|url\(|@import", html)
    assert not [attrs for _, attrs in page.tags if "src" in attrs]
    assert all(attrs.get("href", "#").startswith("#") for _, attrs in page.tags)
    assert "link" not in {tag for tag, _ in page.tags}


def test_every_effect_stands_with_its_n_and_interval(study, page):
    for row in tables.effect_rows(study.analysis)[1:6]:
        cells = page.row(row["arm"])
        assert f"{row['n']}/{row['n_planned']}" in cells
        assert numbers.signed(row["effect"]) in cells
        assert numbers.interval(row["low"], row["high"]) in cells


def test_page_and_markdown_show_equal_cells(study, page):
    for line in tables.to_markdown(study.analysis).splitlines()[2:8]:
        wanted = [c.replace("**", "").replace("\\", "").strip() for c in line.strip("|").split("|")]
        assert [c for c in wanted[2:] if c not in page.row(wanted[0])] == []


def test_skipped_and_failed_arms_are_rows_with_their_reason(page):
    assert page.row("asam+sam")[-1] == "both own the gradient"
    assert page.row("swin")[-1] == "out of memory"


def test_the_sign_of_a_verdict_is_not_colour_alone(page):
    assert page.row("mixup")[1] == "▲ helps"
    assert page.row("dropout")[1] == "▼ hurts"


def test_the_test_split_has_no_curve(study, html):
    assert (study.curves["split"] == "test").any()
    assert "42.42" not in html
    assert "0.4242" not in html


def test_lost_runs_and_unreadable_files_are_listed(study, html):
    assert "runs/abc.parquet: truncated" in html
    lost = lost_runs(study.manifest, study.runs)
    assert [(r.arm, r.status, r.reason) for r in lost] == [
        ("asam+sam", "skipped", "both own the gradient"),
        ("swin", "failed", "out of memory"),
    ]


def test_a_planned_run_without_a_row_is_missing(study):
    gone = study.manifest.arms[1].run_ids[3]
    lost = lost_runs(study.manifest, study.runs[study.runs["run_id"] != gone])
    assert LostRuns("mixup", "missing", "no stored run", "3") in lost


def test_bands_are_t_intervals_over_the_finished_seeds_of_this_fingerprint(study):
    foreign = study.curves.assign(fingerprint="other", value=0.0)
    both = replace(study, curves=pd.concat([study.curves, foreign]))
    names = [arm.label for arm in study.manifest.arms]
    accuracy = curve_panels(both.points, names)[0]
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
    analysis = replace(study.analysis, checks=((EVIL, "fails", EVIL),))
    runs = study.own.assign(reason=EVIL, device=EVIL, git_commit=EVIL, status="failed").iloc[:3]
    for shown in (study.own, runs):
        html = render_study(manifest, analysis, shown, study.points, [EVIL])
        assert EVIL not in html
        assert "</script>alert" not in html
        assert EVIL in "".join(Page(html).pieces)
    html = render_study(manifest, analysis, study.own, study.points, [])
    data = re.search(r'<script type="application/json" id="curve-data">(.*?)</script>', html)[1]
    assert EVIL in json.loads(data)["arms"]


def test_read_out_data_is_strict_json_with_null_for_missing_bands(study_of):
    study = study_of(gains={"mixup": 1.3}, seeds=2, epochs=3)
    curves = study.curves[study.curves["run_id"].str.endswith("0")]
    html = render_study(*replace(study, curves=curves).parts, [])
    text = re.search(r'id="curve-data">(.*?)</script>', html)[1]
    series = json.loads(text, parse_constant=pytest.fail)["panels"][0]["series"]
    assert [s["n"] for s in series] == [1, 1]
    assert series[0]["half"] == [None] * 3


def test_at_most_eight_arms_are_drawn_at_first(study_of):
    study = study_of(gains={f"t{i}": i / 10 for i in range(12)}, seeds=3, epochs=3)
    page = Page(render_study(*study.parts, []))
    boxes = [attrs for tag, attrs in page.tags if tag == "input" and "data-arm" in attrs]
    assert len(boxes) == 13
    assert sum("checked" in b for b in boxes) == 8
    drawn = [attrs["data-arm"] for tag, attrs in page.tags if tag == "g" and "data-arm" in attrs]
    assert drawn == [str(i) for i in reversed(range(8))] * 3


def test_a_study_without_any_result_still_renders(study):
    lost = tuple(e for e in study.analysis.effects if not e.n)
    analysis = replace(study.analysis, effects=lost, baseline_n=0, baseline_mean=math.nan, baseline_sd=math.nan)
    page = Page(render_study(study.manifest, analysis, study.own.iloc[:0], study.points.iloc[:0], []))
    labels = {attrs.get("aria-labelledby") for tag, attrs in page.tags if tag == "section"}
    assert labels.isdisjoint({"forest", "curves", "pairs", "cost", "variance"})
    assert "no stored run" in " ".join(page.pieces)


def test_a_metric_without_a_declared_margin_has_no_band_and_no_nan(study):
    analysis = replace(study.analysis, metric="test_nll", unit="", margin=math.nan, higher_is_better=False)
    html = render_study(study.manifest, analysis, study.own, study.points, [])
    assert not re.search(r"\bnan\b", html, flags=re.I)
    assert "better →" not in html


def test_a_hundred_arms_stay_small(study_of):
    study = study_of(gains={f"trick_{i}": i / 40 - 1 for i in range(100)}, seeds=10, epochs=20)
    assert len(render_study(*study.parts, []).encode()) < 3_000_000


def test_rendering_needs_neither_torch_nor_matplotlib():
    code = "import sys, harness.report.pages.study; print(*{'torch', 'timm', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# Links, filters, folds


def texts_of(page, tag, **wanted):
    return [attrs for name, attrs in page.tags if name == tag and all(attrs.get(k) == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def many(study_of):
    """A study whose verdicts are told as counts first."""
    return study_of(gains={f"t{i}": (i - 6) / 2 for i in range(13)}, seeds=6, epochs=3)


@pytest.fixture(scope="module")
def many_html(many):
    return render_study(*many.parts, [])


def test_every_link_and_label_of_the_page_has_its_target(many_html):
    page = Page(many_html)
    ids = Counter(attrs["id"] for _, attrs in page.tags if "id" in attrs)
    assert max(ids.values()) == 1
    assert {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"} <= set(ids)
    assert {attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs} <= set(ids)


def test_the_contents_list_every_section_once(many_html):
    nav = many_html[many_html.index('<nav class="contents"') : many_html.index("</nav>")]
    links = re.findall(r'href="#([^"]+)"', nav)
    assert links == re.findall(r'<section aria-labelledby="([^"]+)"', many_html)


def test_one_main_landmark_one_title_and_a_way_past_the_header(many_html):
    page = Page(many_html)
    names = Counter(tag for tag, _ in page.tags)
    assert (names["h1"], names["main"], names["header"], names["footer"]) == (1, 1, 1, 1)
    first = next(attrs for tag, attrs in page.tags if tag == "a")
    assert first["href"] == "#main"
    assert texts_of(page, "main", id="main")


def test_many_verdicts_are_counted_first_and_each_is_told_once(many, many_html):
    page, effects = Page(many_html), many.analysis.effects
    counts = Counter(e.verdict.kind for e in effects)
    start, end = many_html.index('<ul class="strip"'), many_html.index('<section aria-labelledby="table"')
    strip = re.findall(r'data-only="([^"]+)">.*?<b>(\d+)</b>', many_html[start : many_html.index("</ul>", start)])
    assert dict(strip) == {kind: str(n) for kind, n in counts.items()}
    assert f"{counts['helps']} of 15 arms help and {counts['hurts']} hurt." in " ".join(page.pieces)
    verdicts = "".join(Page(f"<div>{many_html[start:end].rsplit('</section>', 1)[0]}</div>").pieces)
    assert all(verdicts.count(e.verdict.sentence) == 1 for e in effects)
    helping = max(effects, key=lambda e: e.mean if e.n else -99)
    assert f"{numbers.signed(helping.mean)} {numbers.interval(helping.low, helping.high)}" in verdicts


def test_undecided_arms_say_what_they_would_have_shown(study):
    undecided = [
        replace(e, verdict=replace(e.verdict, kind="undecided"), mde=2.0 + i)
        for i, e in enumerate([*study.analysis.effects[:5]] * 2)
    ]
    analysis = replace(study.analysis, effects=tuple(replace(e, arm=f"{e.arm}{i}") for i, e in enumerate(undecided)))
    arms = [a for a in study.manifest.arms if not a.tricks]
    arms += [study.manifest.arms[1].model_copy(update={"label": e.arm}) for e in analysis.effects]
    manifest = study.manifest.model_copy(update={"arms": tuple(arms)})
    html = render_study(manifest, analysis, study.own.iloc[:0], study.points.iloc[:0], [])
    # Ten arms find effects from 2, 3, ... 11 points.
    assert "would have shown effects from 6.50 points" in " ".join(html.split())


def test_the_filter_has_a_box_for_names_and_a_toggle_for_each_verdict(many, many_html):
    page = Page(many_html)
    kinds = [attrs["value"] for attrs in texts_of(page, "input", name="kind")]
    assert sorted(kinds) == sorted({e.verdict.kind for e in many.analysis.effects})
    assert texts_of(page, "input", type="search", name="arm")
    assert "15 of 15 arms" in " ".join(page.pieces)
    rows = [attrs["data-kind"] for tag, attrs in page.tags if tag == "tr" and "data-kind" in attrs]
    assert Counter(rows) == Counter(e.verdict.kind for e in many.analysis.effects)


def test_without_the_script_all_rows_and_first_curves_show_and_no_control_does(many_html):
    page = Page(many_html)
    assert all("hidden" in attrs for _, attrs in page.tags if "data-script" in attrs)
    for name, attrs in page.tags:
        if name == "tr" or attrs.get("class") == "plot":
            assert "hidden" not in attrs
    hidden = [attrs for _, attrs in page.tags if "hidden" in attrs and "data-script" not in attrs]
    assert [attrs.get("data-swapped") for attrs in hidden] == ["forest"]  # the drawing that a button swaps in
    controls = [attrs for tag, attrs in page.tags if tag == "button" and "aria-pressed" in attrs]
    assert len(controls) == 7  # one for the forest, two for each of the three curves


def test_each_row_has_its_seeds_beside_the_interval(study, page):
    heads = [c.strip() for c in next(row for row in page.rows if row[0] == "Arm")]
    assert heads[heads.index("95 % CI") + 1] == "Wins"
    effect = study.analysis.effects[0]
    cell = page.row("mixup")[heads.index("Wins")]
    assert cell.endswith(f"{effect.wins}/10")
    assert all(f"{s}: {numbers.signed(d)}" in cell for s, d in zip(effect.seeds, effect.differences, strict=True))


def finding(severity, title, advice="Look."):
    return Finding("overfitting", severity, title, f"Evidence of {title}.", advice)


def test_findings_open_to_their_evidence_and_rows_link_to_them(study):
    findings = [
        (finding("problem", "Broken <b>"), ["mixup"]),
        (finding("warning", "Odd"), ["ema", "mixup"]),
        (finding("warning", "Odd", "Look twice."), ["sam"]),
        (finding("info", "Known"), ["ema"]),
    ]
    html = render_study(*study.parts, [], findings=findings)
    page = Page(html)
    folds = [attrs for tag, attrs in page.tags if tag == "details" and attrs.get("class", "").startswith("finding ")]
    assert [("open" in f, f["class"]) for f in folds] == [
        (True, "finding problem"),
        (False, "finding warning"),
        (False, "finding info"),
    ]
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a" and "flag" in attrs.get("class", "")]
    assert links == ["#finding-0", "#finding-1", "#finding-1", "#finding-2"]
    assert all(texts_of(page, "li", id=link[1:]) for link in links)
    assert "Broken <b>" in "".join(page.pieces)
    text = " ".join(page.pieces)
    assert text.count("Look twice.") == 1


def test_advice_that_all_findings_of_a_title_share_stands_once():
    shared, differing = (
        grouped([(finding("info", "A"), ["x"]), (finding("info", "A"), ["y", "x"])]),
        grouped([(finding("info", "A"), ["x"]), (finding("info", "A", "Other."), ["y"])]),
    )
    assert (shared[0].advice, shared[0].arms) == ("Look.", ["x", "y"])
    assert differing[0].advice == ""


def test_a_preface_comes_first_as_escaped_paragraphs(study):
    html = render_study(*study.parts, [], preface=f"Expected:\n {EVIL}\n\n \nFound.\n")
    assert html.index('id="preface"') < html.index('id="verdict"')
    section = html[
        html.index('<section aria-labelledby="preface">') : html.index('<section aria-labelledby="verdict">')
    ]
    assert section.count("<p>") == 2
    assert EVIL not in section
    assert EVIL in "".join(Page(section).pieces)
    assert 'id="preface"' not in render_study(*study.parts, [], preface="  \n")


def test_each_arm_has_its_command_where_the_study_tells_it(study, page):
    command = "harness ablate mixup --experiment digits --seeds 10"
    assert page.row("cutmix+label_smoothing")[0] == "cutmix+label_smoothing"
    assert texts_of(page, "th", title=command)
    rows = {row[0].strip(): row[-1].strip() for row in page.rows if len(row) == 3}
    assert rows["mixup"] == command
    assert rows["asam+sam"] == "skipped"


def test_figures_of_a_design_stand_above_its_tables(study):
    def estimate(name, mean):
        return Estimate(name, mean, mean - 1, mean + 1, 0.4, 0.1, 0.2, 10)

    both = (estimate("ema", 0.5), estimate("mixup", 1.0))
    design = DesignAnalysis(
        "test_accuracy",
        "points",
        True,
        ("ema", "mixup"),
        None,
        (estimate("ema:mixup", -0.7),),
        both,
        (),
        (),
        (),
        both,
        (),
    )
    page = Page(render_study(*study.parts, [], design=design))
    assert [attrs["class"] for tag, attrs in page.tags if tag == "svg" and attrs.get("class") in ("map", "half")] == [
        "map"
    ]
    text = " ".join(page.pieces)
    assert "−0.70 [−1.70, 0.30], n = 10" in text
    assert text.index("From the baseline to the full stack") < text.index("Steps of the stack")


# Colours


def shades(css, scheme):
    start = css.index("prefers-color-scheme: dark") if scheme == "dark" else 0
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{3,6})", css[start : css.index("}", start)]))


def contrast(one, other):
    def luminance(colour):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def mixed(one, other, share):
    """The colour of color-mix in srgb: `share` of `one`."""
    parts = [[int(c[1:][i : i + 2], 16) for i in (0, 2, 4)] if len(c) == 7 else [255] * 3 for c in (one, other)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in zip(*parts, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_a_contrast_of_four_and_a_half(html, scheme):
    c = shades(html, scheme)
    pairs = [(ink, paper) for ink in ("ink", "quiet", "good", "bad", "same") for paper in ("paper", "soft")]
    pairs += [("good", "good-soft"), ("bad", "bad-soft"), ("same", "same-soft"), ("paper", "bad")]
    found = {pair: round(contrast(c[pair[0]], c[pair[1]]), 2) for pair in pairs}
    found |= {(way, 40): round(contrast(c["ink"], mixed(c[way], c["paper"], 0.4)), 2) for way in ("c1", "c2")}
    assert {pair: ratio for pair, ratio in found.items() if ratio < 4.5} == {}


def test_the_page_says_which_runs_took_plain_steps_where_graphs_were_asked_for(study):
    why = "center_loss: its centers are replaced after each step"
    arms = study.runs["arm"].unique()
    asked = study.runs.assign(plain_steps=[why if arm == arms[1] else "" for arm in study.runs["arm"]])
    plain, n = int((asked["plain_steps"] == why).sum()), len(asked)

    assert dict(provenance(study.manifest, asked))["CUDA graphs"] == (
        f"{n - plain} of {n} runs replayed their training steps; plain steps in {arms[1]} ({why})"
    )
    assert "CUDA graphs" not in dict(provenance(study.manifest, study.runs))


def test_the_page_says_what_is_built_into_the_network(study):
    said = "Tricks that the library builds in: switched off in the baseline: dropout 0.2 (1x)."
    told = study.manifest.model_copy(update={"network": said})

    assert dict(provenance(told, study.runs))["Network"] == said
    assert told.sentences == (*study.manifest.notes, said)
    assert "Network" not in dict(provenance(study.manifest, study.runs))


def test_the_page_of_an_earlier_version_says_that_the_networks_tricks_were_on(study):
    n = len(study.runs)
    identities = [Identity("images", network=int(i > 1)).json for i in range(n)]
    runs = study.runs.assign(identity_json=identities)

    def facts(name):
        return dict(provenance(study.manifest.model_copy(update={"settings": {"model": {"name": name}}}), runs))

    assert facts("timm/convnext_atto")["Network"].startswith(f"2 of {n} runs are of a version that left on what timm")
    assert "Network" not in facts("timm/resnet18")
    assert "Network" not in facts("digits_resnet")
