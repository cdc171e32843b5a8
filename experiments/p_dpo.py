"""Tunes a language model by preferences with soft tokens of users, and evaluates it beside DPO.

    python -m experiments.p_dpo --config=experiments/configs/p_dpo_styles.py:quick --workdir=DIR

Killed at any moment, the same command goes on. --study and --row take a part of the table; its
rows are added to DIR/results.csv.
"""

import pathlib
from collections.abc import Mapping

import pandas as pd
from absl import flags

from experiments import (
  commands,
  constructed_studies,
  overrides,
  parallel,
  published_studies,
  styled_generations,
  styled_studies,
)
from experiments.build import Config
from experiments.constructed_studies import Asked
from metapers.bench import results
from metapers.bench.language import policies
from metapers.bench.language.policies import Study
from metapers.core.types import Params
from metapers.io import processes, workdirs
from metapers.llm import trained
from metapers.llm.decoder import Decoder
from metapers.llm.trained import About, Trained

CONFIG = overrides.DEFINE_config('config', 'The studies and their rows.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where checkpoints, metrics and results go.')
flags.adopt_module_key_flags(parallel)
STUDIES = flags.DEFINE_list('study', [], 'Studies to run; all by default.')
OF_TABLE = (
  'model', 'pretraining', 'heeded', 'data_seed', 'data', 'model_files', 'data_files', 'store',
  'policy', 'training', 'studies',
)  # fmt: skip
IN_WORDS = 'accuracy(@|$)|adjusted_rand|effective|generated|likeliest|reply_|chosen_|rejected_'
ROWS = flags.DEFINE_list('row', [], 'Rows of them to run; all by default.')
BASE = 'base'  # the row of the language model as it is, of which only what it writes is told


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  parallel.begin()
  config = commands.required(CONFIG)
  workdir = pathlib.Path(commands.required(WORKDIR))
  check_names(config)
  with commands.holding(workdir):
    content = source_of(config).content_of(config)
    workdirs.claim(workdir, {**config.to_dict(), **content}, of_table)
    maker = published_studies if 'data' in config else styled_studies
    model, base = maker.language_model(config, workdir / 'base')
    for name in asked_studies(config):
      # In no folder of a study: whatever is asked about, the base says the same.
      kept = workdir / 'reference' / f'{content.get("model_files")}.npz'
      study = source_of(config).study(config, name, model, base, kept)
      run_study(config, study, workdir, model, base, content)
  commands.say(f'\n{workdir / "results.csv"}')


def check_names(config: Config) -> None:
  """Refuses names of studies and rows that the config does not have.

  Raises:
    ValueError: naming them.
  """
  rows = dict.fromkeys(row for name in asked_studies(config) for row in config.studies[name].rows)
  for kind, given, known in (
    ('study', STUDIES.value, config.studies),
    ('row of a study', rows, config.rows),
    ('row', ROWS.value, [*rows, *config.get('beside', ()), BASE]),
    ('beside', config.get('beside', ()), constructed_studies.BESIDE),
  ):
    unknown = sorted(set(given) - set(known))
    if unknown:
      raise ValueError(f'unknown {kind} {", ".join(unknown)}; known: {", ".join(known)}')


def asked_studies(config: Config) -> list[str]:
  """Returns the studies that --study names, or all."""
  return [name for name in config.studies if not STUDIES.value or name in STUDIES.value]


def source_of(config: Config):
  """Returns the module that makes the studies of a config."""
  if 'data' not in config:
    return styled_studies
  is_constructed = config.data.kind == constructed_studies.KIND
  return constructed_studies if is_constructed else published_studies


def of_table(config):
  """Returns what of a config all rows in a workdir share: all but which rows, seeds and shots."""
  found = workdirs.flat({name: config[name] for name in OF_TABLE if name in config})
  chosen = (*workdirs.PATHS, *(f'studies.{name}.rows' for name in config['studies']))
  return {name: value for name, value in found.items() if name not in chosen}


def run_study(
  config: Config,
  study: Study,
  workdir: pathlib.Path,
  model: Decoder,
  base: Params,
  content: Mapping[str, str],
) -> None:
  """Trains and evaluates the rows of a study, and writes the results of each when it is done."""
  name = study.name
  identity = {**styled_studies.identity(config, name), **content}
  for row_name in filter(is_asked, config.get('beside', ())):
    asked = Asked(config, study, model, base, workdir / name, identity)
    frame = constructed_studies.BESIDE[row_name](asked)
    add(workdir, frame)
    commands.say(in_words(study, row_name, frame))
  if is_asked(BASE):
    add(workdir, written(config, study, BASE, 0, trained.untrained(model, base), model))
  for row_name in filter(is_asked, config.studies[name].rows):
    row = styled_studies.row(config, row_name)
    seeds = {
      seed: policies.train(
        model,
        base,
        study,
        row,
        name=row_name,
        seed=seed,
        workdir=workdir / 'runs' / name,
        identity=identity,
        placement=parallel.placement(),
      )
      for seed in config.seeds
    }
    parts = [policies.evaluate(study, row, row_name, seeds)]
    seen = policies.as_seen(study, row)
    parts += [written(config, seen, row_name, seed, made, model) for seed, made in seeds.items()]
    frame = results.join(parts)
    add(workdir, frame)
    commands.say(in_words(study, row_name, frame))
    if study.users and processes.is_first():
      text_length = config.data.lengths.get('text', 0) if row.reads_text else 0
      told = study.users, text_length, config.data.is_chat, identity['model_files']
      keep(seeds, About(row.options, *told), workdir / 'policies' / name, row_name)


def keep(seeds: Mapping[int, Trained], about: About, folder: pathlib.Path, row: str) -> None:
  """Writes the policies of a row for `experiments.answer`."""
  for seed, made in seeds.items():
    where = trained.save(folder / f'{row}_{seed}', made, about)
    commands.say(f'experiments.answer --policy={where} answers by it')


def add(workdir: pathlib.Path, frame: pd.DataFrame) -> None:
  """Adds rows to the results, if there are some, in the first process alone."""
  if len(frame) and processes.is_first():
    results.append_results(workdir / 'results.csv', frame)


def is_asked(row: str) -> bool:
  """Returns whether --row names a row, or none."""
  return not ROWS.value or row in ROWS.value


def written(
  config: Config, study: Study, row: str, seed: int, made: Trained, model: Decoder
) -> pd.DataFrame:
  """Returns what a row's answers are like, of known users and of nobody, and shows some."""
  if study.types is None:
    return results.join([])  # nobody knows what these users like
  if 'data' in config:
    found, shown = constructed_studies.written(config, study, made, model)
  else:
    found, shown = styled_generations.written(model, made, study, config.data_seed)
  commands.say(f'{study.name}: {row}, seed {seed}, the likeliest responses\n{shown}')
  of_nobody = f'{row} generic' if policies.differs(made) else row
  labels = {True: of_nobody, False: row}
  return results.join(
    [policies.plain_rows(study, labels[is_nobody], seed, each) for is_nobody, each in found]
  )


def in_words(study: policies.Study, row: str, frame) -> str:
  """Returns the accuracies of a row in a few lines."""
  shown = frame[frame['metric'].str.match(IN_WORDS)]
  lines = [
    f'  {one.learner:<28} {one.split:<5} {one.shots:>3} {one.metric:<28} {one.value:6.3f}'
    + (f' [{one.ci_low:.3f}, {one.ci_high:.3f}]' if pd.notna(one.ci_low) else '')
    for one in shown.itertuples()
  ]
  return '\n'.join([f'{study.name}: {row}', *lines])


if __name__ == '__main__':
  commands.run(main)
