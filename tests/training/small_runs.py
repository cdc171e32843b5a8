"""Runs so small that dozens of checkpoints take seconds; also a program, to be killed by tests."""

import os
import pathlib
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metapers import learners
from metapers.io.checkpoints import Checkpoints
from metapers.io.writers import MetricsWriter
from metapers.populations import toy
from metapers.training import devices, loop, objectives, step

POPULATION = toy.two_types(num_support=2, num_query=4)
SCHEDULE = loop.Schedule(num_steps=90, steps_per_call=2, evaluate_every=3)  # 30 checkpoints
BEST_STEP = 36
# Reads of damaged files that tensorstore gives up come back to an event loop that orbax closed.
READS_DAMAGED_FILES = [
  pytest.mark.usefixtures('abandoned_reads'),
  pytest.mark.filterwarnings('ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning'),
]


def config(schedule):
  return {'learner': 'pooled', 'training': {'num_steps': schedule.num_steps}}


def pooled(workdir):
  """Trains the linear pooled learner in a workdir."""
  learner = learners.make('pooled', num_features=4, hidden=())
  checkpoints = Checkpoints(workdir, config(SCHEDULE))
  try:
    return loop.fit(
      learner.init(jax.random.key(0)),
      step.meta_loss(learner, objectives.mean(), placement=devices.placement(), chunk_size=4),
      step.task_sampler(POPULATION, batch_size=8),
      POPULATION.arrays,
      optax.adam(1e-2),
      schedule=SCHEDULE,
      key=jax.random.key(0),
      evaluate=lambda params, step: {'score': -abs(step - BEST_STEP), 'odd': step % 2},
      writer=lambda start: MetricsWriter(workdir, from_step=start),
      checkpoints=checkpoints,
      progress=False,
    )
  finally:
    checkpoints.close()


def noise_sampler(arrays, key):
  """Draws a batch [4, 3] around the arrays [3]."""
  return arrays[None] + jax.random.normal(key, (4, 3))


def squared(params, objective_state, batch, arrays):
  """A batch loss without users: the squared distance to the batch; the state counts batches."""
  loss = jnp.mean((params['w'][None] - batch) ** 2)
  return loss, (objective_state + 1, {'first': batch[0, 0]})


def point(schedule, *, start=None, batch_loss=squared, sampler=noise_sampler, **options):
  """Fits one point [3] to noise: compiles in no time."""
  start = {'w': jnp.zeros(3)} if start is None else start
  defaults = {'optimizer': optax.sgd(0.1), 'progress': False, 'name': 'point'}
  options = defaults | {'key': jax.random.key(0)} | options
  optimizer = options.pop('optimizer')
  return loop.fit(
    start, batch_loss, sampler, jnp.arange(3.0), optimizer,
    schedule=schedule, objective_state=jnp.zeros((), jnp.int32), **options,
  )  # fmt: skip


def same_bits(tree, other):
  """Returns whether two pytrees of arrays are the same, bit for bit."""
  equal = jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), tree, other)
  return all(jax.tree.leaves(equal))


def start(workdir):
  """Starts the pooled run in a process of its own; returns once a first save has begun."""
  # What one process compiles the next ones find.
  cache = {
    'JAX_COMPILATION_CACHE_DIR': str(workdir.parent / 'compiled'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }
  process = subprocess.Popen(
    [sys.executable, __file__, workdir],
    env=os.environ | cache, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  before, limit = saves(workdir), time.monotonic() + 90
  while saves(workdir) == before and process.poll() is None and time.monotonic() < limit:
    time.sleep(0.01)
  return process


def saves(workdir):
  """Lists what stands in the folder of checkpoints, unfinished ones included."""
  return {path.name for path in workdir.glob('checkpoints/*')}


def end(process, number):
  """Sends a signal, waits, and returns the exit code."""
  process.send_signal(number)
  process.communicate(timeout=60)
  return process.returncode


if __name__ == '__main__':
  pooled(pathlib.Path(sys.argv[1]))
