"""The library's own step: the batch loss that training compiles, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from metapers.bench.speed import workload
from metapers.bench.speed.implementation import Step
from metapers.bench.speed.workload import Case, Data
from metapers.core import task
from metapers.core.task import Candidates, Task
from metapers.io import leaves
from metapers.training import devices, objectives, step
from metapers.training.step import Batch


def prepare(case: Case, data: Data) -> Step:
  """Returns one step, users in chunks of the size that training takes by default."""
  learner = workload.learner_of(case)
  mesh = jax.make_mesh(
    (1,), (devices.AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:1]
  )
  batch_loss = step.meta_loss(learner, objectives.mean(), mesh=mesh)
  params = leaves.like(jax.eval_shape(learner.init, jax.random.key(0)), data.params)

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
