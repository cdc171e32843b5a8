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
from metapers.evaluation import results, tables
from metapers.evaluation.predictions import Predictions
from metapers.io import files, workdirs

CONFIG = config_flags.DEFINE_config_file('config', None, 'The table to make.', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where runs, predictions and results go.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  benchmark(commands.required(CONFIG), pathlib.Path(commands.required(WORKDIR)))


def benchmark(config: Config, workdir: pathlib.Path) -> None:
  """Trains what is missing, judges everything and prints the tables."""
  if 'benchmark' not in config:
    raise ValueError('this config describes a single run; give it to experiments.train')
  workdirs.claim(workdir, config.to_dict())
  judged = [settings.make(config, changes) for changes in config.benchmark.conditions]
  found: list[dict[str, dict[str, Predictions]]] = [{} for _ in judged]
  for setting, into in zip(judged, found):
    for name, make in references.table(config, setting).items():
      into[name] = {'': cell(workdir, setting, name, make)}
  for learner in config.benchmark.learners:
    for seed in config.benchmark.seeds:
      trained = Trained(config, learner, seed, workdir)
      for setting, into in zip(judged, found):
        made = cell(workdir, setting, f'{learner}-{seed}-{trained.num_steps}', trained.predict)
        into.setdefault(learner, {})[str(seed)] = made
  rows = [row for setting, into in zip(judged, found) for row in publish.rows_of(setting, into)]
  announce(config, workdir, judged, rows)


class Trained:
  """One learner and seed of a table; trains on first use, so that finished cells cost nothing."""

  def __init__(self, config: Config, learner: str, seed: int, workdir: pathlib.Path):
    self._config, self._learner, self._seed, self._workdir = config, learner, seed, workdir
    self._runs: list[runs.Run] | None = None
    self.num_steps = base.single(config, learner, seed=seed).training.num_steps

  def predict(self, setting: Setting) -> Predictions:
    """Predicts for the users of a setting."""
    if self._runs is None:
      self._runs = [self._train(fold) for fold in settings.folds(self._config)]
    return settings.predict(self._config, setting, self._runs)

  def _train(self, fold: int | None) -> runs.Run:
    name = f'{self._learner}-{self._seed}' + ('' if fold is None else f'-fold{fold}')
    commands.say(f'{name}: {self.num_steps} steps')
    config = base.single(self._config, self._learner, seed=self._seed, fold=fold)
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
