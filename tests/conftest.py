"""Shared fixtures. Tests never reach the network and never see a data root of the machine."""

import os

# Before torch is imported anywhere: a test process computes with one thread, like a worker.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch, tmp_path_factory):
    if not os.environ.get("HARNESS_TEST_REAL_DATA"):
        monkeypatch.setenv("HARNESS_DATA", str(tmp_path_factory.getbasetemp() / "no-data"))
