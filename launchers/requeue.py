"""A job as SLURM runs it: told that its machine is taken away, it saves and is queued again."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

from launchers import jobs as of_jobs
from launchers import records
from launchers.jobs import Job

TAKEN = (-signal.SIGTERM, 128 + signal.SIGTERM)  # exit codes of a command that was asked to stop
PATIENCE = 120.0  # seconds in which the scheduler says why it asked


def _heed_sigterm_only() -> None:
  # SLURM tells every process of a job that its time is over; the command is told by `checkpoint`.
  signal.signal(signal.SIGUSR2, signal.SIG_IGN)


class Queued:
  """Runs the command of a job; `submitit` calls it in the job, and `checkpoint` before its end.

  Args:
    job: with paths that are the same on every machine.
  """

  def __init__(self, job: Job):
    self.job = job
    self._process: subprocess.Popen | None = None

  def __call__(self) -> str:
    """Returns the workdir, once the command has ended well.

    Raises:
      RuntimeError: if it has not.
    """
    if records.is_finished(self.job):
      return f'{self.job.workdir} was finished'
    records.begin([self.job])
    together = self.job.resources.nodes > 1
    command = [sys.executable, *of_jobs.words(self.job, together=together)]
    self._process = subprocess.Popen(
      command, env=os.environ | self._devices(), preexec_fn=_heed_sigterm_only
    )
    while (code := self._process.poll()) is None:
      time.sleep(0.1)
    if code in TAKEN:
      time.sleep(PATIENCE)  # in which `checkpoint` is called, and this process ends
    if code:
      raise RuntimeError(f'the command ended with {code}; its words are above')
    records.finish(self.job)
    return str(self.job.workdir)

  def _devices(self) -> dict[str, str]:
    # Under SLURM JAX gives each process one GPU, unless it is told that it has all of its machine.
    count = int(self.job.resources.accelerator or 0)
    return {'JAX_LOCAL_DEVICE_IDS': ','.join(map(str, range(count)))} if count else {}

  def checkpoint(self) -> Any:
    """Returns what is queued again, once the command has saved and ended."""
    import submitit  # pyright: ignore[reportMissingImports] of an extra

    if self._process is not None and self._process.returncode is None:
      self._process.terminate()
      # Not `Popen.wait`, whose lock the interrupted `poll` may hold.
      os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
    return submitit.helpers.DelayedSubmission(Queued(self.job))
