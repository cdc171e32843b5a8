"""One training step: tasks drawn on the device, losses of all users, one update."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from metapers.core import task
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import SPLITS, Population, episode_shapes
from metapers.core.task import Task
from metapers.core.types import (
  Array,
  Callable,
  Int,
  Key,
  Metrics,
  Params,
  PRNGKey,
  PyTree,
  Scalar,
)
from metapers.training import devices
from metapers.training.objectives import Objective

Sampler = Callable[[PyTree, PRNGKey], PyTree]
BatchLoss = Callable[[Params, PyTree, PyTree, PyTree], tuple[Scalar, tuple[PyTree, Metrics]]]


class TrainState(NamedTuple):
  """What a run carries from step to step, and what a checkpoint holds.

  step: number of updates made. seed_key: base key; step i uses `fold_in(seed_key, i)`. params:
  without those that are frozen.
  """

  step: Int[Array, '']
  seed_key: PRNGKey
  params: Params
  optimizer_state: optax.OptState
  objective_state: PyTree


Step = Callable[[TrainState, Params, PyTree], tuple[TrainState, Metrics]]


class Batch(NamedTuple):
  """T tasks, and a key for the loss of each."""

  tasks: Task
  keys: Key[Array, 'T']


def task_sampler(
  population: Population, *, batch_size: int, shots: str | int = 'uniform', split: str = 'train'
) -> Sampler:
  """Returns a sampler `(arrays, key) -> Batch` of T = batch_size tasks.

  Task number i of a step is drawn from `fold_in(key, i)`, so that the number of devices never
  changes which users are drawn.

  Args:
    population: to draw from; only its functions are kept, arrays are given at every call.
    batch_size: T.
    shots: comparisons kept of each support: 'uniform' over 0..num_support, or a fixed number.
    split: static.

  Raises:
    ValueError: for a batch size below 1, an unknown split, or more shots than the support holds.
  """
  if batch_size < 1:
    raise ValueError(f'batch_size must be at least 1, got {batch_size}')
  if split not in SPLITS:
    raise ValueError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
  most = episode_shapes(population, split).support.mask.shape[-1]
  if shots != 'uniform' and not (isinstance(shots, int) and 0 <= shots <= most):
    raise ValueError(f"shots must be 'uniform' or a number in 0..{most}, got {shots!r}")

  def draw(arrays, key):
    key_episode, key_shots, key_loss = jax.random.split(key, 3)
    episode, _ = population.sample_episode(arrays, key_episode, split)
    size = episode.support.mask.shape[-1]  # short histories hold fewer than num_support
    kept = (
      jax.random.randint(key_shots, (), 0, size + 1, jnp.int32) if shots == 'uniform' else shots
    )
    return Batch(episode._replace(support=task.with_shots(episode.support, kept)), key_loss)

  def sample(arrays, key):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch_size))
    return jax.vmap(draw, (None, 0))(arrays, keys)

  return sample


def meta_loss(
  learner: MetaLearner, objective: Objective, *, mesh: Mesh, chunk_size: int
) -> BatchLoss:
  """Returns the batch loss of meta-learning: the objective over the losses of all users.

  An inner loop over hundreds of users at once multiplies per-user weights and falls out of the
  cache: each device takes its users `chunk_size` at a time. Coupled users (`learner.batch_loss`)
  are taken all at once.

  Args:
    learner: whose `batch_loss`, or else `loss`, is taken.
    objective: that joins the users' losses.
    mesh: users are spread over its axis `devices.AXIS`.
    chunk_size: users at once on one device; see `num_chunks`.
  """

  def independent(params, batch):
    size = batch.keys.shape[0]
    chunks = in_chunks(batch, num_chunks(size, chunk_size, mesh))
    chunks = devices.shard(chunks, mesh, axis=1)

    def chunk_loss(chunk):
      return jax.vmap(learner.loss, (None, 0, 0))(params, chunk.tasks, chunk.keys)

    losses, metrics = jax.lax.map(chunk_loss, chunks)  # [chunks, users at once]
    return losses.T.ravel(), metrics

  def batch_loss(params, objective_state, batch, arrays):
    del arrays
    batch = devices.shard(batch, mesh, axis=0)
    if learner.batch_loss:
      losses, metrics = learner.batch_loss(params, batch.tasks, batch.keys)
    else:
      losses, metrics = independent(params, batch)
    value, objective_state = objective.apply(losses, batch.tasks.user, objective_state)
    return value, (objective_state, jax.tree.map(jnp.mean, metrics))

  return batch_loss


def num_chunks(batch_size: int, chunk_size: int, mesh: Mesh) -> int:
  """Returns into how many chunks a batch divides; a batch smaller than one is a chunk.

  Raises:
    ValueError: for sizes below 1, or a batch that does not divide.
  """
  if batch_size < 1 or chunk_size < 1:
    raise ValueError(
      f'batch_size and chunk_size must be at least 1, got {batch_size} and {chunk_size}'
    )
  num_devices = mesh.shape[devices.AXIS]
  at_once = min(chunk_size * num_devices, batch_size)
  if batch_size % at_once or at_once % num_devices:
    raise ValueError(
      f'a batch of {batch_size} users does not divide into chunks of {chunk_size} on {num_devices} '
      f'devices: make batch_size a multiple of {chunk_size * num_devices}'
    )
  return batch_size // at_once


def in_chunks(batch: PyTree, num_chunks: int) -> PyTree:
  """Divides the leading axis T: chunk i of C takes the users i, i + C, i + 2 C, ...

  Each device holds a block of users and keeps it: every chunk takes a share of every block.
  """

  def split(x):
    return jnp.swapaxes(x.reshape(len(x) // num_chunks, num_chunks, *x.shape[1:]), 0, 1)

  return jax.tree.map(split, batch)


def split_frozen(params: Params, frozen: Collection[str]) -> tuple[Params, Params]:
  """Returns the parameters to train, and the top-level ones to leave as they are.

  Raises:
    ValueError: for names that are not among the parameters.
  """
  if not frozen:
    return params, {}
  names = sorted(params) if isinstance(params, Mapping) else []
  unknown = sorted(set(frozen) - set(names))
  if unknown:
    raise ValueError(
      f'frozen names {", ".join(unknown)}, which top-level parameters do not have; they are: '
      f'{", ".join(map(str, names)) or "no dict"}'
    )
  trained = {name: part for name, part in params.items() if name not in frozen}
  return trained, {name: params[name] for name in frozen}


def join_frozen(trained: Params, frozen: Params) -> Params:
  """Returns all parameters together again."""
  return {**trained, **frozen} if frozen else trained


def make_step(
  batch_loss: BatchLoss, sampler: Sampler, optimizer: optax.GradientTransformation
) -> Step:
  """Returns `(state, frozen, arrays) -> (state, metrics)`: draw a batch, take its gradient, update.

  `frozen` are the parameters that `split_frozen` left out. Metrics are those of the batch loss,
  with 'loss', 'gradient_norm' (before the update) and 'parameter_norm' (after it); a norm is finite
  only where all entries are.
  """

  def step(state, frozen, arrays):
    batch = sampler(arrays, jax.random.fold_in(state.seed_key, state.step))

    def loss_of(trained):
      params = join_frozen(trained, frozen)
      return batch_loss(params, state.objective_state, batch, arrays)

    (loss, (objective_state, metrics)), gradient = jax.value_and_grad(loss_of, has_aux=True)(
      state.params
    )
    updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    norms = {'gradient_norm': optax.tree.norm(gradient), 'parameter_norm': optax.tree.norm(params)}
    state = TrainState(state.step + 1, state.seed_key, params, optimizer_state, objective_state)
    return state, {**metrics, 'loss': loss, **norms}

  return step
