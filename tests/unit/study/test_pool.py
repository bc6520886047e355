"""What a pool makes of jobs whose workers die, without any worker."""

import signal
from concurrent.futures import CancelledError, Future

import pytest

from harness.errors import UserError
from harness.study.workers import pool
from harness.study.workers.job import Finished
from harness.study.workers.local import ProcessPool, fitting
from harness.study.workers.processes import CannotStart, Died

DONE = Finished("baseline", 0, "ok", "", 1.0, 0.9)
KILLED = Died(-signal.SIGKILL)


class Processes:
    """Stands in for the processes: every job ends with the next of some outcomes."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)

    def schedule(self, function, args, told=None):
        future = Future()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        return future


@pytest.fixture(autouse=True)
def lost(monkeypatch):
    """Runs that no worker could finish, in place of their rows."""
    reasons = []

    def note(job, reason):
        reasons.append(reason)
        return Finished("baseline", 0, "failed", reason, 0.0, None)

    monkeypatch.setattr(pool, "lost", note)
    return reasons


def test_a_job_whose_worker_died_is_done_once_more(lost):
    processes = Processes(KILLED, DONE)

    assert ProcessPool(processes).do("job") == DONE
    assert lost == []


def test_a_job_whose_worker_died_twice_is_stored_as_failed(lost):
    processes = Processes(KILLED, KILLED, DONE)

    assert ProcessPool(processes).do("job").status == "failed"
    assert lost == [
        "the worker process died 2 times: killed by SIGKILL (often the kernel, for want of memory; fewer --workers "
        "need less)"
    ]
    assert processes.outcomes == [DONE], "not tried a third time"


def test_what_a_worker_raises_is_stored_with_the_reason(lost):
    assert ProcessPool(Processes(KeyError("x"))).do("job").reason == "KeyError: 'x'"


def test_a_full_disk_is_no_fault_of_the_run(lost):
    with pytest.raises(OSError, match="no space"):
        ProcessPool(Processes(OSError("no space"))).do("job")
    assert lost == []


def test_workers_that_cannot_start_are_one_clear_error():
    with pytest.raises(UserError, match=r"worker processes could not start \(no module x\)"):
        ProcessPool(Processes(CannotStart("no module x"))).do("job")


def test_a_stopped_run_is_not_a_failed_one(lost):
    with pytest.raises(CancelledError):
        ProcessPool(Processes(CancelledError("stopped"))).do("job")
    assert lost == []


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
