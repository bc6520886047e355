"""Requests as data: their command line, and what an older one said."""

import json

import pytest

from harness.errors import UserError
from harness.store.asked import asked_of, command_of
from harness.store.reader import read_manifest, read_search


def request(verb="ablate", tricks=("mixup",), **options):
    return {"verb": verb, "tricks": list(tricks), "options": {k.replace("_", "-"): v for k, v in options.items()}}


def test_options_come_in_one_order_however_they_are_stored():
    asked = request(set=["mixup.alpha=0.4", "recipe.epochs=2"], threads=2, seeds=10, experiment="my digits.toml")
    assert command_of(asked) == (
        "harness ablate mixup --experiment 'my digits.toml' --seeds 10 --set mixup.alpha=0.4 --set recipe.epochs=2 "
        "--threads 2"
    )


def test_what_was_not_given_is_left_out_and_a_flag_has_no_value():
    asked = request(experiment="digits", design=None, until_decided=True, cuda_graphs=False, set=[], plugin=None)
    assert command_of(asked) == "harness ablate mixup --experiment digits --until-decided"


def test_zero_is_a_value():
    assert command_of(request(tricks=(), margin=0.0, fresh=0)) == "harness ablate --fresh 0 --margin 0.0"


def test_an_option_that_has_no_place_in_the_order_comes_last():
    asked = request(fail_on="hurts", experiment="digits")
    assert command_of(asked) == "harness ablate mixup --experiment digits --fail-on hurts"


def test_nothing_is_asked_by_nothing():
    assert command_of({}) == ""


def test_a_request_survives_json():
    asked = request(margin=0.1, seeds=5, set=["recipe.lr=0.1"], until_decided=True)
    assert command_of(json.loads(json.dumps(asked))) == command_of(asked)


def test_the_stored_request_is_preferred_to_the_command(published):
    for record in published:
        asked = request(tricks=("ema",))
        assert asked_of(record.model_copy(update={"asked": asked})) == asked


def test_commands_of_earlier_versions_say_the_same_again(published):
    earlier = [record for record in published if record.harness_version.startswith("0.1.")]
    assert len(earlier) >= 4
    for record in earlier:
        assert record.asked == {}
        assert command_of(asked_of(record)) == record.command
        assert asked_of(record)["options"]["experiment"].split("/")[-1].removesuffix(".toml") == record.experiment


@pytest.fixture
def published(request):
    root = request.config.rootpath / "results" / "published"
    kinds = (("study.json", read_manifest), ("search.json", read_search))
    return [read(path.parent) for name, read in kinds for path in sorted(root.glob(f"*/{name}"))]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            "harness ablate a+b c --until-decided --set x.y=1 --seeds 5 --set z.w=2",
            {
                "verb": "ablate",
                "tricks": ["a+b", "c"],
                "options": {"until-decided": True, "set": ["x.y=1", "z.w=2"], "seeds": "5"},
            },
        ),
        ("harness search", {"verb": "search", "tricks": [], "options": {}}),
        ("harness ablate mixup --seeds", {}),
        ("harness ablate mixup --seeds 3 ema", {}),
        ("harness ablate 'mixup", {}),
        ("harness", {}),
        ("rm -rf everything", {}),
        ("", {}),
    ],
)
def test_a_command_of_an_earlier_version_is_read_or_nothing_is_known(published, command, expected):
    assert asked_of(published[0].model_copy(update={"command": command})) == expected


@pytest.mark.parametrize(
    "asked", [{"tricks": []}, {"verb": 1}, {"verb": "ablate", "tricks": [1]}, {"verb": "ablate", "options": 5}]
)
def test_what_is_no_request_is_refused_when_the_declaration_is_read(published, tmp_path, asked):
    stored = published[0].model_dump(mode="json") | {"asked": asked}
    (tmp_path / "study.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match=r"study\.json cannot be read as a study"):
        read_manifest(tmp_path)
