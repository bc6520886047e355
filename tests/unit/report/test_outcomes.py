import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pandas as pd
import pytest

from harness.analysis.outcomes import ArmOutcome, Bin, Calibration, Churn, Mean, Outcomes
from harness.report.drawings.outcomes import flips, reliability
from harness.report.load import load
from harness.report.pages import outcomes as section
from harness.report.pages.study import render_study
from harness.store.schema import RUNS
from webpage import Page

EVIL = '<script>alert(1)</script>"&'


def mean(value, half=0.5, n=5, p=0.01):
    return Mean(value, value - half, value + half, n, p, p)


ABSENT = Mean(math.nan, math.nan, math.nan, 0)
BINS = (Bin(55.0, 60.0, 40.0, 80.0, 12, 4), Bin(97.0, 99.0, 98.0, 100.0, 4000, 5))


def make_arm(name, classes=(1.0, -2.0), fixed=3.0, broken=1.0, change=0.5, tricks=None):
    churn = Churn(mean(fixed + broken + 0.5), mean(fixed), mean(broken), mean(0.5))
    tricks = (name,) if tricks is None else tricks
    return ArmOutcome(
        name, tricks, tuple(map(mean, classes)), churn, Calibration(BINS, mean(3.0), mean(-1.0)), mean(change)
    )


def make(*arms, classes=2):
    base = Calibration(BINS, mean(2.5), mean(-2.0))
    return Outcomes(0.05, 1400, (mean(90.0),) * classes, (mean(88.0),) * classes, base, arms)


def shown(*arms, classes=2):
    return section.outcomes_section(make(*arms, classes=classes), [str(k) for k in range(classes)])


# Rows


def test_a_difference_is_bold_only_when_its_adjusted_p_and_its_interval_say_so():
    arm = make_arm("mixup")
    told = replace(arm, classes=(mean(1.0, p=0.04), mean(1.0, p=0.06), mean(1.0, half=2.0, p=0.04), ABSENT))
    cells = shown(told, classes=4).classes[0].cells

    assert [c.strong for c in cells] == [True, False, False, False]
    assert [(c.text, c.half) for c in cells] == [("+1.0", "±0.5"), ("+1.0", "±0.5"), ("+1.0", "±2.0"), ("–", "")]


def test_shades_follow_sign_and_size_and_are_light_where_chance_is_not_ruled_out():
    values = (mean(2.0), mean(-2.0), mean(1.0), mean(0.1), mean(2.0, p=0.5), mean(-40.0, p=0.5))
    cells = shown(replace(make_arm("mixup"), classes=values), classes=6).classes[0].cells

    # Four medians of 2 end the scale, at 8.
    assert [c.shade for c in cells] == ["up s1", "down s1", "up s1", "", "", "down s2"]


def test_one_value_has_no_interval_and_says_so():
    one = Mean(1.0, math.nan, math.nan, 1)
    arm = replace(make_arm("mixup"), classes=(one, one), churn=Churn(one, one, one, one), ece_change=one)
    view = shown(arm)

    assert (view.classes[0].cells[0].half, view.classes[0].n) == ("", "1")
    assert view.churn[0].cells[0] == ("1.00", "–", False)
    assert "nan" not in view.churn[0].drawing
    assert "nan" not in view.diagrams[0]


def test_an_arm_without_a_pair_has_dashes_and_no_drawing():
    arm = replace(
        make_arm("mixup"), classes=(ABSENT, ABSENT), churn=Churn(ABSENT, ABSENT, ABSENT, ABSENT), ece_change=ABSENT
    )
    view = shown(arm, make_arm("ema"))
    row = next(r for r in view.churn if r.name == "mixup")

    assert row.drawing == ""
    assert {c[0] for c in row.cells} == {"–"}
    assert [r.name for r in view.churn] == ["ema", "mixup"]


def test_controls_stand_first_and_say_what_they_are():
    placebo = make_arm("placebo", fixed=2.0)
    arms = [make_arm("mixup", fixed=9.0), make_arm("ema"), placebo, make_arm("erm_baseline", fixed=0.0, broken=0.0)]
    arms[:2] = [replace(a, churn=replace(a.churn, beyond=mean(-1.0 if a.arm == "ema" else 0.2))) for a in arms[:2]]
    view = shown(*arms)

    assert [r.name for r in view.churn] == ["placebo", "erm_baseline", "mixup", "ema"]
    assert [bool(r.remark) for r in view.churn] == [True, True, False, False]
    assert [r.cells[-1] for r in view.churn][1:] == [
        ("–", "", False),
        ("+0.20", "[−0.30, 0.70]", False),
        ("−1.00", "[−1.50, −0.50]", True),
    ]
    assert "mde" in view.churn[2].drawing
    assert "mde" not in shown(make_arm("mixup")).churn[0].drawing, "no placebo, no floor"


def test_the_arms_that_differ_most_come_first_in_each_table():
    arms = [make_arm(f"t{i}", classes=(0.1 * i, -1.0), fixed=20.0 - i, change=-i) for i in range(20)]
    view = shown(*arms)

    assert view.classes[0].name == "t19"
    assert view.churn[0].name == "t0"
    assert [r.name for r in view.calibration[:2]] == ["baseline", "t19"]
    assert len(view.diagrams) == section.SHOWN_DIAGRAMS


