"""The learners of a table: trained on first use, and what they predicted kept in the workdir."""

import io
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from experiments import commands, runs, settings
from experiments.build import Config
from experiments.configs import base
from experiments.settings import Setting
from metapers.analysis import costs as measured_costs
from metapers.analysis.costs import Costs
from metapers.core import files
from metapers.evaluation.predictions import Predictions


class Trained:
  """One learner and seed of a table; trains on first use, so that finished cells cost nothing.

  Args:
    config: of the table.
    learner: its row.
    seed: of training.
    workdir: of the table.
    condition: to train on, where each has its own training.
  """

  def __init__(
    self,
    config: Config,
    learner: str,
    seed: int,
    workdir: pathlib.Path,
    condition: Mapping[str, Any] | None = None,
  ):
    changes, _ = settings.divide(condition or {})
    own = ''.join(f'-{name}={value}' for name, value in changes.items())
    self._config, self._workdir, self._row = config, workdir, f'{learner}-{seed}{own}'
    self._configs = [
      base.single(config, learner, seed=seed, fold=fold, changes=changes)
      for fold in settings.folds(config)
    ]
    self._runs: list[runs.Run] | None = None
    self.name = f'{learner}-{seed}-{self._configs[0].training.num_steps}'

  def predict(self, setting: Setting) -> Predictions:
    """Predicts for the users of a setting."""
    return settings.predict(self._config, setting, self._trained())

  def predict_flipped(self, setting: Setting) -> Predictions:
    """Predicts for the users of a setting, told the opposite of what they chose."""
    return settings.predict(self._config, setting, self._trained(), is_flipped=True)

  def cost(self, setting: Setting) -> Costs:
    """Measures what it costs to adapt to users of a setting."""
    run, size = self._trained()[0], self._config.evaluation.chunk_size
    return measured_costs.measure(
      run.learner, run.params, setting.tasks, batch_size=size, key=jax.random.key(0)
    )

  def _trained(self) -> list[runs.Run]:
    if self._runs is None:
      self._runs = [self._train(config) for config in self._configs]
    return self._runs

  def _train(self, config: Config) -> runs.Run:
    fold = config.population.kwargs.get('fold')
    name = self._row + ('' if fold is None else f'-fold{fold}')
    commands.say(f'{name}: {config.training.num_steps} steps')
    return runs.train(config, self._workdir / 'runs' / name)


def by_setting(config: Config, workdir: pathlib.Path, learner: str, seed: int) -> list[Trained]:
  """Returns a learner for each setting: the same one, or trained anew in each."""
  conditions = config.benchmark.conditions
  if config.benchmark.retrain:
    return [Trained(config, learner, seed, workdir, condition) for condition in conditions]
  return [Trained(config, learner, seed, workdir)] * len(conditions)


def costs(workdir: pathlib.Path, one: Trained, setting: Setting) -> Costs:
  """Loads what a learner costs, or measures it on the users of a setting and keeps it."""
  path = workdir / 'costs' / f'{one.name}.json'
  if not path.exists():
    files.write_atomically(path, json.dumps(one.cost(setting)._asdict()))
  return Costs(**json.loads(path.read_text(encoding='utf-8')))


def cell(
  workdir: pathlib.Path, setting: Setting, name: str, make: Callable[[Setting], Predictions]
) -> Predictions:
  """Loads predictions of a finished cell, or makes and keeps them."""
  path = workdir / 'predictions' / setting.name / f'{name}.npz'
  if not path.exists():
    made = make(setting)
    buffer = io.BytesIO()
    np.savez(buffer, log_probs=made.log_probs, slate_scores=made.slate_scores)
    files.write_atomically(path, buffer.getvalue())
  with np.load(path, allow_pickle=False) as stored:
    return Predictions(stored['log_probs'], stored['slate_scores'])
