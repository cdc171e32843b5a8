"""What the launchers share: their flags, and mistakes in the input are one line."""

import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from launchers import jobs, sweeps
from launchers.jobs import Job, Resources

MODULE = flags.DEFINE_string('module', 'experiments.benchmark', 'The command that each job runs.')
CONFIG = flags.DEFINE_string('config', None, 'Its config; --config.FIELD=VALUE is for all jobs.')
SWEEP = flags.DEFINE_multi_string(
  'sweep', [], f'{sweeps.FORMS}. Given several times, every combination of them.'
)
WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the sweep: one workdir for each job.')
DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Print what would be started, and start nothing.')
CPUS = flags.DEFINE_integer('cpus', 0, 'Cores of a job.', lower_bound=0)
FLAG_MISTAKES = (flags.Error, ValueError, OSError)


def say(text: str) -> None:
  """Prints a line."""
  print(text, flush=True)


def fail(error: Exception) -> None:
  """Reports a mistake in one line on stderr and exits with 2."""
  sys.stderr.write(f'error: {" ".join(str(error).split())}\n')
  sys.exit(2)


def made_jobs(overrides: Sequence[str], resources: Resources) -> list[Job]:
  """Returns the jobs that the flags ask for.

  Args:
    overrides: passed on to every job.
    resources: of each.

  Raises:
    ValueError: for flags that are missing, or a sweep or config that there is not.
  """
  for flag in (CONFIG, WORKDIR):
    if flag.value is None:
      raise ValueError(f'--{flag.name} is needed; see --help')
  root = pathlib.Path(WORKDIR.value or '')
  like = Job(MODULE.value, CONFIG.value or '', {}, tuple(overrides), root, resources)
  made = jobs.of_sweep(sweeps.cross(*map(sweeps.parse, SWEEP.value)), like)
  jobs.refuse_unknown(made)
  return made


def run(main: Callable[[Sequence[str]], int]) -> None:
  """Runs a launcher and exits with what it returns; a mistake is one line and exit code 2.

  Args:
    main: takes the flags that are passed on to every job.
  """
  own, passed = jobs.divide(sys.argv[1:])

  def parse(argv: list[str]) -> list[str]:
    try:
      left = flags.FLAGS(argv)
      if len(left) > 1:
        raise ValueError(f'unknown arguments {" ".join(left[1:])}; options are --name=value')
    except FLAG_MISTAKES as error:
      fail(error)
    return argv

  def guarded(argv: list[str]) -> None:
    del argv
    try:
      sys.exit(main(passed))
    except (ValueError, OSError) as error:
      fail(error)

  app.run(guarded, argv=[sys.argv[0], *own], flags_parser=parse)
