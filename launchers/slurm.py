"""Submits a sweep to SLURM as one array of jobs, through submitit (`pip install '.[slurm]'`).

    python -m launchers.slurm --config=experiments/configs/scores_gap.py --workdir=ROOT \\
      --sweep='grid:learner=cnp,maml;seed=0,1' --partition=NAME --hours=8 --gpus=1

A job whose time is over, or whose machine is wanted back, saves and is queued again. The workdir
and the clone lie where every machine sees them. Given again, the same command submits what has not
finished; of two jobs of one run the second waits for the first. Their words are in ROOT/slurm.
"""

import importlib.util
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from absl import flags

from launchers import commands, jobs, records
from launchers.jobs import Job, Resources
from launchers.requeue import Queued

CLUSTER = flags.DEFINE_enum(
  'cluster', 'slurm', ['slurm', 'local', 'debug'], 'local and debug run jobs here, to try it.'
)
PARTITION = flags.DEFINE_string('partition', '', 'Of the cluster.')
ACCOUNT = flags.DEFINE_string('account', '', 'Whom the time is charged to.')
GPUS = flags.DEFINE_integer('gpus', 0, 'GPUs of a node.', lower_bound=0)
NODES = flags.DEFINE_integer('nodes', 1, 'Machines of a job, each of which runs it.', lower_bound=1)
HOURS = flags.DEFINE_float('hours', 4.0, 'Time of a job before it is queued again.', lower_bound=0)
MEMORY = flags.DEFINE_integer('memory_gb', 0, 'Memory of a node.', lower_bound=0)
AT_ONCE = flags.DEFINE_integer('at_once', 100, 'Jobs that run at a time.', lower_bound=1)
REQUEUES = flags.DEFINE_integer(
  'requeues', 20, 'How often a job whose time is over is queued again.', lower_bound=0
)
SECONDS_TO_SAVE = 120  # before the end of a job's time


def options(resources: Resources, *, partition: str, account: str, at_once: int) -> dict[str, Any]:
  """Returns what submitit is told of every job.

  Args:
    resources: of each; `accelerator` is the number of GPUs.
    partition: of the cluster; '' for its own.
    account: whom the time is charged to; '' for its own.
    at_once: jobs that run at a time.
  """
  asked = {
    'cpus_per_task': resources.cpus,
    'gpus_per_node': int(resources.accelerator or 0),
    'mem_gb': resources.memory_gb,
    'slurm_partition': partition,
    'slurm_account': account,
  }
  return {
    'name': 'metapers',
    'nodes': resources.nodes,
    'tasks_per_node': 1,
    'timeout_min': max(round(60 * resources.hours), 1),
    'slurm_array_parallelism': at_once,
    'slurm_signal_delay_s': SECONDS_TO_SAVE,
    **{name: value for name, value in asked.items() if value},
  }


def executor_of(folder: pathlib.Path, told: dict[str, Any], *, cluster: str, requeues: int) -> Any:
  """Returns submitit's executor.

  Args:
    folder: of its files, which every machine sees.
    told: see `options`.
    cluster: 'slurm', or 'local' or 'debug', which run jobs here.
    requeues: how often a job whose time is over is queued again.

  Raises:
    ValueError: where submitit or SLURM is not installed.
  """
  if importlib.util.find_spec('submitit') is None:
    raise ValueError("submitit is not installed: pip install '.[slurm]'")
  import submitit  # pyright: ignore[reportMissingImports] of an extra

  own = {} if cluster == 'debug' else {f'{cluster}_max_num_timeout': requeues}
  try:
    executor = submitit.AutoExecutor(folder, cluster=cluster, **own)
  except RuntimeError as error:
    raise ValueError(f'no SLURM here: {error}; --cluster=local runs jobs without it') from error
  executor.update_parameters(**told)
  return executor


def submit(made: Sequence[Job], executor: Any) -> list[Any]:
  """Submits jobs as one array, and returns them as submitit does.

  Args:
    made: with a root that every machine sees.
    executor: of submitit.
  """
  records.begin(made)
  with executor.batch(allow_implicit_submissions=True):
    return [executor.submit(Queued(job)) for job in made]


def wait(made: Sequence[Job], submitted: Sequence[Any]) -> int:
  """Waits for jobs that run here, says how each ended, and returns how many failed."""
  num_failed = 0
  for job, one in zip(made, submitted, strict=True):
    error = one.exception()
    num_failed += error is not None
    commands.say(f'{job.name}  ' + (f'failed: {error}' if error else 'finished'))
  return num_failed


def main(overrides: Sequence[str]) -> int:
  """Runs the command; returns its exit code."""
  resources = Resources(
    cpus=commands.CPUS.value,
    memory_gb=MEMORY.value,
    accelerator=str(GPUS.value or ''),
    nodes=NODES.value,
    hours=HOURS.value,
  )
  asked = commands.made_jobs(overrides, resources)
  made = [job._replace(root=pathlib.Path(job.root).resolve()) for job in asked]
  told = options(resources, partition=PARTITION.value, account=ACCOUNT.value, at_once=AT_ONCE.value)
  for job in filter(records.is_finished, made):
    commands.say(f'{job.name}  was finished')
  left = [job for job in made if not records.is_finished(job)]
  if commands.DRY_RUN.value:
    commands.say(f'submitit: {told}')
    for job in left:
      commands.say(shlex.join(['python', *jobs.words(job)]))
    return 0
  if not left:
    return 0
  executor = executor_of(
    left[0].root / 'slurm', told, cluster=CLUSTER.value, requeues=REQUEUES.value
  )
  submitted = submit(left, executor)
  if CLUSTER.value != 'slurm':
    return 1 if wait(left, submitted) else 0
  for job, one in zip(left, submitted, strict=True):
    commands.say(f'{job.name}  submitted as {one.job_id}')
  return 0


if __name__ == '__main__':
  commands.run(main)
