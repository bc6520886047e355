"""The same plan on Ray: a real cluster of two nodes on this machine, one of which is lost on the way."""

import socket
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace

import pandas as pd
import pytest

from harness.data.disk import data_root
from harness.errors import UserError
from harness.experiment import Arm, load_experiment, spec_of
from harness.store.reader import read_study
from harness.store.writer import prepare
from harness.study.workers.job import Job
from harness.study.workers.local import run_jobs
from harness.study.workers.ray import connect, run_jobs_on_ray
from harness.training.place import Place
from harness.tricks import registry

PLUGIN = '''
import os
import time
from pathlib import Path
from typing import ClassVar

from harness.tricks.contract import Info, Trick

FOLDER = Path({folder!r})


def card(name):
    return Info(name=name, family="mine", summary="s", paper="p", formula="f", expect="e")


class Waits(Trick):
    """Says on which node it trains, and goes on when the file `go` is there; changes the loss a little."""

    info: ClassVar = card("waits")

    def epoch_start(self, run):
        if not (FOLDER / "go").exists():
            import ray

            name = f"{{run.spec.seed}}-{{ray.get_runtime_context().get_node_id()}}"
            (FOLDER / name).touch()
        while not (FOLDER / "go").exists():
            time.sleep(0.05)

    def reduce_loss(self, loss, run):
        return loss * 0.9


class Dies(Trick):
    """Takes its worker along."""

    info: ClassVar = card("dies")

    def after_step(self, run):
        os._exit(1)
'''
TIMES = ("seconds", "cpu_", "images_per", "started", "finished", "peak", "host")


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def cluster(free_port, wait_until):
    """Start clusters with one node of one CPU, to which a client can connect; gives their addresses."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    @contextmanager
    def start():
        port = free_port()
        node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "ray_client_server_port": port}
        nodes = Cluster(initialize_head=True, head_node_args=node)
        try:
            wait_until(lambda: listens(port))
            yield nodes, f"ray://127.0.0.1:{port}"
        finally:
            nodes.shutdown()

    return start


@pytest.fixture(scope="module")
def head(cluster):
    with cluster() as found:
        yield found


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Makes the jobs of a short digits study, of which each call has a folder of its own."""
    monkeypatch.setattr(registry, "_plugins", {})
    monkeypatch.setattr(registry, "_sources", {})
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.format(folder=str(tmp_path)))
    registry.add_plugin(plugin)
    experiment = load_experiment("digits", {"recipe": {"epochs": 4}, "data": {"test_size": 400}})

    def jobs(name, *arms, seeds=3, threads=1):
        place = Place(data_root=data_root(), threads=threads, packed=True)
        folder = tmp_path / name
        prepare(folder)
        tricks = [Arm(), *(Arm(tricks=(registry.make(arm).spec(),)) for arm in arms)]
        specs = [spec_of(experiment, arm, seed) for seed in range(seeds) for arm in tricks]
        return [Job.of(spec, "digits", folder, place) for spec in specs], folder

    return jobs, plugin


def rows_of(folder):
    data = read_study(folder)
    assert not data.problems
    runs = data.runs.set_index("run_id").sort_index()
    curves = data.curves.sort_values(["run_id", "step", "split", "metric"], ignore_index=True)
    predictions = data.predictions.sort_by([("run_id", "ascending"), ("index", "ascending")])
    return runs[[c for c in runs.columns if not c.startswith(TIMES)]], curves, predictions


@pytest.mark.slow
def test_all_rows_arrive_and_equal_those_of_the_local_pool_though_a_node_is_lost(head, study, tmp_path, wait_until):
    nodes, address = head
    make, plugin = study
    jobs, here = make("ray", "mixup", "waits")
    lost = nodes.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    nodes.wait_for_nodes()

    def lose_the_node():
        wait_until(lambda: list(tmp_path.glob(f"*-{lost.node_id}")))
        nodes.remove_node(lost, allow_graceful=False)
        (tmp_path / "go").touch()

    thread = threading.Thread(target=lose_the_node, daemon=True)
    thread.start()
    done = list(run_jobs_on_ray(jobs, address, [plugin]))
    thread.join()

    assert [d.status for d in done] == ["ok"] * 9
    assert list(tmp_path.glob(f"*-{lost.node_id}")), "no run was on the lost node"
    jobs, there = make("local", "mixup", "waits")
    list(run_jobs(jobs, 2, [plugin]))
    for ours, theirs in zip(rows_of(here)[:2], rows_of(there)[:2], strict=True):
        assert len(ours) >= 9
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    assert rows_of(here)[2].equals(rows_of(there)[2])


@pytest.mark.slow
def test_a_run_that_kills_its_worker_is_stored_as_failed_and_the_others_are_done(head, study):
    _, address = head
    make, plugin = study
    jobs, folder = make("ray", "dies", seeds=1)
    done = {d.arm: d for d in run_jobs_on_ray(jobs, address, [plugin])}

    assert done["baseline"].status == "ok"
    assert done["dies"].status == "failed"
    assert done["dies"].reason.startswith("the worker process died 2 times")
    assert len(read_study(folder).runs) == 2


