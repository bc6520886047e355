from harness.study.greedy import greedy_order

SCORES = {"a": 1.0, "b": 3.0, "c": 2.0, "b+a": 5.0, "b+c": 4.0, "b+a+c": 4.5}


def ordered(steps):
    """The order, what was refused, and which arms were asked for."""
    asked, values = [], None
    while True:
        try:
            arms = steps.send(values)
        except StopIteration as end:
            return *end.value, asked
        asked.append(arms)
        values = {arm: SCORES[arm] for arm in arms if arm in SCORES}


def test_each_step_takes_the_trick_with_which_the_stack_validates_best():
    order, refused, asked = ordered(greedy_order(["a", "b", "c"]))

    assert (order, refused) == (["b", "a", "c"], [])
    assert asked == [["a", "b", "c"], ["b+a", "b+c"], ["b+a+c"]]


def test_tricks_that_clash_with_the_stack_are_left_out():
    order, refused, _ = ordered(greedy_order(["a", "b", "c"], lambda arm: arm == "b+a"))

    assert order == ["b", "c"]
    assert refused == ["a"]


def test_without_a_trick_that_fits_nothing_is_asked_for():
    assert ordered(greedy_order(["a"], lambda arm: True)) == ([], ["a"], [])


def test_a_trick_that_never_finishes_is_refused_and_the_others_go_on():
    order, refused, asked = ordered(greedy_order(["a", "diverges", "b"]))

    assert (order, refused) == (["b", "a"], ["diverges"])
    assert asked == [["a", "diverges", "b"], ["b+a"]]
