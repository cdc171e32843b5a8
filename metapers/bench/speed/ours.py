"""The library's own step: the batch loss that training compiles, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from metapers.bench.speed import workload
from metapers.bench.speed.implementation import Step
from metapers.bench.speed.workload import Case, Data
from metapers.core import batches, choice_model, task
from metapers.core.task import Candidates, Task
from metapers.io import leaves
from metapers.training import devices, objectives, step
from metapers.training.step import Batch

CHUNK_SIZE = 64  # users adapted at once


def prepare(case: Case, data: Data) -> Step:
  """Returns one step, users in chunks of the size that training takes by default."""
  if case.row == workload.ALONE:
    return adapted(case, data)
  learner = workload.learner_of(case)
  mesh = jax.make_mesh(
    (1,), (devices.AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1]
  )
  placement = devices.placement(mesh=mesh)
  batch_loss = step.meta_loss(learner, objectives.mean(), placement=placement)
  params = leaves.rebuild(data.params, jax.eval_shape(learner.init, jax.random.key(0)))

  @jax.jit
  def run(params, batch):
    (loss, _), gradient = jax.value_and_grad(batch_loss, has_aux=True)(params, (), batch, ())
    return loss, gradient

  batch = jax.device_put(batch_of(case, data))
  compiled = run.lower(params, batch).compile()

  def measured():
    loss, gradient = jax.block_until_ready(compiled(params, batch))
    return float(loss), {name: np.asarray(leaf) for name, leaf in leaves.by_path(gradient).items()}

  return measured


def adapted(case: Case, data: Data) -> Step:
  """Returns one step that adapts every user to their support, without learning from others.

  What stands for the loss is the mean negative log-likelihood of the support at the mode, and for
  the gradient the mode.
  """
  learner = workload.learner_of(case)
  params = learner.init(jax.random.key(0))

  def adapt(user):
    support = user.tasks.support
    state = learner.adapt(params, support, user.tasks.context, user.keys)
    scores = learner.score(params, state, support.candidates)
    return choice_model.nll(
      choice_model.log_probs(scores, support.candidates.mask), support
    ), scores

  @jax.jit
  def run(batch):
    return batches.map_chunks(lambda user: adapt(task.take(batch, user)), case.users, CHUNK_SIZE)

  batch = jax.device_put(batch_of(case, data))
  compiled = run.lower(batch).compile()

  def measured():
    losses, scores = jax.block_until_ready(compiled(batch))
    return float(jnp.mean(losses)), {'mode': np.asarray(scores)}

  return measured


def batch_of(case: Case, data: Data) -> Batch:
  """Returns the users of a case as training has them."""

  def choices(x, choice):
    return task.choices(Candidates(jnp.asarray(x), jnp.ones(x.shape[:-1], bool)), choice)

  users = jnp.arange(case.users, dtype=jnp.int32)
  context = jnp.zeros((case.users, 0), jnp.float32)
  support = choices(data.support, jnp.asarray(data.support_choice))
  query = choices(data.query, jnp.asarray(data.query_choice))
  keys = jax.random.split(jax.random.key(0), case.users)
  return Batch(Task(support, query, users, context), keys, jnp.zeros(case.users, jnp.int32))
