import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from scipy import stats

from harness.analysis.types import DesignAnalysis, Estimate, FactorialFit
from harness.report.drawings.designs import by_pair, half_normal, interaction_map, pseudo_error, waterfall

EVIL = '<script>alert(1)</script>"&'


def estimate(name, mean, half=1.0, n=5):
    return Estimate(name, mean, mean - half, mean + half, half / 2.8, 0.1, 0.2, n)


def design_of(main=(), interactions=(), steps=(), alone=(), factors=("a", "b", "c"), **more):
    fit = FactorialFit(tuple(main), tuple(interactions), 0.5, (), more.pop("unknown", ())) if main else None
    empty = {"leave_one_out": (), "shapley": (), "order": (), "notes": ()}
    return DesignAnalysis(
        metric="test_accuracy",
        unit="points",
        higher_is_better=more.pop("higher", True),
        factors=factors,
        fit=fit,
        interactions=tuple(interactions),
        one_at_a_time=tuple(alone),
        steps=tuple(steps),
        **empty,
    )


MAIN = [estimate("a", 2.0), estimate("b", -1.0), estimate("c", 0.5)]
PAIRS = [estimate("a:b", -3.0), estimate("a:c", 0.4), estimate("b:c", 0.0)]


def cells(drawing):
    """The title, class and texts of each cell."""
    found = {}
    for g in ET.fromstring(drawing).iter("g"):
        name, _, told = g.findtext("title").partition(": ")
        found[name] = (told, g.find("rect").get("class"), [t.text for t in g.iter("text")])
    return found


def test_each_pair_is_a_cell_with_its_interval_and_a_sign_besides_colour():
    found = cells(interaction_map(design_of(MAIN, PAIRS), 2))
    told, look, texts = found["a with b"]
    assert told == "−3.00 [−4.00, −2.00], n = 5"
    assert look == "pair-cell worse s5"
    assert texts == ["▼ −3.00", "[−4.00, −2.00]"]
    assert found["a with c"][2][0] == "▲ +0.40"
    assert found["b with c"][2][0] == "+0.00"
    assert found["a, main effect"][2] == ["▲ +2.00", "[1.00, 3.00]", "main effect"]
    assert len(found) == 6


def test_bold_needs_an_interval_clear_of_zero():
    root = ET.fromstring(interaction_map(design_of(MAIN, PAIRS), 2))
    assert {t.text for t in root.iter("text") if t.get("class") == "strong"} == {"▼ −3.00", "▲ +2.00"}


def test_a_fall_of_an_error_is_better():
    assert cells(interaction_map(design_of(MAIN, PAIRS, higher=False), 2))["a with b"][2][0] == "▲ −3.00"


def test_pairs_that_the_arms_cannot_tell_apart_share_their_sum():
    factors = ("a", "b", "c", "d")
    pairs = by_pair(design_of(MAIN, [estimate("a:b = -c:d", 1.5, 0.5)], factors=factors))
    assert (pairs["a", "b"][0].mean, pairs["a", "b"][1]) == (1.5, "c:d")
    turned, others = pairs["c", "d"]
    assert (turned.mean, turned.low, turned.high, others) == (-1.5, -2.0, -1.0, "a:b")
    drawing = interaction_map(design_of(MAIN, [estimate("a:b = -c:d", 1.5, 0.5)], factors=factors), 2)
    assert cells(drawing)["a with b"][2][-1] == "with c:d"
    assert cells(drawing)["a with c"][0] == "not estimated"


def test_without_a_fit_the_diagonal_has_each_trick_alone():
    drawing = interaction_map(design_of(interactions=PAIRS[:1], alone=MAIN), 2)
    assert cells(drawing)["a, alone"][2][-1] == "alone"


def test_no_map_without_interactions_that_have_an_interval():
    assert interaction_map(design_of(MAIN), 2) is None
    assert interaction_map(design_of(MAIN, [replace(PAIRS[0], low=math.nan, high=math.nan)]), 2) is None


def test_half_normal_places_sizes_by_rank_with_interactions_halved():
    """Sizes 0, 0.2, 0.5, 1, 1.5, 2 in six steps of the half-normal quantile function."""
    root = ET.fromstring(half_normal(design_of(MAIN, PAIRS), 2))
    dots = [(float(c.get("cx")), float(c.get("cy")), c.findtext("title")) for c in root.iter("circle")]
    assert [t.split(",")[0] for *_, t in dots] == ["b:c", "a:c", "c", "b", "a:b", "a"]
    assert dots[4][2] == "a:b, half the interaction: −1.50 [−2.00, −1.00], n = 5"
    q = stats.halfnorm.ppf([(i + 0.5) / 6 for i in range(6)])
    across = [x - 60 for x, *_ in dots]
    assert [x / across[-1] for x in across] == pytest.approx(list(q / q[-1]), abs=2e-3)
    up = [312 - y for _, y, _ in dots]
    assert [y / up[-1] for y in up] == pytest.approx([0, 0.1, 0.25, 0.5, 0.75, 1], abs=2e-3)


