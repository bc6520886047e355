"""`extends` in an experiment file: what it says stands over what another file says."""

import tomllib

import pytest

from harness.errors import UserError
from harness.experiment import load_experiment, text_of


@pytest.fixture
def write(tmp_path):
    def put(name, text):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return put


def test_a_file_changes_some_values_of_a_bundled_experiment(write):
    mine = load_experiment(write("mine.toml", 'extends = "digits"\n[recipe]\nepochs = 3\n[study]\nbase = ["ema"]\n'))
    digits = load_experiment("digits")

    assert (mine.recipe.epochs, mine.study.base, mine.experiment.name) == (3, ("ema",), "mine")
    assert mine.recipe.model_copy(update={"epochs": digits.recipe.epochs}) == digits.recipe
    assert (mine.data, mine.model, mine.tricks) == (digits.data, digits.model, digits.tricks)


def test_files_extend_files_beside_them_and_name_themselves(write):
    write("a.toml", 'extends = "digits"\n[recipe]\nepochs = 3\nlr = 0.2\n')
    b = load_experiment(write("b.toml", 'extends = "a.toml"\n[recipe]\nlr = 0.3\n[experiment]\nname = "own"\n'))

    assert (b.recipe.epochs, b.recipe.lr, b.experiment.name) == (3, 0.3, "own")


def test_what_is_stored_is_the_whole_text(write):
    text = text_of(write("mine.toml", 'extends = "digits"\n[recipe]\nepochs = 3\n'))
    tables = tomllib.loads(text)

    assert text.startswith("# mine.toml and what it extends\n")
    assert tables["recipe"] == tomllib.loads(text_of("digits"))["recipe"] | {"epochs": 3}
    assert load_experiment(write("again.toml", text)).recipe == load_experiment(write("m.toml", text)).recipe


def test_another_base_is_another_text(write):
    mine = write("mine.toml", 'extends = "base.toml"\n')
    texts = []
    for epochs in (3, 4):
        write("base.toml", f'extends = "digits"\n[recipe]\nepochs = {epochs}\n')
        texts.append(text_of(mine))
    assert texts[0] != texts[1], "a study of it is looked up by its text"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('extends = "digts"\n', "did you mean 'digits'"),
        ('extends = "none.toml"\n', "none.toml does not exist"),
        ("extends = 3\n", "extends = 3: the name of an experiment"),
        ('extends = "mine.toml"\n', "extends = 'mine.toml' leads back to mine.toml"),
        ('extends = "digits"\n[recipe]\nepohcs = 3\n', "did you mean 'epochs'"),
    ],
)
def test_what_cannot_be_extended_is_refused(write, text, said):
    with pytest.raises(UserError, match=said):
        load_experiment(write("mine.toml", text))
