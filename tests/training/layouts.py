"""Runs whose parameters and arrays are divided over devices; also programs, for other processes."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from metapers.io.checkpoints import Checkpoints
from metapers.io.writers import MetricsWriter
from metapers.training import devices, loop

SCHEDULE = loop.Schedule(num_steps=8, steps_per_call=2, evaluate_every=4)
SHARDED = ('params.base.w', 'params.table', 'arrays.rewards')
FROZEN = ('table',)
ARRAYS = {'rewards': np.linspace(-1, 1, 128, dtype=np.float32).reshape(32, 4)}


def rule(name, leaf):
  """Divides the leading axis of some arrays over the devices."""
  del leaf
  return PartitionSpec(devices.AXIS) if name in SHARDED else PartitionSpec()


def placement(mesh=None):
  """Returns the layout over devices, by default all."""
  return devices.placement(mesh=mesh, rule=rule)


def start():
  """Returns parameters, of which `table` is to be frozen."""
  w = jax.random.normal(jax.random.key(1), (16, 4))
  table = jax.random.normal(jax.random.key(2), (8, 4)).astype(jnp.bfloat16)
  return {'base': {'w': w}, 'head': jnp.ones(4), 'table': table}


def sampler(arrays, key):
  """Draws four rows of the arrays."""
  return arrays['rewards'][jax.random.randint(key, (4,), 0, len(arrays['rewards']))]


def loss(params, objective_state, batch, arrays):
  """Returns the squared distance of a product to the batch, the table and the arrays' mean."""
  made = params['base']['w'].T @ params['base']['w'] * 0.1 + params['head'][None]
  mean = jnp.mean(arrays['rewards'], 0, keepdims=True)
  target = batch + params['table'].astype(jnp.float32)[:4] + mean
  return jnp.mean((made - target) ** 2), (objective_state, {})


def run(workdir, schedule=SCHEDULE, at_step=None, make_writer=MetricsWriter, mesh=None):
  """Fits, saving and resuming in a workdir; calls `at_step` at every evaluation."""

  def evaluate(params, step):
    for name, leaf in named(params).items():
      assert leaf.sharding.spec == rule(f'params.{name}', leaf), name
    if at_step:
      at_step(step)
    return {'score': float(step)}

  checkpoints = Checkpoints(workdir, {'training': {'num_steps': schedule.num_steps}}, keep=3)
  try:
    return loop.fit(
      start(), loss, sampler, ARRAYS, optax.adam(0.01),
      schedule=schedule, key=jax.random.key(0), frozen=FROZEN, placement=placement(mesh),
      evaluate=evaluate, checkpoints=checkpoints, progress=False,
      writer=lambda step: make_writer(workdir, from_step=step),
    )  # fmt: skip
  finally:
    checkpoints.close()


def named(tree):
  """Returns arrays by path."""
  found, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator='.'): leaf for path, leaf in found}


def elsewhere(program, *arguments, num_devices):
  """Starts another process of a test file, with that many devices of its own."""
  flags = f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={num_devices}'
  environment = {**os.environ, 'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'}
  return subprocess.Popen([sys.executable, program, *map(str, arguments)], env=environment)


def assert_close(one, other):
  """Compares arrays by path up to rounding."""
  assert one.keys() == other.keys()
  for name, array in one.items():
    np.testing.assert_allclose(
      np.asarray(array, np.float32), np.asarray(other[name], np.float32), rtol=0, atol=1e-5
    )
