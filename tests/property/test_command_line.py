"""Whatever is typed: one line that begins with "error: " and exit code 2, or a plan that holds what was typed.

In this process, with everything that would train or measure replaced by a look at what it would have trained.
"""

import json
import math
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import tomli_w
import typer.main
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli import app, main
from harness.errors import UserError
from harness.experiment import (
    Augment,
    Data,
    Experiment,
    Model,
    Question,
    Recipe,
    Study,
    find_experiment,
    load_experiment,
)
from harness.tricks import registry
from harness.values import read_seeds

STRANGE = [
    "", " ", ",", "=", ".", "+", "-", "--", "--help", "²", "٣", "é", "💥", "inf", "-inf", "nan", "1e400", "-1e400",
    f"1{'0' * 400}", f"-1{'0' * 400}", "9" * 5000, f"0.{'0' * 400}1", "-0.0", "-1", "0", "1", "0.5", "1e-320", "0x10",
    "1_000", "+5", "9007199254740993", "null", "true", "[]", "{}", "[1, [2]]", "{a = {b = 1}}", "[" * 3000, "'", '"',
    '"""', "'a'", '"\\u0000"', "\x00", "\x1b[31m", "\udcff", "\t", "1\r", "1\nx = 2", "1 # 2", "2020-01-01", "12:30:00",
    "../x", "/", "~", "x" * 10_000, "a" * 101, "%s %(x)s {0}", "$(x)", "`x`", "digits", "mixup", "a=b", "a.b=1",
    "index", "published", "10:20", "20:10", "5:5", "-1:3", "a:b", "0:10001", ":", "1:2:3",
]  # fmt: skip
"""Values that no option expects, and some that are right for a few."""

PUBLISHED = Path(__file__).parents[2] / "results" / "published"
COMMANDS = typer.main.get_command(app).commands
STARTS = {
    "ablate": ["ablate", "mixup"],
    "plan": ["plan", "mixup"],
    "run": ["run", "mixup-grid-digits"],
    "replicate": ["replicate", "digits-noisy-untuned", "--results=stored"],
    "search": ["search", "mixup"],
    "compare": ["compare", "a", "b"],
    "publish": ["publish", "a"],
    "new-trick": ["new-trick", "x", "core"],
}
"""What a command needs before its options mean anything."""

OPTIONS = [
    (name, option.opts[-1])
    for name, command in COMMANDS.items()
    for option in command.params
    if option.opts[0].startswith("-") and not getattr(option, "is_flag", False) and "--help" not in option.opts
]
ARGUMENTS = [name for name, command in COMMANDS.items() if any(not p.opts[0].startswith("-") for p in command.params)]

SECTIONS = {"experiment": Question, "data": Data, "model": Model, "recipe": Recipe, "study": Study}
KEYS = [f"{section}.{key}" for section, model in SECTIONS.items() for key in model.model_fields]
KEYS += [f"recipe.augment.{key}" for key in Augment.model_fields]
KEYS += ["model.args.x", "mixup.alpha", "mixup.per", "ema.decay"]


class Looked(UserError):
    """Raised in place of training."""


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Call the command line; returns exit code, stdout, stderr, and the plan and experiment where it came to a plan."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stored" / "published").mkdir(parents=True)
    (tmp_path / "stored" / "published" / "digits-noisy-untuned").symlink_to(PUBLISHED / "digits-noisy-untuned")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HARNESS_DEBUG", raising=False)
    seen = SimpleNamespace(plan=None, experiment=None, search=None)

    def looked(plan, experiment, *_):
        seen.plan, seen.experiment = plan, experiment
        raise Looked("looked")

    def searched(plan, *_):
        seen.search = plan
        raise Looked("looked")

    monkeypatch.setattr("harness.study.forecast.forecast", looked)
    monkeypatch.setattr(
        "harness.workflow.training.Trainer._train", lambda self, plan, *_: looked(plan, self.experiment)
    )
    monkeypatch.setattr("harness.workflow.searching._trials", lambda request, plan, *_: searched(plan))
    monkeypatch.setattr("harness.cli.searching._print_plan", lambda event, as_json: searched(event.plan))
    monkeypatch.setattr("harness.bench.run_bench", lambda *_: [])
    monkeypatch.setattr("harness.data.cifar._download", lambda *_: pytest.fail("it downloads"))

    def run(*words):
        seen.plan = seen.experiment = seen.search = None
        monkeypatch.setattr("sys.argv", ["harness", *words])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=end.value.code or 0, out=out, err=err, **vars(seen))

    return run


def ends_well(done, command=""):
    """No traceback, no fault, and in case of an error only lines that say so."""
    assert "Traceback" not in done.err
    assert "a fault of this program" not in done.err
    if done.code and not (command == "doctor" and done.code == 1):  # a machine that lacks something
        assert done.code == 2
        assert done.err
        lines = [line for line in done.err.splitlines() if not line.startswith("warning: ")]
        assert all(line.startswith("error: ") for line in lines), done.err


