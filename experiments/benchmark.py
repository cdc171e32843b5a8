"""Makes a table: learners × settings × seeds, beside the oracle, the Bayes ceiling and `pooled`.

    python -m experiments.benchmark --config=experiments/configs/scores_gap.py --workdir=DIR

Each learner is trained once per seed (and fold of people) and evaluated in every setting. Finished
cells are skipped on a restart. Writes results.csv, adaptation.png and report.html into the workdir.
"""

import pathlib
from collections.abc import Mapping

from absl import flags
from ml_collections import config_flags

from experiments import (
  build,
  commands,
  populations,
  price_readings,
  publish,
  readings,
  references,
  runs,
  settings,
  trained,
)
from experiments.build import Config
from experiments.settings import Setting
from metapers.analysis.costs import Costs
from metapers.bench import results, tables
from metapers.core import files
from metapers.evaluation import leaks
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
  require_no_leaks(config, workdir)
  found = [reference_cells(config, workdir, setting) for setting in judged]
  flipped: list[Found] = [{} for _ in judged]
  costs: dict[str, Costs] = {}
  for learner in config.benchmark.learners:
    for seed in config.benchmark.seeds:
      learned = trained.by_setting(config, workdir, learner, seed)
      for one, setting, into, other in zip(learned, judged, found, flipped, strict=True):
        made = trained.cell(workdir, setting, one.name, one.predict)
        into.setdefault(learner, {})[str(seed)] = made
        if config.evaluation.flips:
          made = trained.cell(workdir, setting, f'{one.name}-flipped', one.predict_flipped)
          other.setdefault(learner, {})[str(seed)] = made
      if learner not in costs:
        costs[learner] = trained.costs(workdir, learned[0], judged[0])
  announce(config, workdir, judged, *written(config, judged, found, flipped, costs))


def require_no_leaks(config: Config, workdir: pathlib.Path) -> None:
  """Checks every population, once, before anything is trained or judged on it.

  Raises:
    ValueError: listing what leaks.
  """
  for name, part in populations.of_config(config).items():
    path = workdir / 'leaks' / f'{name}.txt'
    if not path.exists():
      commands.say(f'{name}: looking for leaks')
      histories = build.histories(part)
      leaks.require_none(leaks.check(build.population(part), histories=histories))
      files.write_atomically(path, 'none found\n')


def reference_cells(config: Config, workdir: pathlib.Path, setting: Setting) -> Found:
  """Makes the references of a setting, or loads them."""
  return {
    name: {'': trained.cell(workdir, setting, name, make)}
    for name, make in references.table(config, setting).items()
  }


def extras_of(config: Config, flipped: Found, costs: Mapping[str, Costs] | None) -> readings.Extras:
  """Collects what the readings of a setting are given besides predictions."""
  options = config.population.kwargs
  is_stored = 'store' in options and options.store != 'synthetic'
  return readings.Extras(
    flipped=flipped or None,
    costs=costs,
    texts=price_readings.read_texts(options.store, options.responses) if is_stored else None,
    trained_on=None if config.benchmark.retrain else build.population(config),
  )


def written(
  config: Config,
  judged: list[Setting],
  found: list[Found],
  flipped: list[Found],
  costs: Mapping[str, Costs],
) -> tuple[list[results.Row], list[report.Section]]:
  """Judges all predictions: rows of results, and sections of the report."""
  rows, sections = [], []
  for setting, into, other in zip(judged, found, flipped):
    judgement = publish.judge_all(setting, into)
    made = publish.rows_of(setting, judgement)
    sections.append(publish.section(made, setting))
    if setting.stream is None:
      extras = extras_of(config, other, costs if setting is judged[0] else None)
      reading = readings.read(setting, into, publish.over_seeds(judgement), extras=extras)
      sections.append(reading.section)
      made += reading.rows
    rows += made
  return rows, sections


def is_flippable(setting: Setting) -> bool:
  """Tells whether the labels of a setting have opposites."""
  return setting.stream is None and setting.tasks.support.candidates.mask.shape[-1] == 2


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
