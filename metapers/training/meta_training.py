"""Meta-training: `fit` on tasks of a population."""

from typing import Any, NamedTuple

import jax
import optax

from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population
from metapers.core.types import PRNGKey
from metapers.training import devices, loop, objectives, step
from metapers.training.objectives import Objective


class RunKeys(NamedTuple):
  """Independent keys of one run: of its parameters, of its steps, of the learner's `prepare`."""

  init: PRNGKey
  steps: PRNGKey
  prepare: PRNGKey


def run_keys(seed: int) -> RunKeys:
  """Derives a run's keys from its seed."""
  return RunKeys(*jax.random.split(jax.random.key(seed), len(RunKeys._fields)))


def meta_train(
  learner: MetaLearner,
  population: Population,
  optimizer: optax.GradientTransformation,
  *,
  plan: loop.Plan,
  batch_size: int = 64,
  chunk_size: int = 32,
  shots: str | int = 'uniform',
  objective: Objective | None = None,
  seed: int = 0,
  **options: Any,
) -> loop.Result:
  """Trains a learner on the train users of a population.

  Args:
    learner: whose loss is minimised.
    population: whose train split is drawn from.
    optimizer: optax transformation.
    plan: how long, and when to look.
    batch_size: T, users per step.
    chunk_size: users at once on a device.
    shots: comparisons kept of each support: 'uniform' over 0..num_support, or a number.
    objective: joins the users' losses; by default their mean.
    seed: of the parameters and of everything drawn.
    **options: of `loop.fit`: name, evaluate, checkpoints, writer, progress.

  Raises:
    ValueError: for sizes that do not fit each other.
  """
  objective = objective or objectives.mean()
  keys, mesh = run_keys(seed), devices.task_mesh()
  return loop.fit(
    learner.init(keys.init),
    step.meta_loss(learner, objective, mesh=mesh, chunk_size=chunk_size),
    step.task_sampler(population, batch_size=batch_size, shots=shots),
    population.arrays,
    optimizer,
    plan=plan,
    key=keys.steps,
    objective_state=objective.init(),
    **options,
  )