def read_as(text):
    """What a typed value is: TOML, or text where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return None if text == "null" else text


def at(experiment, key):
    """The value of a dotted key, as it will be trained."""
    section, *keys = key.split(".")
    value = getattr(experiment, section) if section in Experiment.model_fields else experiment.tricks[section]
    for part in keys:
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def same(typed, held):
    """Whether a value is the one that was typed: lists become tuples, 1 may become 1.0, tables add up."""
    if isinstance(held, Augment):
        return all(same(value, getattr(held, key)) for key, value in typed.items())
    if isinstance(held, tuple):
        return list(held) == list(typed)
    return held == typed and (not isinstance(held, float) or math.isfinite(held))


def holds(done, option, value):
    """Whether the plan is of what the option said, for those that a plan keeps."""
    manifest, experiment = done.plan.manifest, done.experiment
    json.loads(manifest.model_dump_json(), parse_constant=pytest.fail)
    kept = {
        "--seeds": lambda: value == "auto" or len(manifest.seeds) == len(read_seeds(value)),
        "--margin": lambda: manifest.margin == float(value),
        "--name": lambda: manifest.study == value,
        "--experiment": lambda: experiment.experiment.name == value,
        "--design": lambda: manifest.design == value.replace("-", "_"),
    }
    assert kept.get(option, lambda: True)()


def an_option_takes_it_or_refuses_it(call, command, option, value):
    done = call(*STARTS.get(command, [command]), f"{option}={value}")
    ends_well(done, command)
    if done.plan is not None:
        holds(done, option, value)


def a_setting_is_planned_or_refused(call, key, value):
    done = call("plan", "mixup", "--seeds=2", "--set", f"{key}={value}")
    ends_well(done)
    if done.plan is not None:
        assert same(read_as(value), at(done.experiment, key))
        holds(done, "--set", value)
    return done.plan is not None


def some(cases, number):
    """Some of the pairs of a case and a strange value; each case and nearly each value is among them."""
    return [(cases[k % len(cases)], STRANGE[(k * 7 + k // len(cases)) % len(STRANGE)]) for k in range(number)]


def test_an_option_takes_a_value_or_refuses_it(call):
    for (command, option), value in some(OPTIONS, 130):
        an_option_takes_it_or_refuses_it(call, command, option, value)


def test_an_argument_is_known_or_refused(call):
    for command, value in some(ARGUMENTS, 40):
        ends_well(call(command, *STARTS.get(command, [command])[2:], "--", value), command)


def test_a_setting_is_planned_as_it_was_typed_or_refused(call):
    planned = [a_setting_is_planned_or_refused(call, key, value) for key, value in some(KEYS, 110)]
    assert 5 < sum(planned) < 60, "the strange values hold some that are right"


@pytest.mark.slow
@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=lambda word: word)
def test_every_option_takes_or_refuses_every_value(call, command, option):
    for value in STRANGE:
        an_option_takes_it_or_refuses_it(call, command, option, value)


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_every_setting_takes_or_refuses_every_value(call, key):
    for value in STRANGE:
        a_setting_is_planned_or_refused(call, key, value)


words = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(STRANGE)
numbers = st.floats().map(repr) | st.integers().map(str) | st.integers(0, 400).map(lambda n: "1" + "0" * n)
tables = st.recursive(
    numbers | st.just("true") | st.text(st.characters(codec="utf-8"), max_size=5).map(json.dumps),
    lambda inner: st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]") | inner.map(lambda v: f"{{a = {v}}}"),
    max_leaves=4,
)
few = settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


TAKEN = st.sampled_from(["--seeds", "--margin", "--name", "--set", "--cross", "--workers", "--budget"])


@few
@given(option=TAKEN, value=words | numbers)
def test_any_text_is_taken_or_refused(call, option, value):
    an_option_takes_it_or_refuses_it(call, "plan", option, value)


@few
@given(section=st.sampled_from(KEYS), value=numbers | tables)
def test_a_file_holds_what_it_says_or_is_refused(tmp_path, section, value):
    *outer, last = section.split(".")
    tables = tomllib.loads(find_experiment("digits").read_text())
    name = "file.toml" if outer[0] in tables else "tricks.toml"
    target = tables if name == "file.toml" else tables["tricks"]
    for part in outer:
        target = target.setdefault(part, {})
    target.pop(last, None)
    path = tmp_path / name
    table = ".".join(outer if name == "file.toml" else ["tricks", *outer])
    text = tomli_w.dumps(tables)
    head = f"[{table}]\n"
    text = text.replace(head, f"{head}{last} = {value}\n", 1) if head in text else f"{text}\n{head}{last} = {value}\n"
    path.write_text(text, encoding="utf-8")
    try:
        loaded = load_experiment(str(path))
        if name == "tricks.toml":
            registry.make(outer[0], loaded.tricks[outer[0]], loaded.origins)
    except UserError:
        return
    assert same(read_as(value), at(loaded, section))
