"""Looks for leaks in the users of a config, before anything is trained on them.

    python -m experiments.leaks --config=experiments/configs/lore.py:quick

One line for each check of each population that is trained or evaluated on: `ok`, `LEAK`, or `note`
for a likeness that chance may explain. Exit code 1 says that something leaks. `--conversations`
says that a context of the people's comparisons is a conversation of one person, which must not be
divided.
"""

import inspect
import pathlib
import sys
from typing import Any

import pandas as pd
from absl import flags

from experiments import build, commands, guide, overrides
from experiments.build import Config
from metapers.bench import plan
from metapers.data import comparisons, feature_store, manifest, people_tables
from metapers.evaluation import leaks
from metapers.evaluation.leaks import Leaks, text_checks

CONFIG = overrides.DEFINE_config('config', 'The run or table.')
CONVERSATIONS = flags.DEFINE_bool('conversations', False, 'Contexts are conversations.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  config, num_leaks = commands.required(CONFIG), 0
  for name, make in plan.populations_of(build.plan(config)).items():
    commands.say(f'{config.protocol}: {name}')
    num_leaks += report(leaks.find_leaks(make(), contexts_are_conversations=CONVERSATIONS.value))
  num_leaks += report(leaks_of_texts(config))
  if num_leaks:
    sys.exit(1)


def leaks_of_texts(config: Config) -> Leaks:
  """Returns the leaks of the texts behind a config's features, where these are kept."""
  kwargs = config.population.kwargs.to_dict()
  if config.population.name == 'people':
    return leaks_of_items(pathlib.Path(kwargs['path']), **kwargs)
  if config.population.name == 'reward_ensemble' and kwargs['store'] != 'synthetic':
    return leaks_of_store(pathlib.Path(kwargs['store']))
  return {}


def leaks_of_items(folder: pathlib.Path, **kwargs: Any) -> Leaks:
  """Returns the leaks of the texts that people chose among; {} where there are none."""
  items = people_tables.read_items(folder)
  if 'text' not in items:
    return {}
  reads = inspect.signature(comparisons.load_comparisons).parameters
  options = {name: value for name, value in kwargs.items() if name in reads}
  histories = comparisons.load_comparisons(**options)
  return {'texts': text_checks.revealing_items(items['text'].astype(str).to_numpy(), histories)}


def leaks_of_store(folder: pathlib.Path) -> Leaks:
  """Returns the leaks of the prompts of a feature store; {} where it holds no texts."""
  path = manifest.file_of(folder, manifest.TEXTS)
  if not path.exists():
    return {}
  prompts = pd.read_parquet(path, columns=['prompt'])['prompt'].to_numpy()
  split = feature_store.open_store(folder, verify=False).prompt_split
  return {'texts': text_checks.repeated_prompts(prompts, split)}


def report(found: Leaks) -> int:
  """Prints a line for each check, and returns the number of leaks."""
  for kind, leaks_of_kind in found.items():
    if not leaks_of_kind:
      commands.say(f'  ok    {kind}: {leaks.CLAIMS[kind]}')
    for leak in leaks_of_kind:
      commands.say(f'  {"LEAK" if leak.is_certain else "note"}  {kind}: {leak.message}')
  return sum(leak.is_certain for leaks_of_kind in found.values() for leak in leaks_of_kind)


if __name__ == '__main__':
  commands.run(main, lambda: guide.of_runs('lore'))
