"""What becomes of a run's rows: they are stored, and so are those of a run that nobody could finish."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

from harness.errors import UserError
from harness.identity import Identity, difference
from harness.store.writer import file_name, write_run
from harness.study.places import machine_of
from harness.study.workers.job import Finished, Job, Rows
from harness.training import files
from harness.training.place import Place
from harness.training.provenance import host_facts


def store(job: Job, rows: Rows) -> Finished:
    """Write the rows of a run into its study's folder, after what runs that need it want."""
    rows.row["role"] = "stage" if job.label else "arm"
    if rows.stage is not None and job.stage_file is not None:
        files.write(job.stage_file, rows.stage)
    write_run(job.study_dir, rows.row, rows.points, rows.predictions)
    row = rows.row
    if isinstance(job.place, Place) and job.place.checkpoint_dir is not None and row["status"] != "failed":
        name = file_name(row["run_id"], row["identity"], row["fingerprint"])
        (job.place.checkpoint_dir / name).with_suffix(".pt").unlink(missing_ok=True)
    if row["identity"] != job.identity.short:
        raise UserError(
            f"run {row['run_id']} was not trained on what was planned: its row is "
            f"{difference(job.identity.json, Identity.of(row['identity_json']))}. They changed meanwhile, or another "
            "node has others; finished runs are stored, and the same command plans anew"
        )
    facts = (row["status"], row["reason"], row["seconds_total"], row.get("val_accuracy"))
    return Finished(job.called, row["seed"], *facts)


def lost(job: Job, reason: str, status: str = "failed") -> Finished:
    """Store a run that no worker could finish, or for which a run that it needs has no result."""
    now = datetime.now(UTC)
    row = {
        "run_id": job.spec.run_id,
        "experiment": job.experiment,
        "arm": job.spec.arm.label,
        "spec": job.spec.canonical_json,
        "seed": job.spec.seed,
        "status": status,
        "reason": reason,
        "seconds_total": 0.0,
        "started": now,
        "finished": now,
        **machine_of(job.place, job.spec),
        "data_hash": job.identity.data,
        "identity": job.identity.short,
        "identity_json": job.identity.json,
        **(host_facts() if isinstance(job.place, Place) else {"host": socket.gethostname()}),
    }
    return store(job, Rows(row, [], None))