@pytest.mark.slow
def test_closing_early_keeps_what_is_done_stops_the_rest_and_leaves_the_callers_connection(
    head, study, tmp_path, wait_until
):
    import ray

    _, address = head
    make, plugin = study
    jobs, folder = make("ray", "waits", seeds=1)
    connect(ray, address)
    try:
        running = run_jobs_on_ray(jobs, address, [plugin])
        first = next(running)
        wait_until(lambda: list(tmp_path.glob("0-*")))
        running.close()

        assert first.arm == "baseline"
        assert list(read_study(folder).runs["arm"]) == ["baseline"]
        assert ray.is_initialized()
        wait_until(lambda: ray.available_resources().get("CPU") == 1)
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_runs_that_fit_no_node_are_refused(head, study):
    _, address = head
    make, _ = study
    jobs, _ = make("ray", "mixup", seeds=1, threads=3)

    with pytest.raises(UserError, match=r"takes 3 CPUs .* no node of the Ray cluster has them .*1 CPUs"):
        list(run_jobs_on_ray(jobs, address, []))


@pytest.mark.slow
def test_a_plugin_that_a_node_cannot_import_stops_the_study(head, study, tmp_path):
    _, address = head
    make, _ = study
    broken = tmp_path / "broken.py"
    broken.write_text("import not_on_this_node\n")
    jobs, _ = make("ray", "mixup", seeds=1)

    with pytest.raises(UserError, match=r"broken.py cannot be imported: .*not_on_this_node"):
        list(run_jobs_on_ray(jobs, address, [broken]))


@pytest.mark.slow
def test_a_cluster_that_is_lost_altogether_ends_the_study_with_its_finished_runs_stored(
    cluster, study, tmp_path, wait_until
):
    make, plugin = study
    jobs, folder = make("ray", "waits", seeds=1)
    with cluster() as (nodes, address):

        def lose_the_cluster():
            wait_until(lambda: list(tmp_path.glob("0-*")))
            nodes.remove_node(nodes.head_node, allow_graceful=False)

        thread = threading.Thread(target=lose_the_cluster, daemon=True)
        thread.start()
        with pytest.raises(UserError, match=r"the connection to Ray at .* is lost"):
            list(run_jobs_on_ray(jobs, address, [plugin]))
        thread.join()

    assert list(read_study(folder).runs["arm"]) == ["baseline"]


@pytest.mark.slow
def test_a_ray_of_this_machine_is_started_and_ended_without_a_word_on_stdout(study, capfd):
    ray = pytest.importorskip("ray")
    make, _ = study
    jobs, folder = make("ray", "mixup", seeds=1)
    done = list(run_jobs_on_ray(jobs, "local", []))

    assert [d.status for d in done] == ["ok", "ok"]
    assert len(read_study(folder).runs) == 2
    assert not ray.is_initialized()
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("address", ["ray://", "ray://host", "ray://host:port", "http://host:1", "host"])
def test_what_is_no_address_is_refused(address, study):
    pytest.importorskip("ray")
    jobs, _ = study[0]("ray", "mixup", seeds=1)

    with pytest.raises(UserError, match=f"Ray address {address}: not an address of a cluster"):
        list(run_jobs_on_ray(jobs, address, []))


@pytest.mark.parametrize("from_environment", [False, True])
def test_an_address_where_nothing_listens_is_refused_at_once(from_environment, study, monkeypatch, free_port):
    pytest.importorskip("ray")
    jobs, _ = study[0]("ray", "mixup", seeds=1)
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", address)

    with pytest.raises(UserError, match=rf"{address}: cannot be reached \(.*refused"):
        list(run_jobs_on_ray(jobs, "local" if from_environment else f"ray://{address}", []))


def test_a_cuda_run_without_a_share_of_a_gpu_is_refused(study):
    jobs, _ = study[0]("ray", "mixup", seeds=1)
    jobs = [replace(job, place=replace(job.place, device="cuda")) for job in jobs]

    with pytest.raises(UserError, match="gpus_per_run is 0"):
        list(run_jobs_on_ray(jobs, "local", []))


def test_something_else_that_listens_is_refused(study, monkeypatch):
    client = pytest.importorskip("ray.util.client.worker")
    monkeypatch.setattr(client, "INITIAL_TIMEOUT_SEC", 0.1)
    monkeypatch.setattr(client, "MAX_TIMEOUT_SEC", 0.1)
    jobs, _ = study[0]("ray", "mixup", seeds=1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        with pytest.raises(UserError, match="no connection: ConnectionError"):
            list(run_jobs_on_ray(jobs, f"ray://127.0.0.1:{silent.getsockname()[1]}", []))


def test_without_ray_the_extra_is_named(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    jobs, _ = study[0]("ray", "mixup", seeds=1)

    with pytest.raises(UserError, match=r"pip install 'harness\[ray\]'"):
        list(run_jobs_on_ray(jobs, "local", []))
