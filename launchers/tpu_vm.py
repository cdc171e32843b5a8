"""Runs a sweep on TPU VMs, one for each job, by gcloud.

    python -m launchers.tpu_vm --config=experiments/configs/maml.py --module=experiments.train \\
      --sweep='grid:learner=cnp,maml;seed=0,1' --workdir=ROOT --accelerator=v5litepod-8 \\
      --zone=us-west4-a --project=NAME --nfs=HOST:/SHARE --dry_run

Each VM is made, given the clone, runs the command on all of its workers, which train together
(--distributed), or on the first one, where they cannot, and is deleted, whatever becomes of the
command: a second Ctrl-C does not hurry it. With --nfs workdirs lie on a share
that every worker mounts (--workdir is its mount here), and outlive a VM that is taken back:
--retries makes another one, which goes on where they stand. Without it the workdir, of a VM with a
single worker, is sent to the VM first and copied back at the end.
"""

import shlex
import sys
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags

from launchers import commands, jobs, local, records, remote, steps
from launchers.jobs import Job, Resources
from launchers.steps import Step

ZONE = flags.DEFINE_string('zone', None, 'Of Google Cloud, such as us-west4-a.')
PROJECT = flags.DEFINE_string('project', None, 'Of Google Cloud.')
ACCELERATOR = flags.DEFINE_string('accelerator', 'v5litepod-8', 'Type of the TPU.')
VERSION = flags.DEFINE_string('runtime', 'v2-alpha-tpuv5-lite', "The VM's software version.")
SPOT = flags.DEFINE_bool('spot', False, 'On VMs that may be taken back at any time.')
NFS = flags.DEFINE_string('nfs', '', 'HOST:/SHARE in which the workdirs are.')
FOLDER = '/mnt/runs'  # of workdirs, on a VM


class Place(NamedTuple):
  """Where VMs are made. runtime: their software version. nfs: HOST:/SHARE, '' for none."""

  project: str
  zone: str
  runtime: str
  nfs: str


def gcloud(place: Place, *words: str) -> list[str]:
  """Returns a command about TPU VMs."""
  where = [f'--project={place.project}', f'--zone={place.zone}']
  return ['gcloud', 'compute', 'tpus', 'tpu-vm', *words, *where]


def steps_of(job: Job, place: Place) -> list[Step]:
  """Returns the commands that run one job, in their order; the last one deletes its VM.

  Args:
    job: whose resources name the type of the TPU.
    place: where.
  """
  vm, everywhere = remote.machine_name(job), '--worker=all'

  def on_vm(lines: Sequence[str], workers: str = everywhere) -> list[str]:
    return gcloud(place, 'ssh', vm, workers, f'--command={" && ".join(lines)}')

  kind = [f'--accelerator-type={job.resources.accelerator}', f'--version={place.runtime}']
  spot = ['--spot'] if job.resources.spot else []
  archive = f'/tmp/{vm}.tar.gz'
  unpack = [f'mkdir -p {remote.CLONE}', f'tar -xzf {archive} -C {remote.CLONE}']
  clone = f'cd {remote.CLONE}'
  up, down = copies(job, place)
  together = jobs.trains(job)
  runs_on = everywhere if together or not jobs.is_ours(job) else '--worker=0'
  return [
    Step(['tar', '-czf', archive, '--exclude=__pycache__', *remote.SENT]),
    Step(gcloud(place, 'create', vm, *kind, *spot), begins=True),
    Step(gcloud(place, 'scp', archive, f'{vm}:{archive}', everywhere)),
    Step(on_vm([*unpack, clone, *remote.install('tpu')])),
    Step(on_vm(remote.mount(place.nfs, FOLDER))),
    *up,
    Step(on_vm([clone, remote.command(job, FOLDER, together=together)], runs_on)),
    *down,
    Step(gcloud(place, 'delete', vm, '--quiet'), always=True),
  ]


def copies(job: Job, place: Place) -> tuple[list[Step], list[Step]]:
  """Returns what sends a workdir to its VM and back; nothing where both see the same share.

  What arrives has the name of the workdir once it is whole: half of one is never copied over it.
  """
  if place.nfs:
    return [], []
  vm, copy = remote.machine_name(job), ['scp', '--recurse', '--worker=0']
  part, whole = f'{FOLDER}/{job.name}.part', f'{FOLDER}/{job.name}'
  up = [
    Step(gcloud(place, *copy, str(job.workdir), f'{vm}:{part}')),
    Step(gcloud(place, 'ssh', vm, '--worker=0', f'--command=mv {part} {whole}')),
  ]
  paths = (job.root / f'{job.name}{end}' for end in ('', '.part', '.old'))
  workdir, own_part, old = (shlex.quote(str(path)) for path in paths)
  fetch = shlex.join(gcloud(place, *copy, f'{vm}:{whole}', f'{job.workdir}.part'))
  replace = f'rm -rf {own_part} {old} && {fetch} && {{ [ ! -e {workdir} ] || mv {workdir} {old}; }}'
  down = Step(['sh', '-c', f'{replace} && mv {own_part} {workdir} && rm -rf {old}'], always=True)
  return up if job.workdir.is_dir() else [], [down]


def command_of(job: Job, place: Place) -> list[str]:
  """Returns the process that runs the steps of a job, one after the other."""
  return [sys.executable, '-m', 'launchers.steps', steps.as_text(steps_of(job, place))]


def main(overrides: Sequence[str]) -> int:
  """Runs the command; returns its exit code."""
  if not ZONE.value or not PROJECT.value:
    raise ValueError('--zone and --project are needed; see --help')
  if commands.CPUS.value:
    raise ValueError('--cpus is not for TPU VMs, whose type says what they have')
  place = Place(PROJECT.value, ZONE.value, VERSION.value, NFS.value)
  resources = Resources(accelerator=ACCELERATOR.value, spot=SPOT.value)
  made = commands.made_jobs(overrides, resources)
  for job in made:
    remote.require_config_inside(job)
  if commands.DRY_RUN.value:
    for job in made:
      commands.say(f'# {job.name}' + (' has finished' if records.is_finished(job) else ''))
      for step in steps_of(job, place):
        commands.say(shlex.join(step.words))
    return 0
  return local.run_all(made, lambda job: command_of(job, place), ends_at_once=False)


if __name__ == '__main__':
  commands.run(main)
