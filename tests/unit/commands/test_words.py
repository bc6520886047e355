"""Words of commands: placeholders in one pass, flags in each style, secrets hidden."""

import pytest

from harness.commands.words import fill, fill_value, flag_words, hidden, is_secret
from harness.errors import UserError


def test_what_a_value_holds_is_never_replaced_again():
    assert fill("{a}-{b}", {"a": "{b}", "b": 2}, "f") == "{b}-2"


def test_a_value_keeps_its_braces_in_a_template_that_is_filled_later():
    later = fill("{alpha}/{seed}", {"alpha": "{seed}"}, "f", ["seed"])

    assert fill(later, {"seed": 3}, "f") == "{seed}/3"


def test_doubled_braces_are_braces():
    assert fill('{{"lr": {lr}}}', {"lr": 0.1}, "f") == '{"lr": 0.1}'


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{sed}", r"unknown placeholder \{sed\}; did you mean 'seed'"),
        ('{"a": 1}', r"a single \{; write \{\{ and \}\} for braces"),
    ],
)
def test_what_is_no_template_is_refused(template, why):
    with pytest.raises(UserError, match=why):
        fill(template, {"seed": 0}, "run")


def test_a_placeholder_alone_keeps_the_type_of_its_value():
    assert fill_value("{on}", {"on": True}, "f", []) is True
    assert fill_value(["{n}", "x{n}"], {"n": 3}, "f", []) == [3, "x3"]


FLAGS = {"--lr": 5e-05, "--amp": True, "--ema": False, "--steps": [30, 60]}


@pytest.mark.parametrize(
    ("style", "words"),
    [
        ("space", ["--lr", "5e-05", "--amp", "--steps", "30", "60"]),
        ("equals", ["--lr=5e-05", "--amp", "--steps=30", "--steps=60"]),
        ("absl", ["--lr=5e-05", "--amp", "--noema", "--steps=30", "--steps=60"]),
        ("hydra", ["--lr=5e-05", "--amp=true", "--ema=false", "--steps=[30,60]"]),
    ],
)
def test_flags_in_each_style(style, words):
    assert flag_words(FLAGS, style) == words


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "--hub_token", "db.password", "AWS_SECRET"])
def test_names_of_secrets(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", ["--tokenizer", "--max_tokens", "--image-key", "KEYS", "MONKEY"])
def test_names_that_only_look_like_secrets(name):
    assert not is_secret(name)


def test_values_of_secret_flags_are_hidden():
    words = ["train.py", "--hub_token", "abc", "--api-key=def", "--lr", "0.1", "--push-token", "--amp"]

    assert hidden(words) == (
        "train.py", "--hub_token", "(hidden)", "--api-key=(hidden)", "--lr", "0.1", "--push-token", "--amp",
    )  # fmt: skip
