import math

from harness.report.drawings.fronts import stairs, unbeaten
from harness.report.drawings.search import TrialPoint, Trials, front_plot


def test_a_front_by_hand_the_lowest_price_first():
    gains_and_prices = [(0.0, 1.0), (3.0, 2.0), (2.0, 2.5), (-1.0, 0.5), (3.0, 2.1), (1.0, 2.0), (1.5, 1.2)]
    assert unbeaten(gains_and_prices) == [3, 0, 6, 1]


def test_equal_options_are_all_on_the_front():
    assert unbeaten([(1.0, 1.0), (1.0, 1.0)]) == [0, 1]
    assert unbeaten([]) == []


def test_an_option_without_a_gain_beats_nothing():
    assert unbeaten([(math.nan, 1.0), (1.0, 2.0)]) == [0, 1]


def test_the_edge_goes_along_before_it_rises():
    assert stairs([(0, 5), (2, 3), (4, 1)]) == [(0, 5), (2, 5), (2, 3), (4, 3), (4, 1)]
    assert stairs([(1, 2)]) == [(1, 2)]
    assert stairs([]) == []


def test_the_line_passes_by_a_trial_that_is_beaten_on_the_two_drawn_objectives():
    """Trial 1 is on the front for a third objective: here trial 0 is better and cheaper."""
    trials = Trials([TrialPoint(i, "complete", {}, v, "") for i, v in enumerate((92.0, 91.0, 95.0))], None, None, 0)
    drawing = str(front_plot(trials, {0: 1.0, 1: 2.0, 2: 3.0}, "time", [0, 1, 2]))
    line = drawing.split('<path d="')[1].split('"')[0]

    assert drawing.count("ring front") == 3
    assert len(line.split("L")) == 3  # from trial 0 along, then up to trial 2
