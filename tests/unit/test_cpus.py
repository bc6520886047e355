"""CPU limits of affinity and of cgroups in both versions, on trees of files like those of the kernel."""

import os

import pytest

from harness import cpus
from harness.cpus import Cpus, available, limited, quota
from harness.study import doctor
from harness.training.place import Place
from harness.workflow import place

V1 = "12:memory:/job\n4:cpu,cpuacct:{}\n1:name=systemd:/\n"
V2 = "0::{}\n"


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v1(group, amount, period="100000\n"):
    return {f"{group}/cpu.cfs_quota_us": amount, f"{group}/cpu.cfs_period_us": period}


@pytest.mark.parametrize(
    ("files", "own", "share"),
    [
        ({}, "", None),
        ({}, V2.format("/"), None),
        ({"cpu.max": "max 100000\n"}, V2.format("/"), None),
        ({"cpu.max": "150000 100000\n"}, V2.format("/"), 1.5),
        ({"a/cpu.max": "400000 100000\n"}, V2.format("/a"), 4.0),
        # The smallest on the way up: a job inside a slice, a slice inside a machine.
        ({"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000", "a/b/c/cpu.max": "800000 100000"},
         V2.format("/a/b/c"), 2.0),
        ({"a/cpu.max": "800000 100000", "a/b/cpu.max": "20000 10000"}, V2.format("/a/b"), 2.0),
        # A neighbour's limit is not ours.
        ({"other/cpu.max": "100000 100000"}, V2.format("/a"), None),
        # A container sees its own group as the root, while the kernel names the host's path.
        ({"cpu.max": "300000 100000"}, V2.format("/docker/0123"), 3.0),
        ({"cpu.max": "300000 100000"}, V2.format("/../../x"), 3.0),
        # Version 1.
        (v1("cpu,cpuacct", "-1\n"), V1.format("/"), None),
        (v1("cpu,cpuacct/docker/1", "250000\n"), V1.format("/docker/1"), 2.5),
        (v1("cpu/docker/1", "250000\n"), V1.format("/docker/1"), 2.5),
        (v1("cpu,cpuacct", "400000\n"), V1.format("/docker/0123"), 4.0),
        (v1("cpu,cpuacct/a", "200000\n") | v1("cpu,cpuacct/a/b", "50000\n", "10000\n"), V1.format("/a/b"), 2.0),
        # Both at once, as systemd mounts them.
        (v1("cpu,cpuacct/a", "300000\n") | {"unified/a/cpu.max": "200000 100000\n"}, V1.format("/a") + V2.format("/a"),
         2.0),
        # What makes no sense is no limit.
        ({"cpu.max": "100000\n"}, V2.format("/"), None),
        ({"cpu.max": "x y\n"}, V2.format("/"), None),
        (v1("cpu,cpuacct", "100000\n", "0\n"), V1.format("/"), None),
        ({"cpu.max": "100000 100000"}, "garbage", None),
    ],
)  # fmt: skip
def test_the_quota_is_the_smallest_on_the_way_up(tmp_path, files, own, share):
    assert quota(tree(tmp_path, files), own) == share


@pytest.mark.parametrize(
    ("machine", "affinity", "share", "found"),
    [
        (64, 64, None, Cpus(64, "64")),
        (64, 2, None, Cpus(2, "2 of 64: affinity")),
        (64, 64, 2.0, Cpus(2, "2 of 64: cgroup quota 2")),
        (64, 64, 1.5, Cpus(1, "1 of 64: cgroup quota 1.5")),
        (64, 64, 0.2, Cpus(1, "1 of 64: cgroup quota 0.2")),
        (64, 3, 8.0, Cpus(3, "3 of 64: affinity")),
        (4, 4, 128.0, Cpus(4, "4")),
    ],
)
def test_the_smallest_limit_counts_and_is_named(machine, affinity, share, found):
    assert limited(machine, affinity, share) == found


def test_this_process_is_limited_by_its_files_and_affinity(tmp_path, monkeypatch):
    tree(tmp_path, {"cgroup/job/cpu.max": "150000 100000\n", "own": V2.format("/job")})
    monkeypatch.setattr(cpus, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cpus, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(cpus, "_affinity", lambda: 8)

    assert available() == Cpus(1, "1 of 64: cgroup quota 1.5")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_affinity_is_asked_of_the_system():
    assert cpus._affinity() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("threads", "workers"), [(1, 6), (2, 3), (4, 1), (8, 1)])
def test_there_are_as_many_workers_as_usable_cpus_feed(tmp_path, monkeypatch, threads, workers):
    monkeypatch.setattr(place, "available", lambda: Cpus(6, "6 of 64: affinity"))

    assert place.parse_workers(None, Place(tmp_path, "cpu", threads)) == workers
    assert place.slots("local") == 6


def test_the_doctor_says_how_many_cpus_and_why(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "available", lambda: Cpus(2, "2 of 64: cgroup quota 2"))
    said = {what: detail for what, _, detail in doctor.examine("cpu", None, tmp_path)}

    assert said["cores"] == "2 of 64: cgroup quota 2 (one run at a time on each)"
