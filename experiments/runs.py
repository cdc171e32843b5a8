"""One training run: from a config to trained parameters, resumed where it stood."""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import config_dict

from experiments import build, export
from experiments.build import Config
from experiments.configs import base
from metapers.core import meta_learner
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population
from metapers.core.types import Params
from metapers.evaluation import adaptation, metrics
from metapers.io import workdirs
from metapers.io.checkpoints import Checkpoints
from metapers.io.writers import MetricsWriter
from metapers.training import loop, meta_training, objectives


class Run(NamedTuple):
  """A trained learner: `params` are the best on validation users, prepared for new ones.

  was_done: the workdir held all steps already, so that nothing was trained.
  """

  learner: MetaLearner
  params: Params
  population: Population
  best_step: int
  was_done: bool = False


def identity(config: Config, population: Population) -> dict[str, Any]:
  """Returns what makes two runs the same: the config, and the data by their hash."""
  return {**config.to_dict(), 'data': population.record.get('data', '')}


def validation(
  config: Config, learner: MetaLearner, population: Population
) -> Callable[[Params, int], Mapping[str, float]]:
  """Makes the callback that scores parameters: minus the mean NLL over the validation users.

  The mean runs over the config's numbers of shots: a learner is chosen for its whole curve.
  """
  part = config.evaluation
  shots = evaluated_shots(config, population)
  size = min(part.num_validation_users, population.spec.num_held_out['validation'])
  tasks, truth = adaptation.episodes(population, split='validation', num_users=size)
  del truth  # validation judges choices, as real people would

  def evaluate(params: Params, step: int) -> Mapping[str, float]:
    del step
    predictions = adaptation.evaluate(
      learner, params, tasks, shots=shots, chunk_size=part.chunk_size, key=jax.random.key(0)
    )
    means = jax.device_get(metrics.user_means(predictions, tasks))
    by_shots = {f'accuracy_{k}_shots': float(v) for k, v in zip(shots, means['accuracy'])}
    return {'score': -float(np.mean(means['nll'])), **by_shots}

  return evaluate


def evaluated_shots(config: Config, population: Population) -> tuple[int, ...]:
  """Returns the config's numbers of shots.

  Raises:
    ValueError: for more shots than any history holds.
  """
  shots, most = tuple(config.evaluation.shots), population.spec.num_support
  if not shots or max(shots) > most or min(shots) < 0:
    raise ValueError(
      f'evaluation.shots must lie in 0..{most} (num_support of the population), got {shots}; raise '
      'population.kwargs.num_support, in experiments.evaluate by --set=num_support=NUMBER'
    )
  return shots


def train(
  config: Config, workdir: str | os.PathLike | None = None, *, progress: bool = True
) -> Run:
  """Trains `config.learner` on `config.population`, or goes on where the workdir stands.

  Args:
    config: of a single run.
    workdir: of checkpoints and metrics; None keeps nothing.
    progress: show a bar.

  Raises:
    ValueError: for options that do not fit each other, or a workdir of another config.
  """
  population = build.population(config)
  learner = build.learner(config, population.spec)
  part = config.training
  checkpoints, was_done = None, False
  if workdir is not None:
    checkpoints = Checkpoints(workdir, identity(config, population), keep=part.keep_checkpoints)
    was_done = checkpoints.newest_step() >= part.num_steps
  result = meta_training.meta_train(
    learner,
    population,
    build.optimizer(part),
    plan=loop.Plan(part.num_steps, part.steps_per_call, part.evaluate_every),
    batch_size=part.batch_size,
    chunk_size=part.chunk_size,
    shots=part.shots,
    seed=config.seed,
    name=config.learner.name,
    evaluate=validation(config, learner, population),
    checkpoints=checkpoints,
    writer=None if workdir is None else lambda start: MetricsWriter(workdir, from_step=start),
    progress=progress,
  )
  if checkpoints:
    checkpoints.close()
  params = prepared(learner, population, result.best_params, config.seed)
  if workdir is not None:
    export.write(workdir, config, population, params)
  return Run(learner, params, population, result.best_step, was_done)


def prepared(learner: MetaLearner, population: Population, params: Params, seed: int) -> Params:
  """Calls the learner's `prepare` on the histories of the known users."""
  if learner.prepare is meta_learner.keep_params:
    return params
  histories = jax.jit(population.histories)(population.arrays)
  return learner.prepare(params, histories, meta_training.run_keys(seed).prepare)


def restored(
  workdir: str | os.PathLike, moved: Mapping[str, Any] | None = None
) -> tuple[Config, Run]:
  """Loads the best parameters of a finished or interrupted run, without training.

  Args:
    workdir: of the run.
    moved: options of the population that say where its data lie now.

  Raises:
    ValueError: where there is no run, or nothing was saved yet.
  """
  stored = workdirs.read(workdir)
  stored.pop('data', None)
  config: Config = config_dict.ConfigDict(stored)
  base.update('population', config.population.kwargs, moved or {})
  population = build.population(config)
  learner = build.learner(config, population.spec)
  optimizer = build.optimizer(config.training)
  checkpoints = Checkpoints(workdir, identity(config, population), read_only=True)
  keys = meta_training.run_keys(config.seed)
  start = learner.init(keys.init)
  like = loop.initial_state(start, optimizer, objectives.mean().init(), keys.steps)
  found = checkpoints.best(like) or checkpoints.restore(like)
  checkpoints.close()
  if found is None:
    raise ValueError(f'{workdir} holds no checkpoint yet; let experiments.train run longer')
  params = prepared(learner, population, found.state.params, config.seed)
  return config, Run(learner, params, population, found.step)
