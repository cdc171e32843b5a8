"""Submits a sweep to SLURM as one array of jobs, through submitit (`pip install '.[slurm]'`).

    python -m launchers.slurm --config=experiments/configs/scores_gap.py --workdir=ROOT \\
      --sweep='grid:learner=cnp,maml;seed=0,1' --partition=NAME --hours=8 --gpus=1

A job whose time is over, or whose machine is wanted back, saves and is queued again. The workdir
and the clone lie where every machine sees them. Given again, the same command submits what has not
finished; of two jobs of one run the second waits for the first. Their words are in ROOT/slurm.
"""

import pathlib
import shlex
from collections.abc import Sequence

from absl import flags

from launchers import commands, jobs, records, submission
from launchers.jobs import Resources

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
  told = submission.options(
    resources, partition=PARTITION.value, account=ACCOUNT.value, at_once=AT_ONCE.value
  )
  for job in filter(records.is_finished, made):
    commands.say(f'{job.name}  was finished')
  left = [job for job in made if not records.is_finished(job)]
  asked_for = [jobs.words(job, together=job.resources.nodes > 1) for job in left]
  if commands.DRY_RUN.value:
    commands.say(f'submitit: {told}')
    for words in asked_for:
      commands.say(shlex.join(['python', *words]))
    return 0
  if not left:
    return 0
  executor = submission.executor_of(
    left[0].root / 'slurm', told, cluster=CLUSTER.value, requeues=REQUEUES.value
  )
  submitted = submission.submit(left, executor)
  if CLUSTER.value != 'slurm':
    return 1 if submission.wait(left, submitted) else 0
  for job, one in zip(left, submitted, strict=True):
    commands.say(f'{job.name}  submitted as {one.job_id}')
  return 0


if __name__ == '__main__':
  commands.run(main)
