"""Makes a table: learners × settings × seeds, beside the oracle, the Bayes ceiling and `pooled`.

    python -m experiments.benchmark --config=experiments/configs/scores_gap.py --workdir=DIR

Each learner is trained once per seed (and fold of people) and evaluated in every setting. Finished
cells are skipped on a restart. Writes results.csv, adaptation.png and report.html into the workdir.
"""

import io
import pathlib

import numpy as np
from absl import flags
from ml_collections import config_flags

from experiments import commands, publish, references, runs, settings
from experiments.build import Config
from experiments.configs import base
from experiments.settings import Setting
from metapers.core import files
from metapers.evaluation import results, tables
from metapers.evaluation.predictions import Predictions
from metapers.io import workdirs

CONFIG = config_flags.DEFINE_config_file('config', None, 'The table to make.', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where runs, predictions and results go.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  benchmark(commands.required(CONFIG), pathlib.Path(commands.required(WORKDIR)))


def benchmark(config: Config, workdir: pathlib.Path) -> None:
  """Trains what is missing, judges everything and prints the tables."""
  if 'benchmark' not in config:
    raise ValueError('this config is of a single run; give it to experiments.train')
  judged = [settings.make(config, changes) for changes in config.benchmark.conditions]
  trained = [
    Trained(config, learner, seed, workdir)
    for learner in config.benchmark.learners
    for seed in config.benchmark.seeds
  ]
  workdirs.claim(workdir, runs.identity(config, judged[0].populations[0]))
  found: list[dict[str, dict[str, Predictions]]] = [{} for _ in judged]
  for setting, into in zip(judged, found):
    for name, make in references.table(config, setting).items():
      into[name] = {'': cell(workdir, setting, name, make)}
  for one in trained:
    for setting, into in zip(judged, found):
      made = cell(workdir, setting, one.name, one.predict)
      into.setdefault(one.learner, {})[str(one.seed)] = made
  rows = [row for setting, into in zip(judged, found) for row in publish.rows_of(setting, into)]
  announce(config, workdir, judged, rows)


class Trained:
  """One learner and seed of a table; trains on first use, so that finished cells cost nothing."""

  def __init__(self, config: Config, learner: str, seed: int, workdir: pathlib.Path):
    self.learner, self.seed = learner, seed
    self._config, self._workdir = config, workdir
    self._configs = [
      base.single(config, learner, seed=seed, fold=fold) for fold in settings.folds(config)
    ]
    self._runs: list[runs.Run] | None = None
    self.name = f'{learner}-{seed}-{self._configs[0].training.num_steps}'

  def predict(self, setting: Setting) -> Predictions:
    """Predicts for the users of a setting."""
    if self._runs is None:
      self._runs = [self._train(config) for config in self._configs]
    return settings.predict(self._config, setting, self._runs)

  def _train(self, config: Config) -> runs.Run:
    fold = config.population.kwargs.get('fold')
    name = f'{self.learner}-{self.seed}' + ('' if fold is None else f'-fold{fold}')
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
) -> None:
  """Writes the results and prints the tables and where everything is."""
  for setting in judged:
    commands.say(f'\n{setting.title}\ndata: {setting.populations[0].record["source"]}')
    commands.say(tables.as_text(tables.table(publish.of_setting(rows, setting))))
  paths = [
    results.write(workdir / 'results.csv', rows),
    publish.picture(rows, judged[0], workdir / 'adaptation.png'),
    publish.page(rows, judged, config, workdir / 'report.html'),
  ]
  commands.say('\n' + '\n'.join(map(str, paths)))


if __name__ == '__main__':
  commands.run(main)
