"""One training step: tasks drawn on the device, losses of all users, one update.

`vmap` over users is written here, and in `evaluation/`, and nowhere else.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from metapers.core import task
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import SPLITS, Population
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
BatchLoss = Callable[[Params, PyTree, PyTree], tuple[Scalar, tuple[PyTree, Metrics]]]


class TrainState(NamedTuple):
  """What a run carries from step to step, and what a checkpoint holds.

  step: number of updates made. seed_key: base key; step i uses `fold_in(seed_key, i)`.
  """

  step: Int[Array, '']
  seed_key: PRNGKey
  params: Params
  optimizer_state: optax.OptState
  objective_state: PyTree


Step = Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]


class Batch(NamedTuple):
  """T tasks, and a key for the loss of each."""

  tasks: Task
  keys: Key[Array, 'T']


def task_sampler(
  population: Population, *, batch_size: int, shots: str | int = 'uniform', split: str = 'train'
) -> Sampler:
  """Makes a sampler `(arrays, key) -> Batch` of T = batch_size tasks.

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
  most = population.spec.num_support
  if batch_size < 1:
    raise ValueError(f'batch_size must be at least 1, got {batch_size}')
  if split not in SPLITS:
    raise ValueError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
  if shots != 'uniform' and not (isinstance(shots, int) and 0 <= shots <= most):
    raise ValueError(f"shots must be 'uniform' or a number in 0..{most}, got {shots!r}")

  def draw(arrays, key):
    key_episode, key_shots, key_loss = jax.random.split(key, 3)
    seen, _ = population.sample_episode(arrays, key_episode, split)
    size = seen.support.mask.shape[-1]  # short histories hold fewer than num_support
    kept = jax.random.randint(key_shots, (), 0, size + 1) if shots == 'uniform' else shots
    return Batch(seen._replace(support=task.with_shots(seen.support, kept)), key_loss)

  def sample(arrays, key):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch_size))
    return jax.vmap(draw, (None, 0))(arrays, keys)

  return sample


def meta_loss(
  learner: MetaLearner, objective: Objective, *, mesh: Mesh, chunk_size: int
) -> BatchLoss:
  """Makes the batch loss of meta-learning: the objective over the losses of all users.

  An inner loop over hundreds of users at once multiplies per-user weights and falls out of the
  cache: each device takes its users `chunk_size` at a time.

  Args:
    learner: whose `loss` is taken.
    objective: that joins the users' losses.
    mesh: users of a chunk are spread over its devices.
    chunk_size: users at once on one device; batches must be multiples of it times the devices, or
      smaller than that.

  Raises:
    ValueError: for a chunk size below 1; when traced, for a batch that does not divide.
  """
  if chunk_size < 1:
    raise ValueError(f'chunk_size must be at least 1, got {chunk_size}')

  def batch_loss(params, objective_state, batch):
    num_tasks = batch.keys.shape[0]
    at_once = min(chunk_size * mesh.size, num_tasks)
    if num_tasks % at_once or at_once % mesh.size:
      raise ValueError(
        f'a batch of {num_tasks} users does not divide into chunks of {chunk_size} on '
        f'{mesh.size} devices: make batch_size a multiple of {chunk_size * mesh.size}'
      )
    batch = devices.shard(batch, mesh, axis=0)
    chunks = devices.shard(in_chunks(batch, num_tasks // at_once), mesh, axis=1)

    def chunk_loss(chunk):
      return jax.vmap(learner.loss, (None, 0, 0))(params, chunk.tasks, chunk.keys)

    losses, metrics = jax.lax.map(chunk_loss, chunks)  # [chunks, at_once]
    value, objective_state = objective.apply(losses.T.ravel(), batch.tasks.user, objective_state)
    return value, (objective_state, jax.tree.map(jnp.mean, metrics))

  return batch_loss


def in_chunks(batch: PyTree, num_chunks: int) -> PyTree:
  """Divides the leading axis T: chunk i of C takes the users i, i + C, i + 2 C, ...

  Each device holds a block of users and keeps it: every chunk takes a share of every block.
  """

  def split(x):
    return jnp.swapaxes(x.reshape(len(x) // num_chunks, num_chunks, *x.shape[1:]), 0, 1)

  return jax.tree.map(split, batch)


def make_step(
  batch_loss: BatchLoss, sampler: Sampler, optimizer: optax.GradientTransformation
) -> Step:
  """Makes `(state, arrays) -> (state, metrics)`: draw a batch, take its gradient, update.

  Metrics are those of the batch loss, with 'loss', 'gradient_norm' (before the update) and
  'parameter_norm' (after it); a norm is finite only where all entries are.
  """

  def step(state, arrays):
    batch = sampler(arrays, jax.random.fold_in(state.seed_key, state.step))
    (loss, (objective_state, metrics)), gradient = jax.value_and_grad(batch_loss, has_aux=True)(
      state.params, state.objective_state, batch
    )
    updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
    params = optax.apply_updates(state.params, updates)
    norms = {'gradient_norm': optax.tree.norm(gradient), 'parameter_norm': optax.tree.norm(params)}
    state = TrainState(state.step + 1, state.seed_key, params, optimizer_state, objective_state)
    return state, {**metrics, 'loss': loss, **norms}

  return step
