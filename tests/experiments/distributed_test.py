"""Two processes of one command, as two machines would run it: one is killed, and both go on."""

import csv
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

from metapers.io import checkpoints

ROOT = pathlib.Path(__file__).parents[2]
SECONDS = 400
GIVEN = (
  '--config=experiments/configs/maml.py:quick,learner=pooled,population=two_types',
  '--config.training.num_steps=120',
  '--config.training.steps_per_call=20',
  '--config.training.evaluate_every=40',
  '--config.training.batch_size=8',
  '--config.evaluation.shots=0,4',
  '--config.evaluation.num_users=6',
  '--config.evaluation.num_validation_users=4',
  '--config.evaluation.num_particles=20',
  '--config.evaluation.num_resamples=20',
)


def free_port():
  with socket.socket() as server:
    server.bind(('localhost', 0))
    return server.getsockname()[1]


def start(folder, name, *arguments, num_devices=1):
  flags = f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={num_devices}'
  cache = {
    'JAX_COMPILATION_CACHE_DIR': str(folder / 'compiled'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  with (folder / f'{name}.out').open('w') as out, (folder / f'{name}.err').open('w') as err:
    return subprocess.Popen(
      [sys.executable, '-m', 'experiments.train', *GIVEN, *arguments], cwd=ROOT,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': flags} | cache, stdout=out, stderr=err
    )  # fmt: skip


def start_both(folder, name):
  """Starts two processes of two devices each, in one workdir."""
  told = ['--distributed', f'--coordinator=localhost:{free_port()}', '--num_processes=2']
  told.append(f'--workdir={folder / "run"}')
  return [
    start(folder, f'{name}_{number}', *told, f'--process_id={number}', num_devices=2)
    for number in range(2)
  ]


@pytest.fixture(scope='module')
def jobs(tmp_path_factory):
  """Kills one of two processes after a checkpoint, starts both again, and one elsewhere.

  Returns the folder of all, exit codes by name, and the seconds that the other one lived on.
  """
  folder, running = tmp_path_factory.mktemp('distributed'), {}
  try:
    running['left'], running['killed'] = start_both(folder, 'first')
    while checkpoints.newest_step(folder / 'run') < 0:
      assert running['left'].poll() is running['killed'].poll() is None, said(folder, 'first_0.err')
      time.sleep(0.01)
    running['killed'].kill()
    since = time.monotonic()
    running['left'].wait(timeout=SECONDS)
    seconds = time.monotonic() - since
    running['again'], running['other'] = start_both(folder, 'again')
    codes = {name: process.wait(timeout=SECONDS) for name, process in running.items()}
    alone = start(folder, 'alone', f'--workdir={folder / "alone"}')
    running['alone'] = alone
    return folder, codes | {'alone': alone.wait(timeout=SECONDS)}, seconds
  finally:
    for process in running.values():
      process.kill()
      process.wait()


def said(folder, name):
  return (folder / name).read_text()


def test_a_killed_process_brings_the_other_down_within_a_minute_and_it_says_why(jobs):
  folder, codes, seconds = jobs
  assert codes['left'] not in (0, 2) and seconds < 60
  why = said(folder, 'first_0.err')  # a broken connection, or in JAX's words no sign of life
  assert 'another process of this job has ended' in why or 'another task died' in why


def test_the_same_command_goes_on_where_both_stood(jobs):
  folder, codes, _ = jobs
  assert (codes['again'], codes['other']) == (0, 0), said(folder, 'again_0.err')
  assert 'goes on from step' in said(folder, 'again_0.err')
  assert 'results.csv' in said(folder, 'again_0.out')


def test_only_the_first_process_says_and_writes_anything(jobs):
  folder, _, _ = jobs
  lines = said(folder, 'again_1.out').splitlines()
  assert all(line.startswith('[Gloo]') for line in lines)  # the library's own
  names = [{path.name for path in (folder / each).iterdir()} for each in ('run', 'alone')]
  assert names[0] == names[1]


def test_what_four_devices_of_two_machines_learned_one_learns_up_to_rounding(jobs):
  folder, codes, _ = jobs
  assert codes['alone'] == 0, said(folder, 'alone.err')
  tables = []
  for name in ('run', 'alone'):
    with (folder / name / 'results.csv').open(encoding='utf-8') as file:
      rows = [row for row in csv.DictReader(file) if row['metric'] == 'nll']
    tables.append({(row['learner'], row['shots']): float(row['value']) for row in rows})
  assert any(learner == 'pooled' for learner, _ in tables[0])
  assert tables[0] == pytest.approx(tables[1], abs=1e-4)
