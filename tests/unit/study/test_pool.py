"""What a pool makes of jobs whose workers die, without any worker."""

import threading
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool

import pytest
from pebble import ProcessExpired

from harness.errors import UserError
from harness.study.workers import local
from harness.study.workers.local import Finished, Pool, fitting

DONE = Finished("baseline", 0, "ok", "", 1.0, 0.9)


class Processes:
    """Stands in for pebble's pool: every job ends with the next of some outcomes, or stays under way."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.stopped = False
        self.scheduled = threading.Event()

    def schedule(self, function, args):
        if self.stopped:
            raise RuntimeError("The Pool is not active")
        future = Future()
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        elif outcome is not None:
            future.set_result(outcome)
        self.scheduled.set()
        return future

    def stop(self):
        self.stopped = True


@pytest.fixture(autouse=True)
def lost(monkeypatch):
    """Runs that no worker could finish, in place of their rows."""
    reasons = []

    def note(job, reason):
        reasons.append(reason)
        return Finished("baseline", 0, "failed", reason, 0.0, None)

    monkeypatch.setattr(local, "lost", note)
    return reasons


def test_a_job_whose_worker_died_is_done_once_more(lost):
    processes = Processes(ProcessExpired("killed"), DONE)

    assert Pool(processes).do("job") == DONE
    assert lost == []


def test_a_job_whose_worker_died_twice_is_stored_as_failed(lost):
    processes = Processes(ProcessExpired("killed"), ProcessExpired("killed"), DONE)

    assert Pool(processes).do("job").status == "failed"
    assert lost == ["the worker process died 2 times (killed)"]
    assert processes.outcomes == [DONE], "not tried a third time"


def test_what_a_worker_raises_is_stored_with_the_reason(lost):
    assert Pool(Processes(KeyError("x"))).do("job").reason == "KeyError: 'x'"


def test_a_full_disk_is_no_fault_of_the_run(lost):
    with pytest.raises(OSError, match="no space"):
        Pool(Processes(OSError("no space"))).do("job")
    assert lost == []


def test_workers_that_cannot_start_are_one_clear_error():
    with pytest.raises(UserError, match="worker processes could not start"):
        Pool(Processes(BrokenProcessPool("x"))).do("job")


def test_stopping_frees_the_threads_that_wait_and_takes_nothing_more(lost):
    processes = Processes()
    pool = Pool(processes)
    errors = []

    def wait():
        try:
            pool.do("job")
        except CancelledError as error:
            errors.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    processes.scheduled.wait()
    pool.stop()
    thread.join()

    assert len(errors) == 1
    with pytest.raises(CancelledError):
        pool.do("job")
    assert lost == [], "a stopped run is not a failed one"


@pytest.mark.parametrize(
    ("used", "total", "workers"),
    [
        (5, 100, 18),  # 90 of 100 may be filled, 5 by each
        (6, 100, 15),
        (46, 100, 1),  # two would take 92
        (45, 100, 2),
        (95, 100, 1),  # one alone takes more than packed runs may
        (0, 100, 91),  # a device that says nothing of what is used
    ],
)
def test_as_many_workers_fit_as_fill_nine_tenths_of_a_device(used, total, workers):
    assert fitting(total - used, total) == workers
