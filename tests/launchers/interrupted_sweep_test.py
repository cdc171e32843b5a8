"""A sweep that is killed and launched again gives the results of one that was left alone."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TINY = (
  '--config.training.num_steps=4',
  '--config.training.steps_per_call=2',
  '--config.training.evaluate_every=2',
  '--config.training.batch_size=8',
  '--config.training.chunk_size=8',
  '--config.evaluation.num_users=6',
  '--config.evaluation.num_validation_users=4',
  '--config.evaluation.num_particles=20',
  '--config.evaluation.num_resamples=20',
  '--config.evaluation.shots=0,2',
)
SWEEP = (
  '--module=experiments.train',
  '--config=experiments/configs/maml.py:quick,population=two_types',
  '--sweep=grid:seed=0,1,2;learner=pooled',  # one seed compiles for the others; two run at once
  '--workers=2',
)


def start(cache, module, *arguments):
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'JAX_COMPILATION_CACHE_DIR': str(cache),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  command = [sys.executable, '-m', module, *arguments]
  return subprocess.Popen(
    command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
  )


def ended(program):
  printed, _ = program.communicate()
  return program.returncode, printed


def launch(folder, name):
  return start(folder / 'cache', 'launchers.local', f'--workdir={folder / name}', *SWEEP, *TINY)


def gathered(folder, name):
  given = f'--root={folder / name}', f'--out={folder / f"{name}_table"}'
  code, printed = ended(start(folder / 'cache', 'experiments.gather', *given))
  assert code == 0, printed
  return (folder / f'{name}_table' / 'results.csv').read_bytes()


@pytest.mark.slow
def test_a_killed_sweep_gives_the_same_bytes(tmp_path):
  program = launch(tmp_path, 'killed')
  while not list(tmp_path.glob('killed/*/checkpoints/[0-9]*')):
    assert program.poll() is None
    time.sleep(0.05)
  program.send_signal(signal.SIGTERM)
  time.sleep(0.3)
  program.send_signal(signal.SIGTERM)  # which ends jobs at once, some of them while they save
  code, printed = ended(program)
  assert code == 143 and '2 stopped, 1 waiting, of 3' in printed
  code, printed = ended(launch(tmp_path, 'killed'))
  assert code == 0 and '3 finished, of 3' in printed, printed
  code, printed = ended(launch(tmp_path, 'alone'))
  assert code == 0 and '3 finished, of 3' in printed, printed
  assert len(list(tmp_path.glob('killed/*/config.json'))) == 3
  table = gathered(tmp_path, 'killed')
  assert table == gathered(tmp_path, 'alone')
  assert b',all,' in table
