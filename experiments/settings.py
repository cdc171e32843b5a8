"""A setting: the unseen users on whom every learner of a table is judged alike."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments import build, runs
from experiments.build import Config
from experiments.configs import base
from metapers.analysis import flips
from metapers.bench import protocols
from metapers.core.population import SEEN, Population
from metapers.core.task import Task, Truth
from metapers.evaluation import adaptation, estimates, streams
from metapers.evaluation.predictions import Predictions

SPLIT = 'test'


class Stream(NamedTuple):
  """Comparisons judged as they arrive: see `evaluation.streams`.

  change_at: turn from which the taste is another; 0 for none. window: comparisons remembered.
  """

  change_at: int
  window: int


class Setting(NamedTuple):
  """One condition, ready to evaluated.

  name: short, for file names. title: for people. labels: columns of results.csv.
  populations: one for each fold of people, else one; sizes: test users of each.
  tasks, truth, evaluated: of all of them, joined along T.
  """

  name: str
  title: str
  labels: Mapping[str, Any]
  shots: tuple[int, ...]
  populations: tuple[Population, ...]
  sizes: tuple[int, ...]
  tasks: Task
  truth: Truth | None
  evaluated: estimates.EvaluationSet
  stream: Stream | None = None


def divide(changes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
  """Divides a condition into options of the population, and how users are judged."""
  how = {name: value for name, value in changes.items() if name in protocols.JUDGING}
  return {name: value for name, value in changes.items() if name not in how}, how


def make(config: Config, condition: Mapping[str, Any]) -> Setting:
  """Draws the users that one condition of `config` judges.

  Args:
    config: of a run or of a table.
    condition: changed options of the population, and `protocols.JUDGING`.

  Raises:
    ValueError: for an unknown option, more shots than histories hold, or users that are not.
  """
  _, how = divide(condition)
  split = how.get('split', SPLIT)
  populations = tuple(map(build.population, parts(config, condition)))
  shots = runs.evaluated_shots(config, populations[0])
  most = config.evaluation.num_users
  sizes = tuple(min(most, held_out(population, split)) for population in populations)
  episodes = [
    adaptation.episodes(population, split=split, num_users=size)
    for population, size in zip(populations, sizes)
  ]
  tasks, truth = jax.tree.map(lambda *parts: jnp.concatenate(parts), *episodes)
  record = populations[0].record
  stream = Stream(how['change_at'], how['window']) if 'change_at' in how else None
  if stream:
    tasks, truth = stream_of(tasks, truth, stream, record)
  return Setting(
    name=name_of(condition),
    title=title(record, sum(sizes), split, stream),
    labels=labels(config, record, condition) | {'split': split},
    shots=shots,
    populations=populations,
    sizes=sizes,
    tasks=tasks,
    truth=truth,
    evaluated=estimates.evaluation_set(
      tasks, truth, rival=rival(config, record), num_resamples=config.evaluation.num_resamples
    ),
    stream=stream,
  )


def name_of(condition: Mapping[str, Any]) -> str:
  """Returns a short name of a condition, for file names."""
  return '-'.join(f'{key}={value}' for key, value in condition.items()) or 'default'


def stream_of(
  tasks: Task, truth: Truth | None, stream: Stream, record: Mapping[str, Any]
) -> tuple[Task, Truth]:
  """Makes a stream of the supports.

  Raises:
    ValueError: for real people, or supports of prompts that were trained on.
  """
  if truth is None or record['support_prompts'] != 'held_out':
    raise ValueError(
      "every turn of a stream is judged: it needs simulated users with support_prompts='held_out', "
      f'got {record.get("support_prompts")!r}'
    )
  return streams.as_stream(tasks, truth, stream.change_at)


def held_out(population: Population, split: str) -> int:
  """Returns how many users of a split can be judged.

  Raises:
    ValueError: for a split of which there are none.
  """
  sizes = population.spec.num_held_out
  if split not in sizes:
    raise ValueError(
      f'no users of split {split!r} here; there are {", ".join(sizes)}, and with a finite pool '
      f'(num_users) {SEEN}'
    )
  return sizes[split]


def folds(config: Config) -> tuple[int | None, ...]:
  """Returns the folds of people that a table runs over; (None,) where there are none."""
  return tuple(config.get('benchmark', {}).get('folds', ())) or (None,)


def parts(config: Config, condition: Mapping[str, Any]) -> tuple[Config, ...]:
  """Returns the config with the population's options of a condition, once for each fold."""
  options, _ = divide(condition)
  made = []
  for fold in folds(config):
    part = config.copy_and_resolve_references()
    own = {} if fold is None else {'fold': fold}
    base.update(part.population.name, part.population.kwargs, options | own)
    made.append(part)
  return tuple(made)


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
  shown = (*wanted, 'split')
  others = [f'{name}={value}' for name, value in changes.items() if name not in shown]
  return {
    'protocol': ' '.join([config.protocol, *others]),
    'population': record['source'],
    'train_shots': f'0-{most}' if shots == 'uniform' else shots,
    **{name: record[name] for name in wanted if name in record},
  }


