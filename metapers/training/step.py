"""One training step: tasks drawn on the device, losses of all users, one update."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metapers.core import task, user_groups
from metapers.core.meta_learner import Loss, MetaLearner
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
  Shaped,
)
from metapers.training import devices
from metapers.training.devices import Placement
from metapers.training.objectives import Objective

Sampler = Callable[[PyTree, PRNGKey], PyTree]
LARGE = 8 * 2**20  # bytes of parameters, more than a core's own cache
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
  """T tasks, a key for the loss of each, and the group of each user, see `core.user_groups`."""

  tasks: Task
  keys: Key[Array, 'T']
  groups: Int[Array, 'T']


def task_sampler(
  population: Population,
  *,
  batch_size: int,
  shots: str | int = 'uniform',
  split: str = 'train',
  placement: Placement | None = None,
) -> Sampler:
  """Returns a sampler `(arrays, key) -> Batch` of T = batch_size tasks.

  Task number i of a step is drawn from `fold_in(key, i)`, so that the number of devices never
  changes which users are drawn; of several programs each draws its own part of them.

  Args:
    population: to draw from; only its functions are kept, arrays are given at every call.
    batch_size: T.
    shots: comparisons kept of each support: 'uniform' over 0..num_support, or a fixed number.
    split: static.
    placement: over devices; by default users over all of them, in one program.

  Raises:
    ValueError: for a batch size below 1 or one that does not divide, an unknown split, or more
      shots than the support holds.
  """
  if batch_size < 1:
    raise ValueError(f'batch_size must be at least 1, got {batch_size}')
  placement = placement or devices.placement()
  if batch_size % placement.num_programs:
    raise ValueError(
      f'batch_size must be a multiple of the {placement.num_programs} devices, got {batch_size}'
    )
  if split not in SPLITS:
    raise ValueError(f'split must be one of {", ".join(SPLITS)}, got {split!r}')
  most = episode_shapes(population, split).support.mask.shape[-1]
  if shots != 'uniform' and not (isinstance(shots, int) and 0 <= shots <= most):
    raise ValueError(f"shots must be 'uniform' or a number in 0..{most}, got {shots!r}")

  def draw(arrays, key):
    key_episode, key_shots, key_loss = jax.random.split(key, 3)
    episode, truth = population.sample_episode(arrays, key_episode, split)
    size = episode.support.mask.shape[-1]  # short histories hold fewer than num_support
    kept = (
      jax.random.randint(key_shots, (), 0, size + 1, jnp.int32) if shots == 'uniform' else shots
    )
    shown = episode._replace(support=task.with_shots(episode.support, kept))
    return Batch(shown, key_loss, user_groups.group_of(truth))

  def sample(arrays, key):
    numbers = placement.own_users(batch_size)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    return jax.vmap(draw, (None, 0))(arrays, keys)

  return sample


def meta_loss(
  learner: MetaLearner,
  objective: Objective,
  *,
  placement: Placement,
  chunk_size: int | None = None,
) -> BatchLoss:
  """Returns the batch loss of meta-learning: the objective over the losses of all users.

  An inner loop over hundreds of users at once multiplies per-user weights and falls out of the
  cache: each device takes its users `chunk_size` at a time, loss and gradient. Coupled users
  (`learner.batch_loss`) are taken all at once.

  Args:
    learner: whose `batch_loss`, or else `loss`, is taken.
    objective: that joins the users' losses, those of all devices.
    placement: of the users over devices, as `task_sampler` has it.
    chunk_size: users at once on one device; see `num_chunks`.

  Raises:
    ValueError: for coupled users in several programs, none of which has them all.
  """
  require_uncoupled(learner, placement)

  def batch_loss(params, objective_state, batch, arrays):
    del arrays
    batch = placement.divide(batch, axis=0)
    if learner.batch_loss:
      losses, metrics = learner.batch_loss(params, batch.tasks, batch.keys)
      value, state = objective.apply(losses, batch.groups, objective_state)
    else:
      batch_size = batch.keys.shape[0] * placement.num_programs
      count = num_chunks(batch_size, chunk_size, placement, params)
      divided = in_chunks(batch, count, placement.devices_a_program)
      chunks = placement.divide(divided, axis=1)
      loss = chunked_loss(learner.loss, objective, placement)
      value, state, metrics = loss(params, objective_state, chunks)
    return value, (state, placement.averaged(jax.tree.map(jnp.mean, metrics)))

  return batch_loss


def require_uncoupled(learner: MetaLearner, placement: Placement) -> None:
  """Refuses coupled users in several programs, none of which has them all.

  Raises:
    ValueError: naming the way out.
  """
  if learner.batch_loss and placement.num_programs > 1:
    raise ValueError(
      f'parallel={placement.parallel!r} divides a batch into {placement.num_programs} programs, '
      "and the losses of this learner's users are coupled (batch_loss): take parallel='jit'"
    )


def chunked_loss(
  loss: Loss, objective: Objective, placement: Placement
) -> Callable[[Params, PyTree, Batch], tuple[Scalar, PyTree, Metrics]]:
  """Returns `(params, objective_state, chunks) -> (value, objective_state, metrics)`.

  `chunks` is a batch as `in_chunks` divides it, and the gradient is taken chunk by chunk: reverse
  mode through a loop would keep what all of them computed until the last is done, while here each
  is differentiated as long as what it computed is in the cache. The gradient of an objective F of
  all users' losses is Σ_u w_u ∇loss_u with w_u = ∂F / ∂loss_u. Where w depends on the losses (CVaR)
  they are computed once before; where it does not (the mean) the compiler leaves that out. Of
  several programs each has the losses of all users, and gradients of its own: they are added.

  Args:
    loss: `(params, task, key) -> (scalar, metrics)` of one user.
    objective: F.
    placement: of the users over devices.
  """

  def losses_of(params, chunk):
    return jax.vmap(loss, (None, 0, 0))(params, chunk.tasks, chunk.keys)

  num_devices = placement.devices_a_program

  def of_all(own):  # [chunks, users at once] to [T], in the users' order
    return placement.gathered(out_of_chunks(own, num_devices))

  def apply(losses, state, chunks):
    return objective.apply(of_all(losses), of_all(chunks.groups), state)

  def weights_of(losses, state, groups):
    weights = jax.grad(lambda losses: objective.apply(losses, groups, state)[0])(of_all(losses))
    return in_chunks(placement.own(weights), len(losses), num_devices)

  @jax.custom_vjp
  def value_of(params, state, chunks):
    losses, metrics = jax.lax.map(lambda chunk: losses_of(params, chunk), chunks)
    return *apply(losses, state, chunks), metrics

  def forward(params, state, chunks):
    state, chunks = jax.tree.map(lambda leaf: leaf.value, (state, chunks))
    trained, rebuild = differentiated(params)

    def weighted(trained, chunk, weights):
      losses, metrics = losses_of(rebuild(trained), chunk)
      return jnp.sum(weights * losses), (losses, metrics)

    def add(total, given):
      (_, found), gradient = jax.value_and_grad(weighted, has_aux=True)(trained, *given)
      return jax.tree.map(jnp.add, total, gradient), found

    losses, _ = jax.lax.map(lambda chunk: losses_of(rebuild(trained), chunk), chunks)
    weights = weights_of(losses, state, of_all(chunks.groups))
    nothing = jax.tree.map(jnp.zeros_like, trained)
    own, (losses, metrics) = jax.lax.scan(add, nothing, (chunks, weights))
    gradient = rebuild(placement.added(own), fixed=jnp.zeros_like)
    return (*apply(losses, state, chunks), metrics), gradient

  def backward(gradient, cotangents):
    return jax.tree.map(lambda x: cotangents[0] * x, gradient), None, None

  value_of.defvjp(forward, backward, symbolic_zeros=True)
  return value_of


def differentiated(params: PyTree) -> tuple[list[Array], Callable[..., Params]]:
  """Returns the leaves that are differentiated, and a function that puts such ones back.

  Args:
    params: as `jax.custom_vjp` gives them with symbolic zeros: each with its value, and whether it
      is differentiated (frozen ones are not).
  """
  leaves, structure = jax.tree.flatten(params)

  def rebuild(trained, fixed=lambda value: value):
    rest = iter(trained)
    each = [next(rest) if leaf.perturbed else fixed(leaf.value) for leaf in leaves]
    return jax.tree.unflatten(structure, each)

  return [leaf.value for leaf in leaves if leaf.perturbed], rebuild


def num_chunks(
  batch_size: int, chunk_size: int | None, placement: Placement, params: Params = ()
) -> int:
  """Returns into how many chunks a batch divides; a batch smaller than one is a chunk.

  Args:
    batch_size: T.
    chunk_size: users at once on one device; None for `best_chunk_size`.
    placement: over devices.
    params: of the learner, where they are known; frozen ones count as well.

  Raises:
    ValueError: for sizes below 1, or a batch that does not divide.
  """
  if batch_size < 1 or (chunk_size is not None and chunk_size < 1):
    raise ValueError(
      f'batch_size and chunk_size must be at least 1, got {batch_size} and {chunk_size}'
    )
  num_devices = placement.num_devices
  if chunk_size is None:
    chunk_size = best_chunk_size(max(batch_size // num_devices, 1), placement, params)
  at_once = min(chunk_size * num_devices, batch_size)
  if batch_size % at_once or at_once % num_devices:
    raise ValueError(
      f'a batch of {batch_size} users does not divide into chunks of {chunk_size} on {num_devices} '
      f'devices: make batch_size a multiple of {chunk_size * num_devices}'
    )
  return batch_size // at_once


def best_chunk_size(num_users: int, placement: Placement, params: Params = ()) -> int:
  """Returns how many of a device's users to take at once: all, or on CPUs at most 8 or 16.

  On CPUs it is the largest number up to 8 that divides them. What eight users compute stays in a
  CPU's cache: second-order MAML of 2 x 128 hidden units takes 1.3 to 1.4 times as long in chunks
  of 32, and none of four other learners was faster in them (one core). Up to 16 where parameters
  are LARGE: every chunk adds a gradient of their size to the sum (docs/speed.md).
  """
  if placement.mesh.devices.flat[0].platform != 'cpu':
    return num_users
  num_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
  return max(size for size in range(1, 17 if num_bytes > LARGE else 9) if num_users % size == 0)


def in_chunks(batch: PyTree, num_chunks: int, num_devices: int) -> PyTree:
  """Divides the leading axis T into [num_chunks, users at once].

  Each device holds a block of users and keeps it: every chunk takes a share of every block, the
  next ones of it. On one device nothing moves: a chunk of every C-th user would be read from memory
  in short pieces, which took ten times as long as a product with few columns (384 features).
  """

  def split(x):
    size = len(x) // num_chunks
    blocks = x.reshape(num_devices, num_chunks, size // num_devices, *x.shape[1:])
    return jnp.swapaxes(blocks, 0, 1).reshape(num_chunks, size, *x.shape[1:])

  return jax.tree.map(split, batch)


def out_of_chunks(x: Shaped[Array, 'C users'], num_devices: int) -> Shaped[Array, 'T']:
  """Returns what `in_chunks` divided, [T], in the users' order."""
  return jnp.swapaxes(x.reshape(len(x), num_devices, -1), 0, 1).ravel()


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
