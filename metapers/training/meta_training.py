"""Meta-training: `fit` on tasks of a population."""

import functools
from collections.abc import Callable, Collection
from typing import NamedTuple

import jax
import numpy as np

from metapers.core import meta_learner, user_groups
from metapers.core.meta_learner import FromHistories, MetaLearner
from metapers.core.population import Population
from metapers.core.task import Task
from metapers.core.types import Params, PRNGKey, PyTree
from metapers.io import leaves
from metapers.io.checkpoints import Checkpoints
from metapers.training import devices, loop, objectives, optimizers, step
from metapers.training.devices import Placement
from metapers.training.objectives import Objective


class Training(NamedTuple):
  """How a learner is trained.

  num_steps: updates in all. batch_size: T, users per step. chunk_size: users at once on a device;
  None for 8 on CPUs, 16 of large parameters, and for all of them elsewhere.
  shots: comparisons kept of each support: 'uniform' over 0..num_support, or a number.
  learning_rate: as the optimizer takes it. steps_per_call: updates in one compiled call.
  evaluate_every: updates between evaluations, each followed by a checkpoint; 0 for only at the end.
  keep_checkpoints: how many of the last to keep, besides the best.
  optimizer: `(learning_rate, num_steps) -> optax transformation`; bind options by
  `functools.partial`. objective: joins the users' losses.
  """

  num_steps: int = 2000
  batch_size: int = 64
  chunk_size: int | None = None
  shots: str | int = 'uniform'
  learning_rate: float = 3e-3
  steps_per_call: int = 100
  evaluate_every: int = 500
  keep_checkpoints: int = 2
  optimizer: optimizers.OptimizerOf = optimizers.adamw
  objective: Objective = objectives.mean()


def schedule_of(training: Training) -> loop.Schedule:
  """Returns how long is trained, and when is evaluated."""
  return loop.Schedule(training.num_steps, training.steps_per_call, training.evaluate_every)


class RunKeys(NamedTuple):
  """Independent keys of one run: of parameters and steps, and of the learner's own functions."""

  init: PRNGKey
  steps: PRNGKey
  prepare: PRNGKey
  start: PRNGKey


def run_keys(seed: int) -> RunKeys:
  """Returns a run's keys, derived from its seed."""
  key = jax.random.key(seed)
  init, steps, prepare = jax.random.split(key, 3)
  # Folding in 0, 1 or 2 would give one of these again.
  return RunKeys(init, steps, prepare, jax.random.fold_in(key, 3))


def meta_train(
  learner: MetaLearner,
  population: Population,
  training: Training = Training(),
  *,
  seed: int = 0,
  frozen: Collection[str] = (),
  name: str = 'learner',
  evaluate: loop.Evaluate | None = None,
  checkpoints: Checkpoints | None = None,
  writer: loop.WriterFrom | None = None,
  progress: bool = True,
  placement: Placement | None = None,
) -> loop.Result:
  """Returns parameters of a learner trained on the train users of a population, prepared for use.

  `learner.start` is called once before the first step, and `learner.prepare` before every
  evaluation and on what is returned: what is evaluated is what is served.

  Args:
    learner: whose loss is minimised.
    population: whose train split is drawn from.
    training: how.
    seed: of the parameters and of everything drawn.
    frozen: names of top-level parameters that are left as they are.
    name: of the learner, for messages.
    evaluate: `(prepared params, step) -> numbers`; the highest 'score' among them is the best.
    checkpoints: where to save and to resume from; they hold parameters that are not prepared.
    writer: makes the metrics writer, see `loop.fit`.
    progress: show a bar.
    placement: over devices, see `loop.fit`; of arrays that it divides the leading axis is padded.

  Raises:
    ValueError: for sizes that do not fit each other, a `start` or `prepare` that changes shapes, or
      an objective over groups of users who have none.
  """
  placement = placement or devices.placement()
  check_options(learner, training, placement)
  padded = devices.padded(population.arrays, placement, 'arrays')
  arrays = placement.place(padded, 'arrays')
  histories = histories_when_needed(population, arrays, placement)
  keys = run_keys(seed)

  def prepare_anew(params):
    return from_histories('prepare', learner.prepare, params, histories, keys.prepare)

  prepare = prepare_anew if learner.prepare is meta_learner.keep_params else last_kept(prepare_anew)
  result = loop.fit(
    learner.init(keys.init),
    step.meta_loss(
      learner, training.objective, placement=placement, chunk_size=training.chunk_size
    ),
    sampler(population, training, placement),
    arrays,
    training.optimizer(training.learning_rate, training.num_steps),
    schedule=schedule_of(training),
    key=keys.steps,
    objective_state=initial_objective(training.objective, population),
    frozen=frozen,
    start=lambda params: from_histories('start', learner.start, params, histories, keys.start),
    placement=placement,
    name=name,
    evaluate=evaluate and (lambda params, step: evaluate(prepare(params), step)),
    checkpoints=checkpoints,
    writer=writer,
    progress=progress,
  )
  # On the host again: process 0 may evaluate them alone.
  last, best = (devices.fetch(prepare(each)) for each in (result.params, result.best_params))
  return result._replace(params=last, best_params=best)


