"""The episodes of a protocol as a folder that learners of any framework can read."""

import json
import pathlib
import runpy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import metapers
from experiments import build, commands, references, runs, settings
from experiments.build import Config
from experiments.configs import base
from experiments.settings import Setting
from metapers.bench import frozen, frozen_arrays
from metapers.bench.frozen import Draft
from metapers.core import batches
from metapers.core.population import Population
from metapers.core.task import Task, Truth
from metapers.core.types import PyTree
from metapers.data import manifest
from metapers.evaluation import adaptation

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
  conditions, is_retrained = table.get('conditions', ({},)), table.get('retrain', False)
  check_frozen(conditions)
  licence = licence or licence_of(config)
  with frozen.writing(folder, is_compressed=is_compressed) as draft:
    entries = []
    for condition in conditions:
      setting = settings.make(config, condition)
      commands.say(f'{setting.name}: {setting.title}')
      made = references.table(config, setting) if has_references else {}
      entries.append(add_condition(draft, config, setting, made))
      if is_retrained:
        add_train(draft, f'{setting.name}/train.npz', config, setting.populations, num_train_users)
    trained = list(map(build.population, settings.parts(config, {})))
    if not is_retrained:
      add_train(draft, 'train.npz', config, trained, num_train_users)
    draft.about.update(
      metapers=metapers.__version__,
      protocol=config.protocol,
      source=str(trained[0].record['source']),
      licence=licence,
      config=json.loads(json.dumps(runs.identity(config, trained[0]))),
      conditions=entries,
    )
  return folder


def check_frozen(conditions: Sequence[Mapping[str, Any]]) -> None:
  """Refuses what cannot be shown without its answers.

  Raises:
    ValueError: for a stream.
  """
  if any('change_at' in condition for condition in conditions):
    raise ValueError(
      'the support of a stream is what is judged, so that it cannot be frozen without its answers; '
      'export another protocol'
    )


def add_condition(
  draft: Draft, config: Config, setting: Setting, made: Mapping[str, references.Make]
) -> dict[str, Any]:
  """Writes validation, test and truth of one condition, and returns its entry of the manifest."""
  judged = (setting.tasks, setting.truth, setting.sizes)
  others = validation_users(setting, config.evaluation.num_users)
  for name, (tasks, truth, sizes) in {'test': judged, 'validation': others}.items():
    slate = None if truth is None else truth.slate
    arrays = {
      **frozen_arrays.shown(tasks, slate, has_labels=name == 'validation'),
      **fold_of(settings.folds(config), sizes),
      'shots': np.asarray(setting.shots, np.int32),
    }
    draft.add(f'{setting.name}/{name}.npz', arrays)
  answers = frozen_arrays.hidden(setting.tasks, setting.truth)
  draft.add(f'{frozen.TRUTH}/{setting.name}.npz', answers)
  return {
    'name': setting.name,
    'title': setting.title,
    'labels': dict(setting.labels),
    'shots': list(setting.shots),
    'num_known_users': setting.populations[0].spec.num_users,
    'rival': setting.evaluated.rival,
    'num_resamples': config.evaluation.num_resamples,
    'population': dict(setting.populations[0].record),
    'references': add_references(draft, setting, made),
  }


def validation_users(setting: Setting, most: int) -> tuple[Task, Truth | None, tuple[int, ...]]:
  """Draws up to `most` validation users of each population, and says how many they are."""
  split = 'validation'
  sizes = tuple(min(most, settings.held_out(each, split)) for each in setting.populations)
  episodes = (
    adaptation.episodes(each, split=split, num_users=size)
    for each, size in zip(setting.populations, sizes)
  )
  return (*joined(episodes), sizes)


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


def add_train(
  draft: Draft, name: str, config: Config, populations: Sequence[Population], most: int
) -> None:
  """Writes the fixed episodes of up to `most` train users of each population, with all labels."""
  if not most:
    return
  sizes = [min(most, each.spec.num_users or most) for each in populations]
  tasks, _ = joined(train_episodes(each, size) for each, size in zip(populations, sizes))
  seen = frozen_arrays.shown(tasks, has_labels=True)
  draft.add(name, {**seen, **fold_of(settings.folds(config), sizes)})


def train_episodes(population: Population, size: int) -> tuple[Task, Truth | None]:
  """Draws the fixed episodes of the first train users, of whom a stream has no last one."""

  def draw(arrays: PyTree) -> tuple[Task, Truth | None]:
    def episode(user):
      return population.episode_of(arrays, user, 'train')

    return batches.map_chunks(episode, size, CHUNK_SIZE)

  return jax.jit(draw)(population.arrays)


def joined(parts: Iterable[tuple[Task, Truth | None]]) -> tuple[Task, Truth | None]:
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
    return manifest.read_store_manifest(folder)[0]['licence']
  if not told.is_file():
    raise ValueError(f'{told} is missing, which tells the licence of the data; give --licence=TEXT')
  return json.loads(told.read_text(encoding='utf-8'))['licence']
