"""Makes a table: learners × settings × seeds, beside the oracle, the Bayes ceiling and `pooled`.

    python -m experiments.benchmark --config=experiments/configs/scores_gap.py --workdir=DIR

Each learner is trained once per seed (and fold of people) and evaluated in every setting. Finished
cells are skipped on a restart. Writes results.csv, adaptation.png and report.html into the workdir.
"""

import io
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags
from ml_collections import config_flags

from experiments import commands, publish, readings, references, runs, settings
from experiments.build import Config
from experiments.configs import base
from experiments.settings import Setting
from metapers.core import files
from metapers.evaluation import results, tables
from metapers.evaluation.predictions import Predictions
from metapers.io import report, workdirs

CONFIG = config_flags.DEFINE_config_file('config', None, 'The table to make.', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where runs, predictions and results go.')
Found = dict[str, dict[str, Predictions]]  # learner -> seed -> its predictions


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  benchmark(commands.required(CONFIG), pathlib.Path(commands.required(WORKDIR)))


def benchmark(config: Config, workdir: pathlib.Path) -> None:
  """Trains what is missing, judges everything and prints the tables."""
  if 'benchmark' not in config:
    raise ValueError('this config is of a single run; give it to experiments.train')
  judged = [settings.make(config, condition) for condition in config.benchmark.conditions]
  if config.evaluation.flips and not all(is_flippable(setting) for setting in judged):
    raise ValueError('evaluation.flips needs pairs, judged after fixed numbers of shots')
  workdirs.claim(workdir, runs.identity(config, judged[0].populations[0]))
  found = [reference_cells(config, workdir, setting) for setting in judged]
  flipped: list[Found] = [{} for _ in judged]
  for learner in config.benchmark.learners:
    for seed in config.benchmark.seeds:
      by_setting = trained(config, workdir, learner, seed)
      for one, setting, into, other in zip(by_setting, judged, found, flipped, strict=True):
        made = cell(workdir, setting, one.name, one.predict)
        into.setdefault(learner, {})[str(seed)] = made
        if config.evaluation.flips:
          made = cell(workdir, setting, f'{one.name}-flipped', one.predict_flipped)
          other.setdefault(learner, {})[str(seed)] = made
  announce(config, workdir, judged, *written(judged, found, flipped))


def reference_cells(config: Config, workdir: pathlib.Path, setting: Setting) -> Found:
  """Makes the references of a setting, or loads them."""
  return {
    name: {'': cell(workdir, setting, name, make)}
    for name, make in references.table(config, setting).items()
  }


def trained(config: Config, workdir: pathlib.Path, learner: str, seed: int) -> list['Trained']:
  """Returns a learner for each setting: the same one, or trained anew in each."""
  conditions = config.benchmark.conditions
  if config.benchmark.retrain:
    return [Trained(config, learner, seed, workdir, condition) for condition in conditions]
  return [Trained(config, learner, seed, workdir)] * len(conditions)


def written(
  judged: list[Setting], found: list[Found], flipped: list[Found]
) -> tuple[list[results.Row], list[report.Section]]:
  """Judges all predictions: rows of results, and sections of the report."""
  rows, sections = [], []
  for setting, into, other in zip(judged, found, flipped):
    made = publish.rows_of(setting, into)
    sections.append(publish.section(made, setting))
    if setting.stream is None:
      reading = readings.read(setting, into, extras=readings.Extras(flipped=other or None))
      sections.append(reading.section)
      made += reading.rows
    rows += made
  return rows, sections


def is_flippable(setting: Setting) -> bool:
  """Tells whether the labels of a setting have opposites."""
  return setting.stream is None and setting.tasks.support.candidates.mask.shape[-1] == 2


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

  def _trained(self) -> list[runs.Run]:
    if self._runs is None:
      self._runs = [self._train(config) for config in self._configs]
    return self._runs

  def _train(self, config: Config) -> runs.Run:
    fold = config.population.kwargs.get('fold')
    name = self._row + ('' if fold is None else f'-fold{fold}')
    commands.say(f'{name}: {config.training.num_steps} steps')
    return runs.train(config, self._workdir / 'runs' / name)


def cell(workdir: pathlib.Path, setting: Setting, name: str, make) -> Predictions:
  """Loads predictions of a finished cell, or makes and keeps them."""
  path = workdir / 'predictions' / setting.name / f'{name}.npz'
  if not path.exists():
    made = make(setting)
    buffer = io.BytesIO()
    np.savez(buffer, log_probs=made.log_probs, slate_scores=made.slate_scores)
    files.write_atomically(path, buffer.getvalue())
  with np.load(path, allow_pickle=False) as stored:
    return Predictions(stored['log_probs'], stored['slate_scores'])


def announce(
  config: Config,
  workdir: pathlib.Path,
  judged: list[Setting],
  rows: list[results.Row],
  sections: list[report.Section],
) -> None:
  """Writes the results and prints the tables and where everything is."""
  for setting in judged:
    commands.say(f'\n{setting.title}\ndata: {setting.populations[0].record["source"]}')
    metric = publish.headline(setting)
    shown = tables.table(publish.of_setting(rows, setting), metric=metric)
    commands.say(tables.as_text(shown))
  paths = [
    results.write(workdir / 'results.csv', rows),
    publish.picture(rows, judged[0], workdir / 'adaptation.png'),
    publish.page(sections, judged, config, workdir / 'report.html'),
  ]
  commands.say('\n' + '\n'.join(map(str, paths)))


if __name__ == '__main__':
  commands.run(main)
