import json

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.cli.tricks import chosen
from harness.errors import UserError
from harness.tricks.cards import cards, made
from harness.tricks.index import indexed


def shown(*words):
    result = CliRunner().invoke(app, ["tricks", *words], env={"COLUMNS": "60"})
    assert result.exit_code == 0, result.output
    return result.output


def names(**choices):
    return [c["name"] for c in chosen(cards(), **dict.fromkeys(("search", "family", "kind", "max_cost")) | choices)]


def test_names_stand_in_one_piece_in_a_narrow_terminal():
    printed = shown()
    assert [name for name in indexed() if f" {name} " not in printed] == []


def test_what_is_no_trick_is_listed_where_it_is_asked_for():
    assert "best_vs_last" not in shown()
    assert "harness tricks --all" in shown()
    assert "best_vs_last" in shown("--all")
    assert "best_vs_last" in shown("--kind", "metric")
    assert "best_vs_last" in shown("--search", "best last")


def test_a_search_takes_cards_with_all_words_and_puts_names_first():
    found = names(search="Warm")
    assert found[:2] == ["lr_warmup", "warmup_cosine"]
    assert {"wsd", "sgdr_warm_restarts"} <= set(found)
    assert names(search="zhang mixup")[0] == "mixup"
    assert "cosine_decay" not in names(search="warm cosine")


def test_choices_are_taken_together():
    cheap = names(family="adversarial", max_cost=2.0)
    assert cheap == [n for n, c in sorted(indexed().items()) if c["family"] == "adversarial" and c["cost"] <= 2.0]
    assert 0 < len(cheap) < len(names(family="adversarial"))
    with pytest.raises(UserError, match="cheapest of them"):
        names(max_cost=0.01)


def test_json_has_everything():
    listed = json.loads(shown("--json"))
    assert len(listed) == len(cards()) > len(indexed())


def test_a_card_of_the_index_is_the_one_that_is_made():
    assert json.loads(json.dumps(made("mixup"))) == indexed()["mixup"] == json.loads(shown("mixup", "--json"))
