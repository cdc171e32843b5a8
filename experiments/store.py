"""Shows and checks a feature store, or the synthetic one.

python -m experiments.store info|verify|stats|diversity [--store=FOLDER]
"""

import pathlib
import sys

import numpy as np
from absl import flags

from experiments import commands
from experiments.commands import say
from metapers.analysis import diversity as diversities
from metapers.core.tables import RewardTable
from metapers.data import feature_store, manifest, reward_table, store_summary, synthetic

STORE = flags.DEFINE_string('store', 'synthetic', 'Folder of a store, or `synthetic`.')
FEATURE_R2 = flags.DEFINE_float('feature_r2', 0.5, "Of the synthetic store's features.")


def open_table(*, verify: bool = True) -> RewardTable:
  """Returns the table of the store that the flags name."""
  if STORE.value == 'synthetic':
    return synthetic.synthetic_store(feature_r2=FEATURE_R2.value)
  return feature_store.open_store(STORE.value, verify=verify)


def info() -> None:
  """Prints what is in the store and where it comes from."""
  table = open_table(verify=False)
  num_prompts, num_responses, num_models = table.rewards.shape
  sizes = reward_table.split_sizes(table.prompt_split)
  features = 'none' if table.features is None else f'{table.features.shape[-1]} a response'
  say(f'source: {table.source}')
  say(f'manifest sha256: {table.manifest_hash}')
  say(f'{num_prompts} prompts x {num_responses} responses x {num_models} reward models')
  say('prompts: ' + ', '.join(f'{size} {name}' for name, size in sizes.items()))
  say(f'features: {features}')
  say(f'reward models: {", ".join(table.reward_models)}')
  say(f'response models: {", ".join(table.response_models)}')
  if STORE.value != 'synthetic':
    content, _ = manifest.read_store_manifest(pathlib.Path(STORE.value))
    for name in ('made_by', 'licence', 'extractor', 'revision'):
      say(f'{name}: {content[name] or "none"}')


def verify() -> None:
  """Checks every file against the manifest; exits with 1 if one does not fit."""
  try:
    table = open_table()
  except ValueError as error:
    sys.stderr.write(f'bad store: {commands.one_line(error)}\n')
    sys.exit(1)
  say(f'good: {table.source}, manifest sha256 {table.manifest_hash}')


def stats() -> None:
  """Prints masked responses, each reward model's scores, and how much of them features explain."""
  table = open_table()
  found = store_summary.summarize(table)
  say(f'source: {table.source}')
  missing, repeated, total = found.masked
  say(f'{missing} missing and {repeated} repeated of {total} responses')
  say(f'{"reward model":20}{"train mean":>12}{"train sd":>12}')
  for name, mean, std in zip(table.reward_models, table.mean, table.std, strict=True):
    say(f'{name:20}{mean:12.4f}{std:12.4f}')
  say(f'correlation of reward models within prompts, mean: {found.correlation:.3f}')
  if found.feature_r2 is None:
    say('no features')
    return
  for name, value in zip(table.reward_models, found.feature_r2, strict=True):
    say(f'within-prompt R2 of ridge on test prompts, {name}: {value:.3f}')
  say(f'within-prompt R2 of ridge on test prompts, mean: {found.feature_r2.mean():.3f}')


def diversity() -> None:
  """Prints how much simulated users disagree, beside PersonalLLM's published table, in percent."""
  table = open_table()
  say(f'source: {table.source}; {diversities.NUM_USERS} users for each concentration')
  differences = []
  for concentration in diversities.PAPER:
    labels, ours, paper = diversities.compare_with_paper(table, concentration)
    shown = np.full(len(ours), np.nan) if paper is None else paper
    differences.append(np.abs(ours - shown))
    say(f'concentration {concentration:<31}{"ours":>8}{"paper":>8}{"minus":>8}')
    for label, value, published in zip(labels, ours, shown, strict=True):
      say(f'  {label:43}{value:8.1f}{published:8.1f}{value - published:8.1f}')
  size = np.concatenate(differences)
  say(f'mean absolute difference {size.mean():.2f} points, largest {size.max():.2f}')


COMMANDS = {'info': info, 'verify': verify, 'stats': stats, 'diversity': diversity}


def main(argv: list[str]) -> None:
  """Runs the command that the first argument names."""
  if len(argv) != 2 or argv[1] not in COMMANDS:
    raise ValueError(
      f'expected one of {", ".join(COMMANDS)}, got {" ".join(argv[1:]) or "nothing"}'
    )
  COMMANDS[argv[1]]()


if __name__ == '__main__':
  commands.run(main)