def title(
  record: Mapping[str, Any], num_users: int, split: str = SPLIT, stream: Stream | None = None
) -> str:
  """Describes a setting in one line."""
  if 'pair_rule' not in record:
    return f'{record["source"]}, {num_users} {record.get("judged_on", "users")}'
  accuracy = str(record['label_accuracy'])
  labelled = 'noiseless' if accuracy == '1.0' else f'{percent(accuracy)} of labels right'
  is_apart = stream is None and record['support_prompts'] == 'held_out'  # a stream has one of both
  return (
    f'{num_users} {"seen" if split == SEEN else "unseen"} users (α = {record["concentration"]}), '
    f'unseen prompts, {record["pair_rule"]} pairs, {labelled}, {record["track"]} track'
    + (', support from unseen prompts too' if is_apart else '')
    + (f', {record["excluded_model"]} new to them' if record['excluded_model'] else '')
    + manner(stream)
  )


def percent(joined: str) -> str:
  """Writes shares that are joined by plus signs in percent, each once."""
  shares = dict.fromkeys(f'{float(share):.0%}' for share in joined.split('+'))
  return ', '.join(shares)


def manner(stream: Stream | None) -> str:
  """Describes a stream behind the title."""
  if stream is None:
    return ''
  memory = f', the last {stream.window} remembered' if stream.window else ''
  change = f'tastes change after {stream.change_at}' if stream.change_at else 'constant tastes'
  return f', turn by turn, {change}{memory}'


def predict(
  config: Config, setting: Setting, trained: list[runs.Run], *, is_flipped: bool = False
) -> Predictions:
  """Predicts for all users of a setting, each fold's by the run that never saw them.

  Args:
    config: for the chunk size.
    setting: whose users are predicted.
    trained: a run for each fold, or a single one.
    is_flipped: show learners the opposite of what the users chose.
  """
  seen = flips.flipped(setting.tasks) if is_flipped else setting.tasks
  num_turns = seen.support.mask.shape[1]
  parts = []
  for run, start, size in zip(trained, starts(setting.sizes), setting.sizes, strict=True):
    mine = slice(start, start + size)
    tasks, truth = jax.tree.map(lambda x, mine=mine: x[mine], (seen, setting.truth))
    parts.append(
      adaptation.evaluate(
        run.learner,
        run.params,
        tasks,
        truth,
        shots=range(num_turns) if setting.stream else setting.shots,
        window=setting.stream.window if setting.stream else 0,
        chunk_size=config.evaluation.chunk_size,
        key=jax.random.key(1),
      )
    )
  made = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *parts)
  return jax.device_get(streams.by_turn(made, seen.support.mask) if setting.stream else made)


def starts(sizes: tuple[int, ...]) -> list[int]:
  """Returns where each part begins in the whole."""
  return [sum(sizes[:index]) for index in range(len(sizes))]
