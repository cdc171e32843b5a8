"""A job as data: which command runs on which config, with which overrides, and where."""

import hashlib
import importlib.util
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from launchers.sweeps import Point, Sweep

COMMANDS = 'experiments.'  # whose workdirs are held by one process at a time
# Those that several machines run together, each of which is told so.
TRAINING = ('train', 'benchmark', 'tune', 'p_dpo', 'ask')
LONGEST = 80  # readable part of a name
# What a sweep calls the learner and the seed, as commands are told them whose configs have others.
TOLD = {
  'experiments.benchmark': {'learner': 'benchmark.learners', 'seed': 'benchmark.seeds'},
  'experiments.p_dpo': {'seed': 'seeds'},
  'experiments.steer': {'seed': 'seeds'},
}
FLAG = re.compile(r'--?[A-Za-z]')  # as a command begins them; -1 is a value
FIELDS = 'config.'  # begins the flags of fields of the config
BEHIND_COLON = ('learner', 'objective', 'optimizer')  # of `--config=FILE.py:learner=cnp`


class Resources(NamedTuple):
  """What one job is given; 0 and '' leave it to the machine.

  cpus: cores. memory_gb: of main memory. accelerator: kind and number, such as 'A100:1', or the
  type of a TPU, such as 'v5litepod-8'. nodes: machines, all of which run the command. hours: that
  it may take. spot: on machines that may be taken back.
  """

  cpus: int = 0
  memory_gb: int = 0
  accelerator: str = ''
  nodes: int = 1
  hours: float = 0.0
  spot: bool = False


class Job(NamedTuple):
  """One process, or one on each of several nodes.

  module: of the command. config: its config, with what follows the colon. point: what the sweep
  overrides; overrides: flags that all jobs of the sweep share. root: folder of the sweep.
  """

  module: str
  config: str
  point: Point
  overrides: tuple[str, ...]
  root: pathlib.Path
  resources: Resources = Resources()

  @property
  def digest(self) -> str:
    """Eight hex digits of what is run, wherever it is and whatever it is given."""
    made = list(self.identity.values())
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:8]

  @property
  def identity(self) -> dict[str, Any]:
    """What is run, the same however it is written; of a field given twice the last one counts."""
    head, colon, behind = os.path.normpath(self.config).partition('.py:')
    if is_ours(self):  # whose configs read what is behind the colon in any order
      behind = ','.join(sorted(behind.split(',')))
    return {
      'module': self.module,
      'config': f'{head}{colon}{behind}',
      'point': self.point,
      'overrides': settled(self.overrides),
    }

  @property
  def name(self) -> str:
    """A name that says what the sweep overrides, and ends in the digest."""
    options = sorted(self.point.items(), key=lambda option: (option[0] != 'learner', option))
    parts = [value if name == 'learner' else f'{name}={value}' for name, value in options]
    readable = re.sub(r'[^\w.=-]+', '_', '-'.join(parts) or self.module, flags=re.ASCII)
    return f'{readable[:LONGEST].strip(".-")}-{self.digest}'

  @property
  def workdir(self) -> pathlib.Path:
    """Where it writes: the same folder whenever the same job is launched into one root."""
    return self.root / self.name


def of_sweep(sweep: Sweep, like: Job) -> list[Job]:
  """Returns the jobs of a sweep, each once.

  Args:
    sweep: what is overridden, job by job.
    like: a job with all that they share.
  """
  return list({job.name: job for job in (like._replace(point=each) for each in sweep)}.values())


def words(
  job: Job, *, workdir: str | os.PathLike | None = None, together: bool = False
) -> list[str]:
  """Returns the command of a job behind `python`.

  Args:
    job: to be run.
    workdir: where it writes, if elsewhere than here.
    together: it is started on all machines of the job, which train together; a command of one's
      own is told nothing of it.

  Raises:
    ValueError: for a command that machines cannot run together.
  """
  if together and is_ours(job) and not trains(job):
    raise ValueError(
      f'{job.module} runs on one machine; those that run on several are {", ".join(TRAINING)}'
    )
  config, fields, told = job.config, [], TOLD.get(job.module, {})
  for name, value in job.point.items():
    if name in told:
      fields.append(f'--config.{told[name]}={value}')
    elif name in BEHIND_COLON:
      config += f'{"," if ":" in config else ":"}{name}={value}'
    else:
      fields.append(f'--config.{name}={value}')
  given = [f'--config={config}', f'--workdir={workdir or job.workdir}', *job.overrides, *fields]
  waits = ['--wait'] if is_ours(job) else []
  joins = ['--distributed'] if together and is_ours(job) else []
  return ['-m', job.module, *given, *waits, *joins]


def is_ours(job: Job) -> bool:
  """Tells whether the command of a job is one of `experiments`, not one of the user's own."""
  return job.module.startswith(COMMANDS)


def trains(job: Job) -> bool:
  """Tells whether the machines of a job can run its command together."""
  return job.module.removeprefix(COMMANDS) in TRAINING


def refuse_unknown(jobs: Sequence[Job]) -> None:
  """Refuses a sweep of nothing, of a command or of a config that is not there.

  Raises:
    ValueError: saying which.
  """
  if not jobs:
    raise ValueError('the sweep has no points; give each name a value')
  module = jobs[0].module
  try:
    is_known = importlib.util.find_spec(module) is not None
  except ModuleNotFoundError:  # of a package that is not there
    is_known = False
  if not is_known:
    raise ValueError(f'there is no module {module!r} to run; --module is as in `python -m MODULE`')
  path = config_path(jobs[0].config)
  if not path.is_file():
    raise ValueError(f'there is no config {path}; give a path from {pathlib.Path.cwd()}')


def config_path(config: str) -> pathlib.Path:
  """Returns the file of a config, without what follows the colon."""
  head, separator, _ = config.partition('.py:')
  return pathlib.Path(head + '.py' if separator else config)


def joined(words: Sequence[str]) -> list[str]:
  """Returns words of a command, those with a value in the next one as `--flag=value`."""
  made = []
  for word in words:
    if made and not FLAG.match(word) and FLAG.match(made[-1]) and '=' not in made[-1]:
      made[-1] += f'={word}'
    else:
      made.append(word)
  return made


def settled(words: Sequence[str]) -> list[str]:
  """Returns words of a command by their flags, of each field of the config the last one alone.

  What flags of other names make of a second value is the command's own matter: all are kept.
  """
  fields, others = {}, []
  for word in joined(words):
    name, equals, value = word.lstrip('-').partition('=')
    if not equals:  # of a switch
      name, value = name.removeprefix('no'), str(not name.startswith('no')).lower()
    if FLAG.match(word) and name.startswith(FIELDS):
      fields[name] = value
    else:
      others.append(word)
  return sorted(
    [*(f'--{name}={value}' for name, value in fields.items()), *others],
    key=lambda word: word.partition('=')[0],
  )


def divide(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
  """Returns the launcher's own arguments, and those that it passes on to every job.

  Fields of the config are passed on, and what stands behind `--`.
  """
  own, behind = list(arguments), []
  if '--' in own:
    place = own.index('--')
    own, behind = own[:place], own[place + 1 :]
  is_field = [word.lstrip('-').removeprefix('no').startswith(FIELDS) for word in own]
  passed = [word for word, is_passed in zip(own, is_field) if is_passed]
  return [word for word, is_passed in zip(own, is_field) if not is_passed], [*passed, *behind]
