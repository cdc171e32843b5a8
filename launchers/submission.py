"""Jobs as an array of SLURM, through submitit."""

import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any

from launchers import records
from launchers.jobs import Job, Resources
from launchers.requeue import Queued

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
    print(f'{job.name}  ' + (f'failed: {error}' if error else 'finished'), flush=True)
  return num_failed
