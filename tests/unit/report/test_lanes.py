import math
import re
from dataclasses import replace

import pytest

from harness.report.drawings.lanes import BAR, STUDIES, TUNING, Mark, head, lane, sample

SPAN = (-2.0, 2.0)
WIDTH, EDGE, LINE = STUDIES.width, STUDIES.edge, STUDIES.height


def mark(mean, low, high, shape=0):
    return Mark(mean, low, high, "c1", "mixup: n = 10", shape)


def at(value):
    """Where a value of the axis is drawn, by hand."""
    return EDGE + (value + 2) / 4 * (WIDTH - 2 * EDGE)


def numbers(svg, pattern):
    return [tuple(map(float, found)) for found in re.findall(pattern, svg)]


def test_marks_stand_one_under_the_other_at_their_values():
    svg = str(lane([mark(0.5, -0.5, 1.5), mark(-1, -1.5, -0.5)], SPAN, 0.5))

    dots = numbers(svg, r'<circle cx="([\d.]+)" cy="([\d.]+)"')
    assert dots == [(pytest.approx(at(0.5), abs=0.06), LINE / 2), (pytest.approx(at(-1), abs=0.06), 1.5 * LINE)]
    assert f'viewBox="0 0 {WIDTH:g} {2 * LINE:g}"' in svg


def test_the_margin_and_zero_are_where_they_belong():
    svg = str(lane([mark(0, -1, 1)], SPAN, 0.5))

    ((x, width),) = numbers(svg, r'<rect x="([\d.]+)" y="0" width="([\d.]+)"')
    assert (x, width) == (pytest.approx(at(-0.5)), pytest.approx(at(0.5) - at(-0.5)))
    assert f'x1="{at(0):.0f}" x2="{at(0):.0f}" y1="0" y2="26" class="zero"' in svg


def test_a_dot_is_full_only_where_the_verdict_claims_a_direction():
    assert "est full" in lane([replace(mark(1, 0.5, 1.5), full=True)], SPAN, 0)
    assert "est full" not in lane([mark(1, 0.5, 1.5)], SPAN, 0)


def test_what_leaves_the_axis_ends_in_an_arrow():
    svg = str(lane([mark(-5, -9, -1)], SPAN, 0))

    assert numbers(svg, r'd="M([\d.]+) 13.0l(-?\d+) -4v8z"') == [(EDGE, 6)]
    assert "<circle" not in svg, "the mean is outside, too"
    assert str(lane([mark(9, 8, 10)], SPAN, 0)).count("v8z") == 1


def test_a_mark_without_an_interval_leaves_its_line_empty():
    svg = str(lane([mark(math.nan, math.nan, math.nan)], SPAN, 0))

    assert "mixup" not in svg
    assert "nan" not in svg


def test_shapes_differ_so_that_colour_is_never_alone():
    drawn = [str(sample("c1", shape)) for shape in range(4)]

    assert len(set(drawn)) == 4
    assert sample("c1", 4) == sample("c1", 0)


def test_the_axis_says_which_end_is_better():
    assert "better →" in head(SPAN, higher_is_better=True)
    assert "← better" in head(SPAN, higher_is_better=False)


def test_names_are_escaped():
    svg = lane([Mark(1, 0.5, 1.5, "c1", "<script>", 0)], SPAN, 0)

    assert "<script>" not in svg
    assert "&lt;script&gt;" in svg


def test_a_lane_of_a_search_says_what_it_shows_and_is_coloured_by_its_kind():
    svg = str(lane([Mark(1.0, 0.5, 1.5, "tuned", "mixup, tuned: +1.00")], SPAN, 0.5, TUNING))

    assert "<title>mixup, tuned: +1.00</title>" in svg
    assert numbers(svg, r'<circle cx="([\d.]+)" cy="([\d.]+)"') == [(295.0, 15.0)]  # a quarter of 380 from the right
    assert 'class="dot tuned"' in svg
    assert svg.count('class="grid"') == str(head(SPAN, True, TUNING)).count('class="tick"') - 2 > 3


def test_a_bar_in_a_table_has_neither_grid_nor_words():
    svg = str(lane([Mark(0.0, -1.0, 1.0, "open")], SPAN, 0.5, BAR))

    assert "title" not in svg
    assert "grid" not in svg
    assert numbers(svg, r'<circle cx="([\d.]+)" cy="([\d.]+)"') == [(50.0, 10.0)]
    assert 'viewBox="0 0 100 20"' in svg
