"""Jobs of SLURM; imports submitit."""

from __future__ import annotations

from typing import Any

from submitit import SlurmJob
from submitit.slurm.slurm import SlurmInfoWatcher

_ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "REVOKED", "SPECIAL_EXIT", "TIMEOUT",
}  # fmt: skip
"""States of a job that runs no longer, unless it is put into the queue again."""


class _Watcher(SlurmInfoWatcher):
    """submitit's takes a suspended job for ended, and one that was preempted for good for running."""

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Whether a job runs no longer.

        Args:
            job_id: Number of the job.
            mode: When SLURM is asked, as submitit names it.
        """
        # As in `CANCELLED by 1000`.
        return self.get_state(job_id, mode).split()[0].rstrip("+") in _ENDED


class PatientJob(SlurmJob[Any]):
    """A job whose state is read as `sacct` means it."""

    watcher = _Watcher(delay_s=600)
    _results_timeout_s = 0  # whoever asks for results has waited for them
