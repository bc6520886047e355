"""Which requests count as the same, without torch: same question, images, code and machine."""

import pytest

from harness.study import asked
from harness.study.asked import VARIABLES, request_of


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine without cards; the folders of its device files and of its driver."""
    devices, cards = tmp_path / "dev", tmp_path / "gpus"
    devices.mkdir()
    monkeypatch.setattr(asked, "DEVICES", devices)
    monkeypatch.setattr(asked, "CARDS", cards)
    return devices, cards


def request():
    return request_of({"seeds": 3}, "[data]", "images")


def insert(machine, number, model):
    devices, cards = machine
    (devices / f"nvidia{number}").touch()
    folder = cards / f"0000:0{number}:00.0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "information").write_text(f"{model}\nIRQ: {id(model)}\n")


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_may_change_bits_or_the_device_makes_another_request(name, monkeypatch):
    monkeypatch.delenv(name, raising=False)
    unset = request()
    monkeypatch.setenv(name, "1")

    assert request() != unset


@pytest.mark.parametrize(("name", "value"), [("NUMBERS", -1), ("__version__", "0.0")])
def test_another_version_of_the_numbers_or_of_the_package_makes_another_request(name, value, monkeypatch):
    before = request()
    monkeypatch.setattr(asked, name, value)

    assert request() != before


def test_another_card_in_the_same_slot_makes_another_request(machine):
    none = request()
    insert(machine, 0, "Model: A100")
    first, again = request(), request()
    insert(machine, 0, "Model: H100")

    assert first == again
    assert len({none, first, request()}) == 3


@pytest.mark.parametrize("said", [None, "IRQ: 7"])
def test_a_card_whose_model_is_unknown_has_no_short_cut(said, machine):
    insert(machine, 0, "Model: A100")
    if said is None:
        (machine[0] / "nvidia1").touch()
    else:
        insert(machine, 1, said)

    assert request() is None
