"""One training run: from a learner and a population to parameters, resumed where it stood."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.bench import plan as plans
from metapers.bench.plan import Entry, Evaluation
from metapers.core import task
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population, episode_shapes
from metapers.core.types import Params
from metapers.evaluation import adaptation, metrics
from metapers.io import processes, workdirs
from metapers.io import progress as bars
from metapers.io.checkpoints import Checkpoints
from metapers.io.writers import MetricsWriter
from metapers.serving import exports
from metapers.training import devices, meta_training
from metapers.training.devices import Placement


class Run(NamedTuple):
  """A trained learner: `params` are the best on validation users, prepared for new ones.

  was_done: the workdir held all steps already, so that nothing was trained.
  """

  learner: MetaLearner
  params: Params
  population: Population
  best_step: int
  was_done: bool = False


def validation(
  learner: MetaLearner,
  population: Population,
  evaluation: Evaluation,
  without: Collection[Any] = (),
) -> Callable[[Params, int], Mapping[str, float]]:
  """Returns the callback that scores parameters: minus the mean NLL over the validation users.

  The mean runs over all numbers of shots: parameters are chosen for the whole curve.

  Args:
    learner: whose parameters are scored.
    population: of the users.
    evaluation: how many users, and after how many comparisons.
    without: ids of real people who are left out; not all.
  """
  shots = plans.validation_shots(evaluation, population.spec)
  kept = range(population.spec.num_held_out['validation'])
  if without and population.items is not None:
    names = population.items.user_ids(population.arrays, 'validation').tolist()
    kept = [number for number in kept if names[number] not in without]
  kept = list(kept)[: evaluation.num_validation_users]
  tasks, _ = adaptation.episodes(population, split='validation', num_users=kept[-1] + 1)
  tasks = task.take(tasks, jnp.array(kept, jnp.int32))

  def evaluate(params: Params, step: int) -> Mapping[str, float]:
    del step
    predictions = adaptation.evaluate(
      learner, params, tasks, shots=shots, chunk_size=evaluation.chunk_size, key=jax.random.key(0)
    )
    means = jax.device_get(metrics.user_means(predictions, tasks))
    by_shots = {f'accuracy_{k}_shots': float(v) for k, v in zip(shots, means['accuracy'])}
    return {'score': -float(np.mean(means['nll'])), **by_shots}

  return evaluate


def train(
  entry: Entry,
  population: Population,
  *,
  evaluation: Evaluation = Evaluation(),
  seed: int = 0,
  name: str = 'learner',
  workdir: str | os.PathLike | None = None,
  identity: Mapping[str, Any] = plans.NOTHING,
  placement: Placement | None = None,
  progress: bool = True,
) -> Run:
  """Trains a learner on a population, or goes on where the workdir stands.

  Args:
    entry: the learner, and how it is trained.
    population: whose train users it is trained on.
    evaluation: for validation.
    seed: of the parameters and of everything drawn.
    name: of the learner, for messages.
    workdir: of checkpoints, metrics and the export; None keeps nothing.
    identity: JSON values that make the run, compared when it is resumed.
    placement: over devices; by default users over all of them, in one program.
    progress: show a bar.

  Raises:
    ValueError: for options that do not fit each other, or a workdir of another run or that another
      process is writing.
  """
  learner, training = plans.build(entry, population.spec), entry.training
  evaluate = validation(learner, population, evaluation)
  with contextlib.ExitStack() as stack:
    stack.enter_context(workdirs.holding(workdir))
    stack.enter_context(bars.compiling(name, shown=False))  # `meta_train` says its own
    checkpoints = None
    if workdir is not None:
      checkpoints = Checkpoints(workdir, identity, keep=training.keep_checkpoints)
      stack.callback(checkpoints.close)
    result = meta_training.meta_train(
      learner,
      population,
      training,
      seed=seed,
      name=name,
      evaluate=evaluate,
      checkpoints=checkpoints,
      writer=None if workdir is None else lambda start: MetricsWriter(workdir, from_step=start),
      placement=placement,
      progress=progress,
    )
  was_done = checkpoints is not None and checkpoints.restored_step >= training.num_steps
  is_served = bool(entry.name) and exports.is_servable(population.spec)
  if workdir is not None and is_served and processes.is_first():
    folder = pathlib.Path(workdir) / exports.FOLDER
    made = to_export(entry, population, result.best_params)
    if not (was_done and is_there(folder, made)):
      exports.write_export(folder, made)
  return Run(learner, result.best_params, population, result.best_step, was_done)


def check_training(
  entry: Entry, population: Population, name: str, placement: Placement | None = None
) -> None:
  """Refuses training that cannot start, before other learners have been trained.

  Raises:
    ValueError: naming the learner and what does not fit.
  """
  training, placement = entry.training, placement or devices.placement()
  try:
    learner = plans.build(entry, population.spec)
    meta_training.check_options(learner, training, placement)
    meta_training.initial_objective(training.objective, population)
    meta_training.sampler(population, training, placement)
    key = jax.random.key(0)
    params = jax.eval_shape(learner.init, key)
    jax.eval_shape(learner.loss, params, episode_shapes(population, 'train'), key)
  except (TypeError, ValueError) as error:
    raise ValueError(f'{name}: {error}') from error


def restored(
  entry: Entry,
  population: Population,
  workdir: str | os.PathLike,
  *,
  seed: int = 0,
  identity: Mapping[str, Any] = plans.NOTHING,
) -> Run:
  """Returns the best parameters of a finished or interrupted run, without training.

  Args:
    entry: as it was trained.
    population: that it was trained on.
    workdir: of the run.
    seed: of the run.
    identity: of the run.

  Raises:
    ValueError: where nothing was saved yet, or the run is another one.
  """
  learner = plans.build(entry, population.spec)
  checkpoints = Checkpoints(workdir, identity, read_only=True)
  found = meta_training.restore_best(learner, population, entry.training, checkpoints, seed=seed)
  checkpoints.close()
  if found is None:
    raise ValueError(f'{workdir} holds no checkpoint yet; let the training run longer')
  params, step = found
  return Run(learner, params, population, step)


def is_there(folder: pathlib.Path, export: exports.Export) -> bool:
  """Tells whether an export is there and whole; an extended run leaves that of the shorter one."""
  try:
    found = exports.read_export(folder)
  except ValueError:
    return False
  return exports.fingerprint(found) == exports.fingerprint(export)


def to_export(entry: Entry, population: Population, params: Params) -> exports.Export:
  """Returns a trained learner as an export, which `Personalizer` loads."""
  training = entry.training
  kind = 'synthetic ' if population.source.startswith('synthetic') else ''
  return exports.export_of(
    entry.name,
    {**plans.sizes(entry.factory, population.spec), **entry.kwargs},
    params,
    population,
    about=(
      f'{entry.name} trained on {kind}users for {training.num_steps} steps of '
      f'{training.batch_size}; {population.source}'
    ),
  )
