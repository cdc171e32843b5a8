"""A setting: the unseen users on whom every learner of a table is judged alike."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments import build, runs
from experiments.build import Config
from experiments.configs import base
from metapers.core.population import Population
from metapers.core.task import Task, Truth
from metapers.evaluation import adaptation, estimates
from metapers.evaluation.predictions import Predictions

SPLIT = 'test'


class Setting(NamedTuple):
  """One condition, ready to judge.

  name: short, for file names. title: for people. labels: columns of results.csv.
  populations: one for each fold of people, else one; sizes: test users of each.
  tasks, truth, judge: of all of them, joined along T.
  """

  name: str
  title: str
  labels: Mapping[str, Any]
  shots: tuple[int, ...]
  populations: tuple[Population, ...]
  sizes: tuple[int, ...]
  tasks: Task
  truth: Truth | None
  judge: estimates.Judge


def make(config: Config, changes: Mapping[str, Any]) -> Setting:
  """Draws the test users of `config.population` with some of its options changed.

  Raises:
    ValueError: for an unknown option, or more shots than histories hold.
  """
  populations = tuple(changed_population(config, changes, fold) for fold in folds(config))
  shots = runs.evaluated_shots(config, populations[0])
  most = config.evaluation.num_users
  sizes = tuple(min(most, population.spec.num_held_out[SPLIT]) for population in populations)
  episodes = [
    adaptation.episodes(population, split=SPLIT, num_users=size)
    for population, size in zip(populations, sizes)
  ]
  tasks, truth = jax.tree.map(lambda *parts: jnp.concatenate(parts), *episodes)
  record = populations[0].record
  return Setting(
    name='-'.join(f'{key}={value}' for key, value in changes.items()) or 'default',
    title=title(record, sum(sizes)),
    labels=labels(config, record, changes),
    shots=shots,
    populations=populations,
    sizes=sizes,
    tasks=tasks,
    truth=truth,
    judge=estimates.judge(
      tasks, truth, rival=rival(config, record), num_resamples=config.evaluation.num_resamples
    ),
  )


def folds(config: Config) -> tuple[int | None, ...]:
  """Returns the folds of people that a table runs over; (None,) where there are none."""
  return tuple(config.get('benchmark', {}).get('folds', ())) or (None,)


def changed_population(config: Config, changes: Mapping[str, Any], fold: int | None) -> Population:
  """Builds the population with options changed, and a fold where there are folds."""
  changed = config.copy_and_resolve_references()
  options = dict(changes) if fold is None else {**changes, 'fold': fold}
  base.update(changed.population.name, changed.population.kwargs, options)
  return build.population(changed)


def rival(config: Config, record: Mapping[str, Any]) -> int | None:
  """Finds the response model that picks are compared with.

  Raises:
    ValueError: for a model that wrote none of the responses.
  """
  names = [name for name in str(record.get('response_models', '')).split(', ') if name]
  wanted = config.evaluation.rival
  if not names or not wanted or config.population.kwargs.num_slates == 0:
    return None
  if wanted not in names:
    raise ValueError(f'evaluation.rival {wanted!r} wrote no response; known: {", ".join(names)}')
  return names.index(wanted)


def labels(config: Config, record: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the columns of results.csv that a setting fixes.

  Changes of options that have no column of their own stand behind the protocol's name.
  """
  shots, most = config.training.shots, config.population.kwargs.get('num_support', '')
  wanted = ('track', 'pair_rule', 'concentration', 'temperature')
  others = [f'{name}={value}' for name, value in changes.items() if name not in wanted]
  return {
    'protocol': ' '.join([config.protocol, *others]),
    'population': record['source'],
    'split': SPLIT,
    'train_shots': f'0-{most}' if shots == 'uniform' else shots,
    **{name: record[name] for name in wanted if name in record},
  }


def title(record: Mapping[str, Any], num_users: int) -> str:
  """Describes a setting in one line."""
  if 'pair_rule' not in record:
    return f'{record["source"]}, {num_users} {record.get("judged_on", "users")}'
  noise = float(record['label_accuracy'])
  labelled = 'noiseless' if noise == 1 else f'{noise:.0%} of labels right'
  return (
    f'{num_users} unseen users (α = {record["concentration"]}), unseen prompts, '
    f'{record["pair_rule"]} pairs, {labelled}, {record["track"]} track'
    + (', support from unseen prompts too' if record['support_prompts'] == 'held_out' else '')
  )


def predict(config: Config, setting: Setting, trained: list[runs.Run]) -> Predictions:
  """Predicts for all users of a setting, each fold's by the run that never saw them.

  Args:
    config: for the chunk size.
    setting: whose users are predicted.
    trained: a run for each fold, or a single one.
  """
  parts = []
  for run, start, size in zip(trained, starts(setting.sizes), setting.sizes, strict=True):
    mine = slice(start, start + size)
    tasks, truth = jax.tree.map(lambda x, mine=mine: x[mine], (setting.tasks, setting.truth))
    parts.append(
      adaptation.evaluate(
        run.learner,
        run.params,
        tasks,
        truth,
        shots=setting.shots,
        chunk_size=config.evaluation.chunk_size,
        key=jax.random.key(1),
      )
    )
  return jax.device_get(jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *parts))


def starts(sizes: tuple[int, ...]) -> list[int]:
  """Returns where each part begins in the whole."""
  return [sum(sizes[:index]) for index in range(len(sizes))]
