"""Looks for leaks in the users of a config, before anything is trained on them.

    python -m experiments.leaks --config=experiments/configs/lore.py:quick

One line for each check, `ok` or `LEAK`, of each population that is trained or judged on. Exit code
1 says that something leaks. `--conversations` says that a context of the people's comparisons is a
conversation of one person, which must not be divided.
"""

import pathlib
import sys

import numpy as np
import pandas as pd
from absl import flags
from ml_collections import config_flags

from experiments import build, commands, populations
from experiments.build import Config
from metapers.core.population import SPLITS
from metapers.core.tables import Histories
from metapers.data import feature_store, people_tables
from metapers.evaluation import leaks
from metapers.evaluation.leaks import Found, prompt_checks, text_checks

CONFIG = config_flags.DEFINE_config_file('config', None, 'The run or table.', lock_config=True)
CONVERSATIONS = flags.DEFINE_bool('conversations', False, 'Contexts are conversations.')
MOST_TEXTS = 5000  # comparisons whose texts are looked at
CHECKED = {
  'users': 'no user of one split is a user of another',
  'people': 'no person of one split is in another',
  'conversations': 'no conversation is on two sides',
  'prompts': 'no judged prompt was learned from',
  'pairs': 'no judged comparison stands in its own support',
  'cues': 'nothing but taste tells what was chosen',
  'texts': 'no text, and no form of one, gives anything away',
  'selection': 'nobody is judged on whom models were chosen',
}


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  config = commands.required(CONFIG)
  num_leaks = 0
  for name, part in populations.of_config(config).items():
    commands.say(f'{config.protocol}: {name}')
    num_leaks += told(of_population(part, conversations=CONVERSATIONS.value))
  num_leaks += told(of_texts(config))
  if num_leaks:
    sys.exit(1)


def of_population(config: Config, *, conversations: bool = False) -> Found:
  """Checks the population of a config, and people by their ids, too."""
  return leaks.by_kind(
    build.population(config),
    histories=build.histories(config),
    contexts_are_conversations=conversations,
  )


def of_texts(config: Config) -> Found:
  """Checks the texts behind a config's features, where they are kept."""
  kwargs = config.population.kwargs
  if config.population.name == 'people':
    return of_item_texts(pathlib.Path(kwargs.path), build.histories(config))
  if config.population.name == 'reward_ensemble' and kwargs.store != 'synthetic':
    return of_prompt_texts(pathlib.Path(kwargs.store))
  return {}


def of_item_texts(folder: pathlib.Path, histories: Histories | None) -> Found:
  """Checks that the form of the items' texts does not tell which one was chosen."""
  items = people_tables.read_items(folder)
  if histories is None or 'text' not in items:
    return {}
  texts, every = items['text'].astype(str).to_numpy(), histories.mask
  chosen, rejected = histories.chosen[every], histories.rejected[every]
  some = np.unique(np.linspace(0, len(chosen) - 1, MOST_TEXTS).astype(int))
  return {'texts': text_checks.texts_tell(texts[chosen[some]], texts[rejected[some]])}


def of_prompt_texts(folder: pathlib.Path) -> Found:
  """Checks that no prompt of a feature store stands in two splits under two names."""
  path = folder / feature_store.TEXTS
  if not path.exists():
    return {}
  prompts = pd.read_parquet(path, columns=['prompt'])['prompt'].to_numpy()
  split = feature_store.open_store(folder, verify=False).prompt_split
  by_split = {name: prompts[split == index] for index, name in enumerate(SPLITS)}
  return {'texts': prompt_checks.repeated_texts(by_split)}


def told(found: Found) -> int:
  """Prints a line for each check, and counts the leaks."""
  for kind, leaks_of_kind in found.items():
    if not leaks_of_kind:
      commands.say(f'  ok    {kind}: {CHECKED[kind]}')
    for leak in leaks_of_kind:
      commands.say(f'  LEAK  {kind}: {leak.told}')
  return sum(map(len, found.values()))


if __name__ == '__main__':
  commands.run(main)
