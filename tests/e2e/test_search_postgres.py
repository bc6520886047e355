"""Two processes search together through a PostgreSQL server, which the test starts."""

import math
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from sqlalchemy import text

from harness.experiment import load_experiment
from harness.store.reader import read_search
from harness.testing import tiny_info
from harness.tuning.objective import Score
from harness.tuning.peers import Peers
from harness.tuning.plan import plan_search
from harness.tuning.storage import is_server, lock_folder, open_storage
from harness.tuning.trials import Tuner

pytestmark = pytest.mark.slow

SEARCH = (
    "search", "mixup", "--trials", "4", "--seeds", "2", "--fresh", "2", "--name", "s", "--workers", "1",
    "--set", "recipe.epochs=1", "--set", "data.test_size=100",
)  # fmt: skip


def program(name):
    """Where a program of PostgreSQL is, or None."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return shutil.which(name) or next(map(str, installed), None)


@pytest.fixture(scope="module")
def server(free_port, wait_until):
    """The URL of a fresh server; the server refuses to run as root, so then it runs as nobody."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed: pip install 'harness[postgres]'")
    initdb, postgres = program("initdb"), program("postgres")
    if not (initdb and postgres):
        pytest.skip("no PostgreSQL server is installed")
    folder = Path(tempfile.mkdtemp(prefix="harness-postgres-"))
    prefix = []
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL refuses to run as root, and there is no setpriv to run it as another user")
        prefix = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        shutil.chown(folder, "nobody", "nogroup")
    port, data = free_port(), folder / "data"
    made = [*prefix, initdb, "-D", data, "-U", "harness", "--auth=trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder)
    options = ["-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    process = subprocess.Popen(
        [*prefix, postgres, "-D", data, *options], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: answers(port), process)
        yield f"postgresql+psycopg2://harness:secret@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)  # "fast": do not wait for those who are connected
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def answers(port):
    import psycopg2

    with suppress(psycopg2.OperationalError):
        psycopg2.connect(host="127.0.0.1", port=port, user="harness", dbname="postgres").close()
        return True


def finish(processes):
    for process in processes:
        _, err = process.communicate()
        assert process.returncode == 0, err


def trials(server, arm, search="s"):
    storage = optuna.storages.RDBStorage(server)
    return optuna.load_study(storage=storage, study_name=f"{search}/{arm}").get_trials()


def test_two_processes_share_a_search_through_a_server(server, searches, wait_until, tmp_path):
    folder = searches(tmp_path)
    folder.hold(0)  # neither goes on before the other has begun a run
    both = [folder.start(*SEARCH, "--storage", server) for _ in range(2)]
    for process in both:
        wait_until(lambda: folder.starts().total() == 2, process)
    folder.release()
    finish(both)
    record = read_search(tmp_path / "results" / "s")
    made = trials(server, "baseline") + trials(server, "mixup")

    assert [len(a.trials) for a in record.arms] == [4, 4]
    assert len(made) == 8, "no trial was begun that the budget did not have"
    assert len({t.user_attrs["process"] for t in made}) == 2
    assert len({str((t.params, t.user_attrs["run_ids"])) for t in made}) == 8
    assert set(record.comparisons) == {"default", "tuned", "tuning"}
    assert "secret" not in (tmp_path / "results" / "s" / "search.json").read_text()
    assert not (tmp_path / "results" / "s" / "optuna.db").exists()


def test_hosts_that_share_the_server_alone_share_the_trials(server, searches, tmp_path):
    """Two results folders stand for two hosts without a common folder; the budget is exceeded by one at most."""
    hosts = [searches(tmp_path / name) for name in "ab"]
    alone = tuple(w if w != "s" else "hosts" for w in SEARCH)
    finish([host.start(*alone, "--storage", server) for host in hosts])
    records = [host.record("hosts") for host in hosts]

    for record in records:
        assert [len(a.trials) for a in record.arms] == [4, 4]
    assert [t.params for t in records[0].arms[1].trials] == [t.params for t in records[1].arms[1].trials]
    assert all(4 <= len(trials(server, arm, "hosts")) <= 5 for arm in ("baseline", "mixup"))


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # the test asks for a trial as no search does
def test_a_trial_of_a_host_that_died_is_begun_again_when_its_heartbeat_stops(server, tmp_path, monkeypatch):
    plan = plan_search(
        load_experiment("digits"), ["erm_baseline"], tiny_info(), trials=2, seeds=1, fresh=1, nuisance="lr",
        objectives="accuracy", sampler="tpe", pruner="none", name="died", command="", toml="", images="",
    )  # fmt: skip
    hosts = []
    for name in "ab":
        (tmp_path / name).mkdir()
        storage = open_storage(server, tmp_path / name)
        hosts.append((storage, Peers(lock_folder(server, tmp_path / name), is_server(storage))))
    search = Tuner(plan, *hosts[0], evaluate=None)
    trial = search._studies[1].ask()
    trial.suggest_float("recipe.lr", 0.02, 2.0, log=True)
    hosts[0][0].record_heartbeat(trial._trial_id)  # its first sign of life, and its last
    waits, days = Tuner._others_at_work, iter(range(9))

    def a_day_passes_when_waited_for(search):
        found = waits(search)
        if found:
            assert next(days, None) is not None, "nobody takes it up"
            with hosts[0][0].engine.begin() as connection:
                passes = "UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 day' WHERE trial_id = :id"
                connection.execute(text(passes), {"id": trial._trial_id})
        return found

    monkeypatch.setattr(Tuner, "_others_at_work", a_day_passes_when_waited_for)
    other = Tuner(plan, *hosts[1], evaluate=lambda spec: Score("ok", "", {"accuracy": 0.5}))
    list(other.run(1, math.inf, hosts[1][1].stopped.set))

    assert other.complete
    assert [t.params["recipe.lr"] for t in other.trials(1)][-1] == 0.2, "the default, begun again"
    assert len(other.trials(1)) == 2
    for _, process in hosts:
        process.close()
