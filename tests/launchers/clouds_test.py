"""Clouds: the commands that would be given; nothing is submitted."""

import fnmatch
import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml

from launchers import steps, tpu_vm
from launchers.jobs import Job
from launchers.steps import Step

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = pathlib.Path(__file__).parent / 'golden'
SHARED = (
  '--config=experiments/configs/maml.py:quick',
  '--module=experiments.train',
  '--sweep=grid:learner=cnp;seed=0,1',
  '--config.training.num_steps=4',
  '--workdir=runs/sweep',
  '--dry_run',
)
SHOWN = {
  'tpu_vm_share': ('tpu_vm', '--zone=us-west4-a', '--project=me', '--nfs=10.0.0.2:/runs', '--spot'),
  'tpu_vm_copies': ('tpu_vm', '--zone=us-west4-a', '--project=me', '--accelerator=v6e-1'),
  'skypilot': (
    'skypilot', '--bucket=mine', '--accelerator=A100:1', '--nodes=2', '--cpus=8', '--spot',
    '--cloud=gcp',
  ),
}  # fmt: skip


def launch(launcher, *arguments):
  command = [sys.executable, '-m', f'launchers.{launcher}', *arguments]
  environment = {**os.environ, 'PATH': '/usr/bin:/bin'}  # no gcloud, no sky
  return subprocess.run(
    command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
  )


@pytest.mark.parametrize('name', SHOWN)
def test_a_dry_run_prints_the_commands_of_every_job(name):
  launcher, *arguments = SHOWN[name]
  done = launch(launcher, *SHARED, *arguments)
  assert done.returncode == 0, done.stderr
  assert done.stdout == (GOLDEN / f'{name}.txt').read_text()


def test_a_command_of_one_machine_runs_on_one_worker():
  alone = ('tpu_vm', *SHARED, '--module=experiments.evaluate', '--zone=a', '--project=b')
  ran = [line for line in launch(*alone).stdout.splitlines() if 'experiments.evaluate' in line]
  assert len(ran) == 2 and all('--worker=0' in line for line in ran)


def test_the_yaml_is_one_job_with_a_bucket():
  task = yaml.safe_load((ROOT / 'launchers' / 'skypilot.yaml').read_text())
  assert set(task) == {'name', 'workdir', 'envs', 'file_mounts', 'setup', 'run'}
  assert task['envs'] == {'BUCKET': 'metapers-runs', 'COMMAND': None}
  assert task['file_mounts'] == {'/runs': {'name': '${BUCKET}', 'mode': 'MOUNT_CACHED'}}
  for script in (task['setup'], task['run']):
    subprocess.run(['bash', '-n'], input=script, text=True, check=True)


@pytest.mark.parametrize(
  ('command', 'told'),
  [
    ('echo --seed=1', '--seed=1'),
    (
      'echo --seed=1 --distributed',
      '--seed=1 --distributed --coordinator=10.0.0.1:8476 --num_processes=2 --process_id=1',
    ),
  ],
)
def test_a_node_is_told_which_of_them_it_is(command, told):
  task = yaml.safe_load((ROOT / 'launchers' / 'skypilot.yaml').read_text())
  nodes = {
    'SKYPILOT_NODE_IPS': '10.0.0.1\n10.0.0.2',
    'SKYPILOT_NUM_NODES': '2',
    'SKYPILOT_NODE_RANK': '1',
  }
  done = subprocess.run(
    ['bash', '-c', task['run']],
    env=os.environ | nodes | {'COMMAND': command},
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.strip() == told


def test_the_dockerfile_copies_what_is_sent_and_nothing_that_is_not_there():
  lines = (ROOT / 'launchers' / 'Dockerfile').read_text().splitlines()
  copied = {name for line in lines if line.startswith('COPY') for name in line.split()[1:-1]}
  sent = (ROOT / 'launchers' / 'Dockerfile.dockerignore').read_text()
  patterns = [line[1:] for line in sent.splitlines() if line.startswith('!')]
  for name in copied:
    assert (ROOT / name).exists()
    assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), name
  assert {'metapers', 'experiments', 'launchers', 'setup.py', 'Makefile'} <= copied


