"""SLURM by submitit: its debug and local executors run the jobs here; one is taken away."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from launchers import jobs, records, requeue, submission, sweeps
from launchers.jobs import Job, Resources

submitit = pytest.importorskip('submitit', reason="needs the extra 'slurm': submitit is missing")

ROOT = pathlib.Path(__file__).parents[2]
HERE = pathlib.Path(__file__).parent
# submitit leaves the processes that it started to the garbage collector.
pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')


@pytest.fixture(autouse=True)
def clone(monkeypatch):
  monkeypatch.chdir(ROOT)
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), str(HERE), *sys.path]))


def made(folder, sweep):
  config = folder / 'config.py'
  config.touch()
  like = Job('fake_job', str(config), {}, (), folder / 'root')
  return jobs.of_sweep(sweeps.parse(sweep), like)


@pytest.mark.parametrize('cluster', ['debug', 'local'])
def test_executors_of_submitit_run_every_job(tmp_path, cluster):
  both = made(tmp_path, 'grid:act=end;seed=0,1')
  told = submission.options(Resources(hours=0.1), partition='any', account='', at_once=2)
  executor = submission.executor_of(tmp_path / 'root' / 'slurm', told, cluster=cluster, requeues=1)
  submitted = submission.submit(both, executor)
  assert submission.wait(both, submitted) == 0
  assert all(map(records.is_finished, both))
  assert 'was finished' in submission.submit(both, executor)[0].result()


def test_a_job_that_fails_is_counted(tmp_path, capsys):
  both = made(tmp_path, 'grid:act=end,fail')
  executor = submitit.LocalExecutor(tmp_path / 'root' / 'slurm')
  assert submission.wait(both, submission.submit(both, executor)) == 1
  assert 'ended with 1' in capsys.readouterr().out
  assert [records.is_finished(job) for job in both] == [True, False]


def test_a_job_whose_time_is_over_saves_and_is_queued_again(tmp_path):
  (job,) = made(tmp_path, 'grid:act=wait')
  executor = submitit.LocalExecutor(tmp_path / 'root' / 'slurm', max_num_timeout=2)
  executor.update_parameters(timeout_min=0.2, signal_delay_s=6)
  (submitted,) = submission.submit([job], executor)
  assert submitted.result() == str(job.workdir)
  assert (job.workdir / 'saved').exists()
  assert len((job.workdir / 'starts').read_text().split()) == 2
  assert records.is_finished(job)


def test_every_process_of_a_job_may_be_signalled_and_the_command_saves(tmp_path):
  (job,) = made(tmp_path, 'grid:act=wait')
  code = (
    'import sys, signal\n'
    'from launchers import requeue\n'
    'from launchers.jobs import Job\n'
    'import pathlib\n'
    'made = requeue.Queued(Job(*sys.argv[1:3], {"act": "wait"}, (), pathlib.Path(sys.argv[3])))\n'
    'signal.signal(signal.SIGUSR2, lambda *_: (made.checkpoint(), sys.exit(7)))\n'
    'made()\n'
  )
  given = [sys.executable, '-c', code, 'fake_job', job.config, str(job.root)]
  program = subprocess.Popen(given, start_new_session=True)
  while not (job.workdir / 'starts').exists():
    assert program.poll() is None
    time.sleep(0.02)
  time.sleep(0.3)
  os.killpg(program.pid, signal.SIGUSR2)
  assert program.wait(timeout=60) == 7
  assert (job.workdir / 'saved').exists()


@pytest.mark.parametrize(('accelerator', 'told'), [('2', '0,1'), ('', None)])
def test_a_command_is_told_all_gpus_of_its_machine(tmp_path, monkeypatch, accelerator, told):
  """Or JAX would give each process one of them."""
  monkeypatch.delenv('JAX_LOCAL_DEVICE_IDS', raising=False)
  (job,) = made(tmp_path, 'grid:act=end')
  given = []

  class Ended:
    def __init__(self, command, env, **options):
      given.append(env)

    def poll(self):
      return 0

  monkeypatch.setattr(requeue.subprocess, 'Popen', Ended)
  requeue.Queued(job._replace(resources=Resources(accelerator=accelerator)))()
  assert [env.get('JAX_LOCAL_DEVICE_IDS') for env in given] == [told]
  assert given[0]['PATH'] == os.environ['PATH']


def test_what_is_asked_of_slurm():
  asked = Resources(cpus=4, memory_gb=16, accelerator='2', nodes=1, hours=1.5)
  assert submission.options(asked, partition='gpu', account='me', at_once=8) == {
    'name': 'metapers',
    'nodes': 1,
    'tasks_per_node': 1,
    'timeout_min': 90,
    'slurm_array_parallelism': 8,
    'slurm_signal_delay_s': 120,
    'cpus_per_task': 4,
    'gpus_per_node': 2,
    'mem_gb': 16,
    'slurm_partition': 'gpu',
    'slurm_account': 'me',
  }


def test_an_array_is_one_submission_of_all_jobs(tmp_path, monkeypatch):
  tools = tmp_path / 'tools'
  tools.mkdir()
  for name, says in (('srun', ''), ('sbatch', 'echo Submitted batch job 77; cp "$1" "$0.given"')):
    (tools / name).write_text(f'#!/bin/sh\n{says}\n')
    (tools / name).chmod(0o755)
  monkeypatch.setenv('PATH', f'{tools}{os.pathsep}{os.environ["PATH"]}')
  both = made(tmp_path, 'seeds:2')
  told = submission.options(Resources(cpus=3), partition='gpu', account='', at_once=1)
  executor = submission.executor_of(tmp_path / 'root' / 'slurm', told, cluster='slurm', requeues=5)
  assert [one.job_id for one in submission.submit(both, executor)] == ['77_0', '77_1']
  script = (tools / 'sbatch.given').read_text()
  for line in ('--array=0-1%1', '--partition=gpu', '--cpus-per-task=3', '--signal=USR2@120'):
    assert f'#SBATCH {line}' in script