def test_the_largest_effects_have_names():
    root = ET.fromstring(half_normal(design_of(MAIN, PAIRS), 2))
    assert {"a", "a × b"} <= {t.text for t in root.iter("text")}


def test_lenths_error_leaves_large_effects_out():
    """s0 = 1.5 * 1.05 = 1.575; 20 is above 2.5 times that, and 1.5 * median(0.8, 1, 1.1) = 1.5."""
    assert pseudo_error([0.8, 1.0, 1.1, 20.0]) == pytest.approx(1.5)
    assert pseudo_error([0.0, 0.0, 0.0]) == 0


def test_no_half_normal_plot_of_unbalanced_or_other_designs():
    assert half_normal(design_of(MAIN, PAIRS, unknown=("a:b",)), 2) is None
    assert half_normal(design_of(alone=MAIN), 2) is None
    assert half_normal(design_of(MAIN[:2]), 2) is None


def bars(drawing):
    """Name, start and end of each bar, and the ends of its whisker's line, in units of the axis."""
    root = ET.fromstring(drawing)
    grid = [(float(t.get("x")), float(t.text.replace("−", "-"))) for t in root.iter("text") if t.get("class") == "tick"]
    (x0, v0), (x1, v1) = grid[0], grid[-1]

    def value(x):
        return v0 + (float(x) - x0) / (x1 - x0) * (v1 - v0)

    found = []
    for g in root.iter("g"):
        box, whisker = g.find("rect"), next(e for e in g.iter("line") if e.get("class").startswith("ci"))
        left, width = float(box.get("x")), float(box.get("width"))
        ends = tuple(value(whisker.get(k)) for k in ("x1", "x2"))
        found.append((g.findtext("title"), value(left), value(left + width), *ends))
    return found


def test_each_step_starts_where_the_one_before_ended(study):
    total = replace(study.analysis.effects[0], mean=1.0, low=-1.0, high=3.0, n=5)
    steps = [estimate("a", 2.0, 0.5), estimate("b", -1.5, 1.0), estimate("c", 0.5, 2.0)]
    first, second, third, last = bars(waterfall(design_of(steps=steps), total, 2))
    assert first[1:] == pytest.approx((0, 2, 1.5, 2.5), abs=0.02)
    assert second[1:] == pytest.approx((0.5, 2, -0.5, 1.5), abs=0.02)
    assert third[1:] == pytest.approx((0.5, 1.0, -1.0, 3.0), abs=0.02)
    assert last[1:] == pytest.approx((0, 1, -1, 3), abs=0.02)
    assert second[0] == "+ b: −1.50 [−2.50, −0.50], n = 5"
    assert last[0] == "full stack: +1.00 [−1.00, 3.00], n = 5"


def test_the_numbers_beside_each_step_are_its_own_and_bold_only_where_clear_of_zero(study):
    steps = [estimate("a", 2.0, 0.5), estimate("b", -1.5, 2.0)]
    root = ET.fromstring(waterfall(design_of(steps=steps), None, 2))
    told = {t.text: t.get("class") for t in root.iter("text") if t.get("x") == "710"}
    assert told == {"change [interval]": "quiet", "+2.00 [1.50, 2.50]": "strong", "−1.50 [−3.50, 0.50]": None}


def test_no_waterfall_with_a_step_missing():
    assert waterfall(design_of(), None, 2) is None
    missing = replace(estimate("b", 1.0), low=math.nan, high=math.nan)
    assert waterfall(design_of(steps=[estimate("a", 1.0), missing]), None, 2) is None


def test_names_are_escaped():
    factors = (EVIL, "b", "c")
    main = [estimate(EVIL, 2.0), *MAIN[1:]]
    pairs = [estimate(f"{EVIL}:b", -3.0), *PAIRS[1:]]
    design = design_of(main, pairs, [estimate(EVIL, 1.0)], factors=factors)
    for drawing in (interaction_map(design, 2), half_normal(design, 2), waterfall(design, None, 2)):
        assert "<script" not in drawing
        assert EVIL in "".join(ET.fromstring(drawing).itertext())
