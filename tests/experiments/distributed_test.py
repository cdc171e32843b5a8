"""Two processes of one command, as two machines would run it: one is killed, and both go on."""

import csv
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

from metapers.io import workdirs

ROOT = pathlib.Path(__file__).parents[2]
SECONDS = 400
GIVEN = (
  '--config=experiments/configs/maml.py:quick,learner=pooled,population=two_types',
  '--config.training.num_steps=40',
  '--config.training.steps_per_call=5',
  '--config.training.evaluate_every=10',
  '--config.training.batch_size=8',
  '--config.evaluation.num_users=6',
  '--config.evaluation.num_validation_users=4',
  '--config.evaluation.num_particles=20',
  '--config.evaluation.num_resamples=20',
)


def free_port():
  with socket.socket() as server:
    server.bind(('localhost', 0))
    return server.getsockname()[1]


def start(folder, *arguments, num_devices=1):
  flags = f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={num_devices}'
  cache = {
    'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  return subprocess.Popen(
    [sys.executable, '-m', 'experiments.train', *GIVEN, *arguments],
    cwd=ROOT, env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags} | cache, text=True,
    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
  )  # fmt: skip


def start_both(folder):
  """Starts two processes of two devices each, in one workdir."""
  told = ['--distributed', f'--coordinator=localhost:{free_port()}', '--num_processes=2']
  told.append(f'--workdir={folder / "run"}')
  return [start(folder, *told, f'--process_id={number}', num_devices=2) for number in range(2)]


def ended(process):
  out, err = process.communicate(timeout=SECONDS)
  return process.returncode, out, err


@pytest.fixture(scope='module')
def jobs(tmp_path_factory):
  """Kills one of two processes after a checkpoint, starts both again, and one elsewhere."""
  folder, running = tmp_path_factory.mktemp('distributed'), []
  try:
    running += start_both(folder)
    first, second = running
    while not list((folder / 'run').glob('checkpoints/[0-9]*')):
      assert first.poll() is second.poll() is None, first.communicate()[1]
      time.sleep(0.01)
    second.kill()
    since = time.monotonic()
    code, out, err = ended(first)
    taken = time.monotonic() - since
    held = (folder / 'run' / workdirs.LOCK).exists()
    running += start_both(folder)
    again = [ended(process) for process in running[2:]]
    running.append(start(folder, f'--workdir={folder / "alone"}'))
    alone = ended(running[-1])
    return {'left': (code, out, err, taken), 'held': held, 'again': again, 'alone': alone, 'in': folder}
  finally:
    for process in running:
      process.kill()


def test_a_killed_process_brings_the_other_down_within_a_minute_and_it_says_why(jobs):
  code, _, err, seconds = jobs['left']
  assert code not in (0, 2) and seconds < 60
  assert 'another process of this job has ended' in err


def test_the_same_command_goes_on_where_both_stood(jobs):
  (code, out, err), (other_code, other_out, other_err) = jobs['again']
  assert (code, other_code) == (0, 0), err + other_err
  assert 'goes on from step' in err
  assert 'results.csv' in out


def test_only_the_first_process_says_and_writes_anything(jobs):
  _, (_, out, _) = jobs['again']
  assert not out
  workdir = jobs['in'] / 'run'
  assert {path.name for path in workdir.iterdir()} == {
    path.name for path in (jobs['in'] / 'alone').iterdir()
  }


def test_what_four_devices_of_two_machines_learned_one_learns_up_to_rounding(jobs):
  assert jobs['alone'][0] == 0, jobs['alone'][2]
  tables = []
  for name in ('run', 'alone'):
    with (jobs['in'] / name / 'results.csv').open(encoding='utf-8') as file:
      rows = [row for row in csv.DictReader(file) if row['metric'] == 'nll']
    tables.append({(row['learner'], row['shots']): float(row['value']) for row in rows})
  assert any(learner == 'pooled' for learner, _ in tables[0])
  assert tables[0] == pytest.approx(tables[1], abs=1e-4)
