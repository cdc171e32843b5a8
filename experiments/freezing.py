"""The episodes of a protocol as a folder that learners of any framework can read."""

import json
import pathlib
import runpy
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import metapers
from experiments import commands, references, runs, settings
from experiments.build import Config
from experiments.configs import base
from experiments.settings import Setting
from metapers.core.population import Population
from metapers.core.task import Task, Truth
from metapers.data import manifest
from metapers.evaluation import adaptation
from metapers.io import frozen, frozen_arrays
from metapers.io.frozen import Draft

CONFIGS = pathlib.Path(base.__file__).parent
CHUNK_SIZE = 256  # episodes drawn at once


def config_of(protocol: str) -> Config:
  """Reads the config that a protocol names.

  Raises:
    ValueError: for one that does not exist; lists those that do.
  """
  name, _, argument = protocol.partition(':')
  path = pathlib.Path(name) if name.endswith('.py') else CONFIGS / f'{name}.py'
  if not path.is_file():
    known = sorted(path.stem for path in CONFIGS.glob('[!_]*.py') if path.stem != 'base')
    raise ValueError(f'unknown protocol {name!r}; known: {", ".join(known)}')
  return runpy.run_path(str(path))['get_config'](argument)


def export(
  config: Config,
  folder: pathlib.Path,
  *,
  num_train_users: int = 2000,
  is_compressed: bool = False,
  has_references: bool = True,
  licence: str | None = None,
) -> pathlib.Path:
  """Writes the episodes of every condition of a config.

  Args:
    config: of a table, or of a run.
    folder: must not exist.
    num_train_users: to learn from, at most; 0 writes none.
    is_compressed: write smaller files.
    has_references: predict by the references as well, for the table.
    licence: of the data; None reads it from them.

  Returns:
    The folder.

  Raises:
    ValueError: for a folder that exists, a stream, or data without a licence.
  """
  table = config.get('benchmark', {})
  conditions = table.get('conditions', ({},))
  if any('change_at' in condition for condition in conditions):
    raise ValueError(
      'the support of a stream is what is judged, so that it cannot be frozen without its answers; '
      'export another protocol'
    )
  licence = licence or licence_of(config)
  with frozen.writing(folder, is_compressed=is_compressed) as draft:
    entries = []
    for condition in conditions:
      setting = settings.make(config, condition)
      made = references.table(config, setting) if has_references else {}
      commands.say(f'{setting.name}: {setting.title}')
      entries.append(add_condition(draft, config, setting))
      entries[-1]['references'] = add_references(draft, setting, made)
      if num_train_users and table.get('retrain', False):
        name = f'{setting.name}/train.npz'
        draft.add(name, train_arrays(config, setting.populations, num_train_users))
    trained = [settings.changed_population(config, {}, fold) for fold in settings.folds(config)]
    if num_train_users and not table.get('retrain', False):
      draft.add('train.npz', train_arrays(config, trained, num_train_users))
    draft.about.update(
      metapers=metapers.__version__,
      protocol=config.protocol,
      source=str(trained[0].record['source']),
      licence=licence,
      config=json.loads(json.dumps(runs.identity(config, trained[0]))),
      conditions=entries,
    )
  return folder


def add_condition(draft: Draft, config: Config, setting: Setting) -> dict[str, Any]:
  """Writes validation, test and truth of one condition, and returns its entry of the manifest."""
  shots = {'shots': np.asarray(setting.shots, np.int32)}
  folds = settings.folds(config)
  slate = None if setting.truth is None else setting.truth.slate
  seen = frozen_arrays.shown(setting.tasks, slate, has_labels=False)
  draft.add(f'{setting.name}/test.npz', {**seen, **fold_of(folds, setting.sizes), **shots})
  draft.add(
    f'{frozen.TRUTH}/{setting.name}.npz', frozen_arrays.hidden(setting.tasks, setting.truth)
  )
  most, split = config.evaluation.num_users, 'validation'
  sizes = [min(most, settings.held_out(each, split)) for each in setting.populations]
  tasks, truth = joined(
    adaptation.episodes(each, split=split, num_users=size)
    for each, size in zip(setting.populations, sizes)
  )
  slate = None if truth is None else truth.slate
  seen = frozen_arrays.shown(tasks, slate, has_labels=True)
  draft.add(f'{setting.name}/validation.npz', {**seen, **fold_of(folds, sizes), **shots})
  return {
    'name': setting.name,
    'title': setting.title,
    'labels': dict(setting.labels),
    'shots': list(setting.shots),
    'num_known_users': setting.populations[0].spec.num_users,
    'rival': setting.judge.rival,
    'num_resamples': config.evaluation.num_resamples,
    'population': dict(setting.populations[0].record),
  }


def add_references(
  draft: Draft, setting: Setting, made: Mapping[str, references.Make]
) -> list[str]:
  """Writes what the references of a setting predict, and returns their names."""
  arrays = {}
  for name, make in made.items():
    predicted = make(setting)._asdict()
    arrays |= {f'{name}.{field}': np.asarray(value) for field, value in predicted.items()}
  if arrays:
    draft.add(f'{frozen.TRUTH}/{setting.name}-references.npz', arrays)
  return list(made)


def train_arrays(
  config: Config, populations: Sequence[Population], most: int
) -> dict[str, np.ndarray]:
  """Returns the fixed episodes of up to `most` train users of each population, with all labels."""
  sizes = [min(most, each.spec.num_users or most) for each in populations]
  tasks, _ = joined(train_episodes(each, size) for each, size in zip(populations, sizes))
  arrays = frozen_arrays.shown(tasks, has_labels=True)
  return {**arrays, **fold_of(settings.folds(config), sizes)}


def train_episodes(population: Population, size: int) -> tuple[Task, Truth | None]:
  """Draws the fixed episodes of the first train users, of whom a stream has no last one."""

  def draw(arrays):
    episode = lambda user: population.episode_of(arrays, user, 'train')  # noqa: E731
    return adaptation.map_chunks(episode, size, CHUNK_SIZE)

  return jax.jit(draw)(population.arrays)


def joined(parts) -> tuple[Task, Truth | None]:
  """Joins episodes along T."""
  return jax.tree.map(lambda *each: jnp.concatenate(each), *parts)


def fold_of(folds: Sequence[int | None], sizes: Sequence[int]) -> dict[str, np.ndarray]:
  """Returns the fold of every user; 0 where there are no folds."""
  return {'fold': np.repeat(np.asarray([fold or 0 for fold in folds], np.int32), sizes)}


def licence_of(config: Config) -> str:
  """Reads the licence of a population's data.

  Raises:
    ValueError: where nobody wrote it down.
  """
  kwargs = config.population.kwargs
  folder = pathlib.Path(kwargs.get('path') or kwargs.get('store') or 'synthetic')
  told = folder / 'source.json'  # of people
  if folder == pathlib.Path('synthetic'):
    return 'Apache-2.0 (drawn by metapers)'
  if (folder / manifest.MANIFEST).is_file():
    return manifest.read(folder)[0]['licence']
  if not told.is_file():
    raise ValueError(f'{told} is missing, which tells the licence of the data; give --licence=TEXT')
  return json.loads(told.read_text(encoding='utf-8'))['licence']
