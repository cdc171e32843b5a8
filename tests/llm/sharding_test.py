"""A decoder whose parameters are divided over eight devices, faked by a process of its own."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from metapers.llm import decoder, layers
from metapers.training import devices, loop

NUM_DEVICES = 8
CONFIG = layers.Config(64, 16, 24, 2, 4, 2, 4)


def rule(name, leaf):
  """Divides the embedding by tokens, and kernels by their inputs."""
  if name.endswith('embedding'):
    return PartitionSpec(devices.AXIS)
  if name.endswith('kernel') and leaf.shape[1] % NUM_DEVICES == 0:
    return PartitionSpec(None, devices.AXIS)
  return PartitionSpec()


def start():
  """Returns a decoder, and parameters to begin with."""
  model = decoder.decoder(CONFIG)
  return model, model.init(jax.random.key(0))


def named(params):
  """Returns parameters by path."""
  found, _ = jax.tree_util.tree_flatten_with_path(params)
  return {jax.tree_util.keystr(path, simple=True, separator='.'): leaf for path, leaf in found}


def specs():
  """Returns how the first state's parameters are laid out, by path."""
  _, params = start()
  placement = devices.placement(rule=rule)
  state = loop.initial_state(params, optax.sgd(0.5), (), jax.random.key(1), placement=placement)
  return {name: str(leaf.sharding.spec) for name, leaf in named(state.params).items()}


def trained():
  """Returns a decoder's parameters, by path, after three steps on drawn texts."""
  model, params = start()

  def sampler(arrays, key):
    return arrays[jax.random.randint(key, (8,), 0, len(arrays))]

  def loss(params, objective_state, tokens, arrays):
    del arrays
    hidden = model.hidden(params, model.embed(params, tokens), jnp.ones_like(tokens, bool))
    log_probs = model.response_log_probs(
      params, hidden, tokens[:, 1:], jnp.ones_like(tokens[:, 1:], bool)
    )
    return -log_probs.mean(), (objective_state, {})

  tokens = np.random.default_rng(0).integers(0, 64, (32, 6)).astype(np.int32)
  result = loop.fit(
    params, loss, sampler, tokens, optax.sgd(0.5),
    schedule=loop.Schedule(3), key=jax.random.key(1), placement=devices.placement(rule=rule),
    progress=False,
  )  # fmt: skip
  return named(result.params)


def test_parameters_are_divided_and_train_as_on_one_device(tmp_path):
  flags = f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={NUM_DEVICES}'
  environment = {**os.environ, 'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'}
  subprocess.run(
    [sys.executable, __file__, str(tmp_path)], env=environment, check=True, timeout=300
  )
  with np.load(tmp_path / 'eight.npz') as eight:
    found = json.loads(str(eight['specs']))
    for name, leaf in trained().items():
      np.testing.assert_allclose(eight[name], leaf, rtol=0, atol=1e-5)
  assert 'tasks' in found['embedding'] and 'tasks' in found['layers.query.kernel']
  assert 'tasks' not in found['norm.scale']


if __name__ == '__main__':
  assert jax.device_count() == NUM_DEVICES
  arrays = {name: np.asarray(leaf) for name, leaf in trained().items()}
  np.savez(pathlib.Path(sys.argv[1], 'eight.npz'), specs=json.dumps(specs()), **arrays)