def test_of_many_classes_those_that_differ_most_are_shown_in_order():
    classes = [0.0] * 100
    classes[70], classes[3] = 5.0, -6.0
    view = shown(make_arm("mixup", classes=classes), classes=100)

    assert len(view.class_names) == section.SHOWN_CLASSES
    assert {"3", "70"} <= set(view.class_names)
    assert [int(k) for k in view.class_names] == sorted(map(int, view.class_names))


def test_classes_have_the_names_of_the_experiment_or_numbers():
    def runs(classes):
        return pd.DataFrame({"spec": [None, json.dumps({"data": {"name": "folder", "classes": classes}})]})

    assert section.class_names(runs(["cat", "dog"]), 2) == ["cat", "dog"]
    assert section.class_names(runs(2), 2) == ["0", "1"]
    assert section.class_names(runs(["cat", "dog", "owl"]), 2) == ["0", "1"]
    assert section.class_names(pd.DataFrame(columns=RUNS.names), 2) == ["0", "1"]


# Drawings


def boxes(drawing):
    return [(float(e.get("x")), float(e.get("width")), e.get("class")) for e in ET.fromstring(drawing).iter("rect")]


def test_broken_images_are_drawn_to_the_left_and_fixed_ones_to_the_right():
    churn = make_arm("mixup", fixed=4.0, broken=1.0).churn
    (left, width, broken), (zero, size, fixed) = boxes(flips(churn, None, 10.0))

    assert (broken, fixed) == ("flip worse", "flip better")
    assert (zero, left + width) == (110.0, pytest.approx(110.0, abs=0.1))
    assert size == pytest.approx(4 * width, abs=0.3)


def test_a_bar_that_leaves_the_scale_ends_in_an_arrow():
    churn = make_arm("bn_freeze", fixed=0.1, broken=80.0).churn

    assert flips(churn, None, 10.0).count("arrow worse") == 1
    assert "arrow" not in flips(churn, None, 100.0)


def test_a_diagram_puts_bins_at_confidence_and_accuracy_and_fades_small_ones():
    root = ET.fromstring(reliability(make_arm("mixup"), make().calibration))
    marks = [g for g in root.iter("g") if g.get("class", "").startswith("mark")]
    dot = marks[3].find("circle")

    assert [g.get("class") for g in marks] == ["mark faint", "mark"] * 2
    assert (float(dot.get("cx")), float(dot.get("cy"))) == pytest.approx((34 + 2.1 * 97, 232 - 1.98 * 99), abs=0.06)
    assert "accuracy 99.0 % [98.0, 100.0], 4000 images in 5 runs" in marks[3].find("title").text
    assert root[0].text == "Reliability of mixup"
    assert "+0.50 [0.00, 1.00], n = 5" in root[1].text


# The page


@pytest.fixture(scope="module")
def stored(tmp_path_factory, stored_study):
    folder = tmp_path_factory.mktemp("results") / "s"
    stored_study(folder, tricks=("mixup", "placebo", "erm_baseline"))
    return load(folder)


def labels(page):
    return [attributes["aria-labelledby"] for tag, attributes in page.tags if tag == "section"]


def page_of(loaded, outcomes):
    return render_study(loaded.manifest, loaded.analysis, loaded.runs, loaded.points, [], outcomes=outcomes)


def test_the_section_follows_the_pairs_and_has_every_arm(stored):
    page = Page(page_of(stored, stored.outcomes()))

    assert labels(page).index("outcomes") == labels(page).index("pairs") + 1
    heads = [r for r in page.rows if r and r[0] == "Class"]
    assert heads == [["Class", "0", "1", "2", "3", "Seeds"]]
    for arm in ("mixup", "placebo", "erm_baseline"):
        assert sum(row[0].startswith(arm) and row[-1].strip() == "5" for row in page.rows) >= 3
    assert "arXiv:2011.09161" in page.text
    assert "Milani Fard et al. 2016" in page.text
    assert "80 test images" in page.text


def test_there_is_no_section_without_predictions(stored):
    page = Page(page_of(stored, None))

    assert "outcomes" not in labels(page)


def test_names_are_text_and_not_markup(stored):
    arms = (make_arm(EVIL), make_arm("mixup"))
    runs = stored.runs.assign(spec='{"data": {"classes": ["<img src=x>", "b"]}}')
    html = render_study(
        stored.manifest, stored.analysis, runs, stored.points, [], outcomes=make(*arms)
    )  # fmt: skip

    assert EVIL not in html
    assert "<img" not in html
    text = Page(html).text
    assert EVIL in text
    assert "<img src=x>" in text


def test_no_number_is_nan_with_one_seed(tmp_path, stored_study):
    stored_study(tmp_path / "one", seeds=1)
    loaded = load(tmp_path / "one")
    html = page_of(loaded, loaded.outcomes())

    assert 'id="outcomes"' in html
    assert not re.search(r"\bnan\b", html, flags=re.I)


def test_folds_keep_the_page_short(stored):
    few = Page(page_of(stored, make(*(make_arm(f"t{i}") for i in range(12)))))
    html = page_of(stored, make(*(make_arm(f"t{i}") for i in range(15))))

    assert "more arms by class" not in few.text
    for words in ("3 more arms by class", "3 more arms with less churn", "3 more arms with smaller changes"):
        assert words in html