def sampler(population: Population, training: Training, placement: Placement) -> step.Sampler:
  """Returns what draws the batches that are trained on."""
  return step.task_sampler(
    population, batch_size=training.batch_size, shots=training.shots, placement=placement
  )


def check_options(learner: MetaLearner, training: Training, placement: Placement) -> None:
  """Refuses training that cannot be: schedules, rates, batches that do not divide over devices.

  Raises:
    ValueError: naming what was given and what may be.
  """
  training.optimizer(training.learning_rate, training.num_steps)
  loop.check_schedule(schedule_of(training))
  if training.keep_checkpoints < 1:
    raise ValueError(f'keep_checkpoints must be at least 1, got {training.keep_checkpoints}')
  # Coupled users are not taken in chunks, and need only divide over the devices.
  chunk_size = 1 if learner.batch_loss else training.chunk_size
  step.num_chunks(training.batch_size, chunk_size, placement)
  step.require_uncoupled(learner, placement)


def initial_objective(objective: Objective, population: Population) -> PyTree:
  """Returns the state of an objective before the first step on a population.

  Raises:
    ValueError: for an objective over groups, and users who have none.
  """
  count = user_groups.required if objective.has_groups else user_groups.num_groups
  return objective.init(count(population))


def last_kept(prepare: Callable[[Params], Params]) -> Callable[[Params], Params]:
  """Returns the function, which does not repeat what it made of the parameters given last.

  What is evaluated at the end of training is what is returned, and often also the best: a prior of
  many features would be estimated three times.
  """
  last: list[PyTree] = []

  def call(params):
    # Copies: on CPUs what is fetched may be the buffers that the next step writes to.
    given = jax.tree.map(np.copy, devices.fetch(params))
    if not last or not jax.tree.all(jax.tree.map(np.array_equal, given, last[0])):
      last[:] = given, prepare(given)
    return last[1]

  return call


def histories_when_needed(
  population: Population, arrays: PyTree, placement: Placement
) -> Callable[[], Task]:
  """Returns a function that gives the histories of the known users, computed at its first call."""
  compute = jax.jit(population.histories, out_shardings=placement.everywhere)
  return functools.cache(lambda: compute(arrays))


def from_histories(
  name: str,
  function: FromHistories,
  params: Params,
  histories: Callable[[], Task],
  key: PRNGKey,
) -> Params:
  """Returns what a learner's `start` or `prepare`, of that name, makes of the parameters.

  Raises:
    ValueError: for another structure, shape or dtype, naming the array.
  """
  if function is meta_learner.keep_params:
    return params
  made = function(params, histories(), key)
  before, after = described(params), described(made)
  wrong = [
    f'{path} is {after.get(path, "absent")} and was {before.get(path, "absent")}'
    for path in leaves.differences(before, after)
  ]
  if wrong:
    raise ValueError(f'{name} must change neither shapes nor dtypes: {"; ".join(wrong)}')
  return made


def described(params: Params) -> dict[str, str]:
  """Returns dtype and shape of each array, by path."""
  return {path: f'{x.dtype}{list(x.shape)}' for path, x in leaves.by_path(params).items()}


def prepared(learner: MetaLearner, population: Population, params: Params, seed: int) -> Params:
  """Returns parameters of a checkpoint as `meta_train` returns them: after the learner's `prepare`.

  Args:
    learner: that they are of.
    population: that it was trained on.
    params: all, frozen ones among them.
    seed: of the run.
  """
  # Over the devices as `meta_train` has them by default: the same layout gives the same bits.
  placement = devices.placement()
  arrays = placement.place(population.arrays, 'arrays')
  histories = histories_when_needed(population, arrays, placement)
  return from_histories('prepare', learner.prepare, params, histories, run_keys(seed).prepare)


def restore_best(
  learner: MetaLearner,
  population: Population,
  training: Training,
  checkpoints: Checkpoints,
  *,
  seed: int = 0,
  frozen: Collection[str] = (),
) -> tuple[Params, int] | None:
  """Returns the best parameters saved by `meta_train`, prepared, and their step; None without any.

  Args:
    learner: as it was trained, like all others.
    population: that it was trained on.
    training: how.
    checkpoints: of the run.
    seed: of the run.
    frozen: names of parameters kept out of training.

  Raises:
    ValueError: where no checkpoint is intact, or they are of other code.
  """
  keys = run_keys(seed)
  trained, fixed = step.split_frozen(learner.init(keys.init), frozen)
  optimizer = training.optimizer(training.learning_rate, training.num_steps)
  objective_state = initial_objective(training.objective, population)
  like = loop.initial_state(trained, optimizer, objective_state, keys.steps)
  found = checkpoints.best(like) or checkpoints.restore(like)
  if found is None:
    return None
  fixed = checkpoints.restore_frozen(found.frozen, fixed)
  params = devices.fetch(step.join_frozen(found.state.params, fixed))  # as `loop.fit` ends
  return prepared(learner, population, params, seed), found.step
