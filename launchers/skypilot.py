"""Runs a sweep on any cloud by SkyPilot's managed jobs, which follow a job to its next machine.

    python -m launchers.skypilot --config=experiments/configs/scores_gap.py --workdir=NAME \\
      --sweep='grid:learner=cnp,maml;seed=0,1' --bucket=NAME --accelerator=A100:1 --spot --dry_run

Every job is launchers/skypilot.yaml with its own command, on all of its nodes, which train together
(--distributed). Workdirs lie in --bucket, in the folder --workdir; a job that was launched before
is asked for by the same name.
"""

import pathlib
import shlex
import shutil
import subprocess
from collections.abc import Sequence

from absl import flags

from launchers import commands, remote
from launchers.jobs import Job, Resources

BUCKET = flags.DEFINE_string('bucket', 'metapers-runs', 'That holds the workdirs; made if missing.')
ACCELERATOR = flags.DEFINE_string('accelerator', '', "As SkyPilot calls it, such as 'A100:1'.")
NODES = flags.DEFINE_integer('nodes', 1, 'Machines of a job, each of which runs it.', lower_bound=1)
MEMORY = flags.DEFINE_integer('memory_gb', 0, 'Memory of a node, at least.', lower_bound=0)
SPOT = flags.DEFINE_bool('spot', False, 'On machines that may be taken back at any time.')
CLOUD = flags.DEFINE_string('cloud', '', "Where, such as 'gcp/us-central1'; '' for the cheapest.")
FOLDER = '/runs'  # where the bucket is on a machine
TEMPLATE = pathlib.PurePath('launchers/skypilot.yaml')


def words(job: Job, *, bucket: str, cloud: str) -> list[str]:
  """Returns the command that asks for one job.

  Args:
    job: with its resources.
    bucket: that holds the workdirs.
    cloud: where; '' for the cheapest.
  """
  asked = job.resources
  run = remote.command(job, f'{FOLDER}/{job.root.name}', together=asked.nodes > 1)
  options = {
    '--gpus': asked.accelerator,
    '--cpus': f'{asked.cpus}+' if asked.cpus else '',
    '--memory': f'{asked.memory_gb}+' if asked.memory_gb else '',
    '--infra': cloud,
    '--num-nodes': str(asked.nodes),
  }
  given = [word for name, value in options.items() if value for word in (name, value)]
  spot = ['--use-spot'] if asked.spot else []
  envs = ['--env', f'BUCKET={bucket}', '--env', f'COMMAND={run}']
  name = ['--name', remote.machine_name(job)]
  return [
    'sky',
    'jobs',
    'launch',
    '--yes',
    '--detach-run',
    *name,
    *given,
    *spot,
    *envs,
    str(TEMPLATE),
  ]


def main(overrides: Sequence[str]) -> int:
  """Runs the command; returns its exit code."""
  resources = Resources(
    cpus=commands.CPUS.value,
    memory_gb=MEMORY.value,
    accelerator=ACCELERATOR.value,
    nodes=NODES.value,
    spot=SPOT.value,
  )
  made = commands.made_jobs(overrides, resources)
  asked = [words(job, bucket=BUCKET.value, cloud=CLOUD.value) for job in made]
  remote.require_config_inside(made[0])
  for each in asked:
    commands.say(shlex.join(each))
  if commands.DRY_RUN.value:
    return 0
  if shutil.which('sky') is None:
    raise ValueError('SkyPilot is not installed: pip install skypilot, and sky check')
  codes = [subprocess.run(each, check=False).returncode for each in asked]
  return int(any(codes))


if __name__ == '__main__':
  commands.run(main)
