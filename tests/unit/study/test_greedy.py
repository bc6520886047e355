from harness.study.greedy import greedy_order

SCORES = {"a": 1.0, "b": 3.0, "c": 2.0, "b+a": 5.0, "b+c": 4.0, "b+a+c": 4.5}


def test_each_step_takes_the_trick_with_which_the_stack_validates_best():
    asked = []

    def values(arms):
        asked.append(list(arms))
        return {arm: SCORES[arm] for arm in arms}

    assert greedy_order(["a", "b", "c"], values) == (["b", "a", "c"], [])
    assert asked == [["a", "b", "c"], ["b+a", "b+c"], ["b+a+c"]]


def test_tricks_that_clash_with_the_stack_are_left_out():
    order, refused = greedy_order(
        ["a", "b", "c"], lambda arms: {arm: SCORES[arm] for arm in arms}, lambda arm: arm == "b+a"
    )

    assert order == ["b", "c"]
    assert refused == ["a"]
