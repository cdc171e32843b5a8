"""Shows and checks a feature store, or the synthetic one.

python -m experiments.store info|verify|stats|diversity [--store=FOLDER]
"""

import pathlib
import sys
from typing import NamedTuple

import numpy as np
from absl import flags

from experiments import commands
from metapers.analysis import diversity as diversities
from metapers.core.population import SPLITS
from metapers.core.tables import RewardTable
from metapers.data import (
  feature_store,
  manifest,
  personal_llm_constants,
  reward_table,
  ridge,
  synthetic,
)
from metapers.populations import dirichlet

STORE = flags.DEFINE_string('store', 'synthetic', 'Folder of a store, or `synthetic`.')
FEATURE_R2 = flags.DEFINE_float('feature_r2', 0.5, "Of the synthetic store's features.")
USERS_SEED = 0


class Comparison(NamedTuple):
  """Ours and the published shares, in percent, with a label for each; `paper` may be unknown."""

  labels: list[str]
  ours: np.ndarray
  paper: np.ndarray | None


def open_table(*, verify: bool = True) -> RewardTable:
  """Opens the store that the flags name."""
  if STORE.value == 'synthetic':
    return synthetic.synthetic_store(feature_r2=FEATURE_R2.value)
  return feature_store.open_store(STORE.value, verify=verify)


def info() -> None:
  """Prints what is in the store and where it comes from."""
  table = open_table(verify=False)
  num_prompts, num_responses, num_models = table.rewards.shape
  counts = np.bincount(table.prompt_split, minlength=len(SPLITS))
  features = 'none' if table.features is None else f'{table.features.shape[-1]} a response'
  print(f'source: {table.source}')
  print(f'manifest sha256: {table.manifest_hash}')
  print(f'{num_prompts} prompts x {num_responses} responses x {num_models} reward models')
  print('prompts: ' + ', '.join(f'{n} {name}' for name, n in zip(SPLITS, counts, strict=True)))
  print(f'features: {features}')
  print(f'reward models: {", ".join(table.reward_models)}')
  print(f'response models: {", ".join(table.response_models)}')
  if STORE.value != 'synthetic':
    content, _ = manifest.read_store_manifest(pathlib.Path(STORE.value))
    for name in ('made_by', 'licence', 'extractor', 'revision'):
      print(f'{name}: {content[name] or "none"}')


def verify() -> None:
  """Checks every file against the manifest; exits with 1 if one does not fit."""
  try:
    table = open_table()
  except ValueError as error:
    sys.stderr.write(f'bad store: {commands.one_line(error)}\n')
    sys.exit(1)
  print(f'good: {table.source}, manifest sha256 {table.manifest_hash}')


def explained(table: RewardTable, scores_z: np.ndarray) -> np.ndarray | None:
  """Returns the within-prompt R² of ridge on the features [B], on test prompts; None without."""
  if table.features is None:
    return None
  test = table.prompt_split == SPLITS.index('test')
  fit = ridge.within_prompt_ridge(table.features, scores_z, table.mask, ~test)
  predicted = ridge.predict(table.features[test], table.mask[test], fit)
  return ridge.within_prompt_r2(predicted, scores_z[test], table.mask[test])


def stats() -> None:
  """Prints masked responses, each reward model's scores, and what features say of them."""
  table = open_table()
  masked = reward_table.count_masked(table)
  scores_z = reward_table.z_scores(table.rewards, table.mask, table.mean, table.std)
  print(f'source: {table.source}')
  print(f'{masked.missing} missing and {masked.repeated} repeated of {masked.total} responses')
  print(f'{"reward model":20}{"train mean":>12}{"train sd":>12}')
  for name, mean, std in zip(table.reward_models, table.mean, table.std, strict=True):
    print(f'{name:20}{mean:12.4f}{std:12.4f}')
  centred = ridge.center(scores_z, table.mask)[table.mask]
  correlation = np.corrcoef(centred.T)[~np.eye(len(table.mean), dtype=bool)]
  print(f'correlation of reward models within prompts, mean: {correlation.mean():.3f}')
  r2 = explained(table, scores_z)
  if r2 is None:
    print('no features')
    return
  for name, value in zip(table.reward_models, r2, strict=True):
    print(f'within-prompt R2 of ridge on test prompts, {name}: {value:.3f}')
  print(f'within-prompt R2 of ridge on test prompts, mean: {r2.mean():.3f}')


def compare(table: RewardTable, concentration: float) -> Comparison:
  """Returns the diversity of simulated users of that α on test prompts, beside the paper's."""
  test = table.prompt_split == SPLITS.index('test')
  scores_z = reward_table.z_scores(table.rewards, table.mask, table.mean, table.std)
  rng = np.random.default_rng([USERS_SEED, round(1000 * concentration)])
  size = len(table.reward_models)
  log_weights = dirichlet.sample_log_weights(rng, diversities.NUM_USERS, concentration, size)
  ours = diversities.diversity(
    scores_z[test],
    table.mask[test],
    np.exp(log_weights),
    table.response_model[test],
    num_response_models=len(table.response_models),
  )
  paper = diversities.PAPER[concentration]
  known = set(table.response_models) == set(personal_llm_constants.RESPONSE_MODELS)
  if known:
    order = [personal_llm_constants.RESPONSE_MODELS.index(name) for name in table.response_models]
    paper = paper._replace(wins=paper.wins[order])
  labels = [f'top share <={share}%' for share in diversities.TOP_SHARES]
  labels += [f'{count} winners' for count in diversities.WINNERS]
  labels += [f'wins of {name}' for name in table.response_models]
  return Comparison(labels, np.concatenate(ours), np.concatenate(paper) if known else None)


def diversity() -> None:
  """Prints how much simulated users disagree, beside PersonalLLM's published table, in percent."""
  table = open_table()
  print(f'source: {table.source}; {diversities.NUM_USERS} users for each concentration')
  differences = []
  for concentration in diversities.PAPER:
    labels, ours, paper = compare(table, concentration)
    shown = np.full(len(ours), np.nan) if paper is None else paper
    differences.append(np.abs(ours - shown))
    print(f'concentration {concentration:<31}{"ours":>8}{"paper":>8}{"minus":>8}')
    for label, value, published in zip(labels, ours, shown, strict=True):
      print(f'  {label:43}{value:8.1f}{published:8.1f}{value - published:8.1f}')
  size = np.concatenate(differences)
  print(f'mean absolute difference {size.mean():.2f} points, largest {size.max():.2f}')


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
