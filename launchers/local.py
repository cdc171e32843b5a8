"""Runs a sweep on this machine, several jobs at a time.

    python -m launchers.local --config=experiments/configs/scores_gap.py:quick --workdir=ROOT \\
      --sweep='grid:learner=cnp,maml;seed=0,1' --workers=2

Every job has a workdir in ROOT, named by what it overrides, so that the same command goes on where
it stood: what has finished is not started again. Ctrl-C and SIGTERM let running jobs save; a second
one ends them at once. Their words are in ROOT/logs.
"""

import shlex
import signal
import sys
from collections.abc import Callable, Sequence

from absl import flags

from launchers import board, commands, jobs, pool, records
from launchers.jobs import Job, Resources

WORKERS = flags.DEFINE_integer('workers', 1, 'Jobs at a time.', lower_bound=1)
RETRIES = flags.DEFINE_integer(
  'retries', 1, 'How often a job that fails is started again.', lower_bound=0
)
LINES = 5  # of the log of a job that failed


def main(overrides: Sequence[str]) -> int:
  """Runs the command; returns its exit code."""
  made = commands.made_jobs(overrides, Resources(cpus=commands.CPUS.value))
  if commands.DRY_RUN.value:
    for job in made:
      done = '  (has finished)' if records.is_finished(job) else ''
      commands.say(f'{shlex.join(["python", *jobs.words(job)])}{done}')
    return 0
  return run_all(made, command_of)


def command_of(job: Job) -> list[str]:
  """Returns the process that a job is."""
  return [sys.executable, *jobs.words(job)]


def run_all(
  made: Sequence[Job], command: Callable[[Job], list[str]], *, ends_at_once: bool = True
) -> int:
  """Runs processes as the flags say, reports those that failed, and returns the exit code."""
  found, number = pool.run(
    made,
    command,
    workers=WORKERS.value,
    retries=RETRIES.value,
    show=board.Board().show,
    ends_at_once=ends_at_once,
  )
  failed = [one for one in found if one.state == pool.FAILED]
  for one in failed:
    path = records.log_of(one.job)
    commands.say(f'\n{board.line_of(one)}; the end of {path}:')
    for line in board.last_lines(path, LINES):
      commands.say(f'  {line}')
  commands.say(f'\n{board.summary(found)}')
  if number:
    commands.say('stopped; the same command goes on where it stood')
    return 128 + signal.Signals(number)
  return 1 if failed else 0


if __name__ == '__main__':
  commands.run(main)