@pytest.mark.parametrize(
  ('launcher', 'arguments', 'message'),
  [
    ('tpu_vm', (), '--zone and --project are needed'),
    ('tpu_vm', ('--zone=a', '--project=b', '--config=/etc/hosts'), 'is not sent to the machine'),
    ('skypilot', ('--config=/etc/hosts',), 'is not sent to the machine'),
    ('skypilot', ('--nodry_run',), 'SkyPilot is not installed'),
    ('tpu_vm', ('--zone=a', '--project=b', '--cpus=2'), '--cpus is not for TPU VMs'),
    ('tpu_vm', ('--zone=a', '--project=b', '--module=experiments.trian'), 'there is no module'),
    ('local', ('--module=nowhere.train',), 'there is no module'),
    ('slurm', ('--module=experiments.evaluate', '--nodes=2', '--nodry_run'), 'on one machine'),
  ],
)
def test_what_cannot_be_launched_is_one_line(launcher, arguments, message):
  done = launch(launcher, *SHARED, *arguments)
  assert done.returncode == 2
  assert message in done.stderr and done.stderr.count('\n') == 1


GCLOUD = f"""#!{sys.executable}
import os, pathlib, shutil, subprocess, sys
vm, action = os.environ['VM'], sys.argv[4]
words = [word for word in sys.argv[5:] if not word.startswith('--')]
if action == 'ssh':
  command, = [word.partition('=')[2] for word in sys.argv if word.startswith('--command=')]
  sys.exit(subprocess.run(command.replace('/mnt/runs', vm), shell=True).returncode)
local = [word.partition(':')[2].replace('/mnt/runs', vm) or word for word in words]
source, target = map(pathlib.Path, local)
shutil.copytree(source, target / source.name if target.exists() else target)
if os.environ['CUT'] in str(target):
  os.truncate(target / 'checkpoint', 3)
  sys.exit('the connection was lost')
"""


@pytest.mark.parametrize(
  ('cut', 'after'), [('nothing', 'trained'), ('there', 'as it was'), ('is here', 'as it was')]
)
def test_half_of_a_workdir_is_never_copied_over_it(tmp_path, monkeypatch, cut, after):
  vm, root = tmp_path / 'there', tmp_path / 'it is here'
  (tmp_path / 'gcloud').write_text(GCLOUD)
  (tmp_path / 'gcloud').chmod(0o755)
  monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
  monkeypatch.setenv('VM', str(vm))
  monkeypatch.setenv('CUT', cut)
  job = Job('experiments.train', 'x.py', {'seed': '1'}, (), root)
  vm.mkdir()
  job.workdir.mkdir(parents=True)
  (job.workdir / 'checkpoint').write_text('as it was')
  up, down = tpu_vm.copies(job, tpu_vm.Place('me', 'a', 'v2', ''))
  train = f'echo -n trained > {vm}/{job.name}/checkpoint'
  assert bool(steps.run([*up, Step(['sh', '-c', train]), *down])) == (cut != 'nothing')
  assert (job.workdir / 'checkpoint').read_text() == after


def touch(path):
  return ['touch', str(path)]


def test_steps_stop_at_a_failure_and_clean_up_what_was_made(tmp_path):
  made = [
    Step(touch(tmp_path / 'created'), begins=True),
    Step(['false']),
    Step(touch(tmp_path / 'ran')),
    Step(touch(tmp_path / 'deleted'), always=True),
  ]
  assert steps.run(made) == 1
  assert {path.name for path in tmp_path.iterdir()} == {'created', 'deleted'}


def test_steps_delete_nothing_that_they_did_not_make(tmp_path):
  made = [Step(['false'], begins=True), Step(touch(tmp_path / 'deleted'), always=True)]
  assert steps.run(made) == 1
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('is_made', [True, False])
def test_steps_that_are_stopped_clean_up(tmp_path, is_made):
  made = [
    *([Step(['true'], begins=True)] if is_made else []),
    Step(['sleep', '100'], begins=not is_made),  # a machine is being made meanwhile
    Step(touch(tmp_path / 'deleted'), always=True),
  ]
  command = [sys.executable, '-m', 'launchers.steps', steps.as_text(made)]
  with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
    assert program.stdout is not None
    while 'sleep' not in program.stdout.readline():
      assert program.poll() is None
    program.terminate()
    assert program.wait(timeout=60) == 143
  assert (tmp_path / 'deleted').exists()
  assert json.loads(steps.as_text(made))[-1][0][0] == 'touch'
