"""Runs jobs on this machine, several at a time; stopped, it leaves every run resumable."""

import dataclasses
import os
import pathlib
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from types import FrameType

from launchers import records
from launchers.jobs import Job

WAITING, RUNNING, FINISHED, FAILED, STOPPED, SKIPPED = (
  'waiting', 'running', 'finished', 'failed', 'stopped', 'was finished',
)  # fmt: skip
MISTAKE = 2  # exit code of a command for what it refuses: the same again would be refused again
POLL = 0.1  # seconds
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclasses.dataclass
class Progress:
  """How far a job is.

  attempt: the number of the last one. code: its exit code. began, seconds: when it was started, and
  how long ago. slot: of the worker that runs it. is_asked: to save and end.
  """

  job: Job
  state: str = WAITING
  attempt: int = 0
  code: int = 0
  began: float = 0.0
  seconds: float = 0.0
  slot: int = 0
  is_asked: bool = False
  process: subprocess.Popen | None = None


class Stop:
  """A context in which SIGNALS are counted in place of ending the process.

  One that the process ignores, as SIGHUP is under nohup, stays ignored.
  """

  def __init__(self):
    self.number, self.times = 0, 0
    self._previous = {}

  def __enter__(self) -> 'Stop':
    for number in SIGNALS:
      if signal.getsignal(number) is not signal.SIG_IGN:
        self._previous[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *error: object) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _note(self, number: int, frame: FrameType | None) -> None:
    del frame
    self.number, self.times = number, self.times + 1


def run(
  jobs: Sequence[Job],
  command: Callable[[Job], list[str]],
  *,
  workers: int,
  retries: int,
  show: Callable[[Sequence[Progress]], None],
  ends_at_once: bool = True,
) -> tuple[list[Progress], int]:
  """Runs jobs that have not finished yet; asked to stop, it asks them to save and waits for them.

  Args:
    jobs: each with a workdir of its own.
    command: the process that a job is.
    workers: jobs at a time.
    retries: how often a job that fails is started again; not after a mistake in its input.
    show: is given all jobs whenever there may be news.
    ends_at_once: whether a second signal kills what runs; not, where it must clean up.

  Returns:
    How far each job is at the end, and the number of the signal that stopped them, 0 for none.
  """
  made = [Progress(job, SKIPPED if records.is_finished(job) else WAITING) for job in jobs]
  records.begin(jobs)
  with Stop() as stop:
    try:
      while _go_on(made, command, stop, workers=workers, retries=retries):
        _pass_on([one for one in made if one.state == RUNNING], stop, ends_at_once=ends_at_once)
        show(made)
        time.sleep(POLL)
    except BaseException:  # a full disk: nobody would look after what runs
      running = [one.process for one in made if one.process is not None]
      for process in running:
        process.terminate()
      for process in running:
        process.wait()
      raise
    show(made)
    return made, stop.number


def _go_on(
  made: Sequence[Progress],
  command: Callable[[Job], list[str]],
  stop: Stop,
  *,
  workers: int,
  retries: int,
) -> bool:
  """Looks after jobs and starts those there is a worker for; tells whether there is more to do."""
  for one in made:
    _look_after(one, retries, is_stopped=stop.times > 0)
  if not stop.times:
    _start_waiting(made, command, workers)
  return any(one.state == RUNNING for one in made)


def _start_waiting(
  made: Sequence[Progress], command: Callable[[Job], list[str]], workers: int
) -> None:
  taken = {one.slot for one in made if one.state == RUNNING}
  free = [slot for slot in range(workers) if slot not in taken]
  waiting = [one for one in made if one.state == WAITING]
  for slot, one in zip(free, waiting, strict=False):
    one.slot, one.state, one.attempt = slot, RUNNING, one.attempt + 1
    one.began, one.seconds = time.monotonic(), 0.0
    records.begin([one.job])  # anew: its config may have been edited while it waited
    one.process = start(command(one.job), records.log_of(one.job))
    keep_to(one.process.pid, cores_of(slot, workers, one.job.resources.cpus))


def start(command: Sequence[str], path: pathlib.Path) -> subprocess.Popen:
  """Starts a process in a session of its own, so that Ctrl-C reaches it through `run` only.

  Args:
    command: to be run.
    path: of the log that its words are added to.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('ab') as log:
    log.write(f'$ {shlex.join(command)}\n'.encode())
    log.flush()
    return subprocess.Popen(
      command,
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )


def cores_of(slot: int, workers: int, cpus: int) -> set[int]:
  """Returns the cores of one worker; an equal share of the machine's, or as many as are asked for.

  Threads of several programs of XLA on the same cores wait for each other in turns.
  """
  if not hasattr(os, 'sched_getaffinity'):  # macOS
    return set()
  cores = sorted(os.sched_getaffinity(0))
  size = min(cpus or max(len(cores) // workers, 1), len(cores))
  return {cores[(slot * size + number) % len(cores)] for number in range(size)}


def keep_to(process: int, cores: set[int]) -> None:
  """Keeps a process to some cores, where the system can."""
  if cores:
    try:
      os.sched_setaffinity(process, cores)
    except ProcessLookupError:  # it has ended already
      return


def _look_after(one: Progress, retries: int, *, is_stopped: bool) -> None:
  if one.process is None or one.state != RUNNING:
    return
  one.seconds = time.monotonic() - one.began
  code = one.process.poll()
  if code is None:
    return
  one.process, one.code = None, code
  if code == 0:
    records.finish(one.job)
    one.state = FINISHED
  elif is_stopped:
    one.state = STOPPED
  elif code != MISTAKE and one.attempt <= retries:
    one.state = WAITING
  else:
    one.state = FAILED


def _pass_on(running: Sequence[Progress], stop: Stop, *, ends_at_once: bool) -> None:
  """Asks every job to save and end, once; asked to stop a second time, may end them at once."""
  for one in running:
    if one.process is None or not stop.times:
      continue
    if stop.times > 1 and ends_at_once:
      os.killpg(one.process.pid, signal.SIGKILL)
    elif not one.is_asked:
      one.process.terminate()
      one.is_asked = True
