"""The episodes of a table as files that learners of any framework can read."""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import metapers
from metapers.bench import episodes, references, settings
from metapers.bench import plan as plans
from metapers.bench.episodes import Draft
from metapers.bench.plan import Condition, Log, Plan
from metapers.bench.references import Make
from metapers.bench.settings import Setting
from metapers.core import batches
from metapers.core.population import Population
from metapers.core.task import Task, Truth
from metapers.core.types import PyTree
from metapers.evaluation import adaptation
from metapers.io import processes

CHUNK_SIZE = 256  # episodes drawn at once


def export_episodes(
  plan: Plan,
  folder: str | os.PathLike,
  *,
  licence: str,
  num_train_users: int = 2000,
  is_compressed: bool = False,
  has_references: bool = True,
  log: Log = print,
) -> pathlib.Path:
  """Writes the episodes of every condition of a table, and returns their folder.

  Args:
    plan: of the table; its learners are not looked at.
    folder: must not exist.
    licence: of the data, in words.
    num_train_users: to learn from, at most; 0 writes none.
    is_compressed: write smaller files.
    has_references: predict by the references as well, for the tables of submissions.
    log: is given lines of progress.

  Raises:
    ValueError: for a folder that exists, conditions of one name, a stream, or features or a
      context in several arrays.
  """
  processes.require_single('a folder of episodes')
  plans.check_conditions(plan)
  require_no_streams(plan.conditions)
  with episodes.writing_episodes(folder, is_compressed=is_compressed) as draft:
    entries = []
    for condition in plan.conditions:
      setting = settings.make_setting(plan, condition)
      log(f'{setting.name}: {setting.title}')
      entries.append(
        add_condition(draft, plan, condition, setting, has_references=has_references, log=log)
      )
      if condition.entries is not None:
        name = f'{setting.name}/train.npz'
        add_train(draft, name, setting.populations, folds=plan.folds, most=num_train_users)
    trained_on = [make() for make in plan.populations]
    if any(condition.entries is None for condition in plan.conditions):
      add_train(draft, 'train.npz', trained_on, folds=plan.folds, most=num_train_users)
    draft.about.update(
      metapers=metapers.__version__,
      protocol=plan.protocol,
      source=trained_on[0].source,
      licence=licence,
      identity=json.loads(json.dumps({**plan.identity, 'data': plans.data_of(plan)})),
      conditions=entries,
    )
  return pathlib.Path(folder)


def require_no_streams(conditions: Sequence[Condition]) -> None:
  """Refuses streams, whose supports hold the answers.

  Raises:
    ValueError: for a stream.
  """
  if any(condition.stream for condition in conditions):
    raise ValueError(
      'the support of a stream is what is evaluated, so that it cannot be shown without its '
      'answers; export another protocol'
    )


def add_condition(
  draft: Draft,
  plan: Plan,
  condition: Condition,
  setting: Setting,
  *,
  has_references: bool,
  log: Log,
) -> dict[str, Any]:
  """Writes test, validation and truth of one condition, and returns its entry of the manifest."""
  test = (setting.tasks, setting.truth, setting.sizes)
  validation = validation_users(setting, plan.evaluation.num_users)
  for name, (tasks, truth, sizes) in {'test': test, 'validation': validation}.items():
    slate = None if truth is None else truth.slate
    arrays = {
      **episodes.visible_arrays(tasks, slate, has_labels=name == 'validation'),
      **fold_array(plan.folds, sizes),
      'shots': np.asarray(setting.shots, np.int32),
    }
    draft.add(f'{setting.name}/{name}.npz', arrays)
  answers = episodes.hidden_arrays(setting.tasks, setting.truth, setting.resampled.ids)
  draft.add(f'{episodes.TRUTH}/{setting.name}.npz', answers)
  made: Mapping[str, Make] = {}
  if has_references:
    trained_on = plans.trained_on(plan, condition)[0]
    made = references.makers(setting, plan.evaluation, trained_on, log=log)
  return {
    'name': setting.name,
    'title': setting.title,
    'labels': dict(setting.labels),
    'shots': list(setting.shots),
    'num_known_users': setting.populations[0].spec.num_users,
    'rival': setting.evaluated.rival,
    'num_resamples': plan.evaluation.num_resamples,
    'resampled': setting.resampled.kind,
    'users': setting.fingerprint,
    'population': dict(setting.populations[0].record),
    'references': add_references(draft, setting, made),
  }


def validation_users(setting: Setting, most: int) -> tuple[Task, Truth | None, tuple[int, ...]]:
  """Returns up to `most` validation users of each population, and how many they are."""
  split = 'validation'
  sizes = tuple(min(most, settings.held_out(each, split)) for each in setting.populations)
  drawn = (
    adaptation.episodes(each, split=split, num_users=size)
    for each, size in zip(setting.populations, sizes)
  )
  return (*joined(drawn), sizes)


def add_references(draft: Draft, setting: Setting, made: Mapping[str, Make]) -> list[str]:
  """Writes what the references of a setting predict, and returns their names."""
  arrays = {}
  for name, make in made.items():
    predicted = make(setting)._asdict()
    arrays |= {f'{name}.{field}': np.asarray(value) for field, value in predicted.items()}
  if arrays:
    draft.add(references_file(setting.name), arrays)
  return list(made)


def references_file(condition: str) -> str:
  """Returns the name of the file of what references predict for a condition."""
  return f'{episodes.TRUTH}/{condition}-references.npz'


def add_train(
  draft: Draft,
  name: str,
  populations: Sequence[Population],
  *,
  folds: Sequence[int],
  most: int,
) -> None:
  """Writes the fixed episodes of up to `most` train users of each population, with all labels."""
  if not most:
    return
  sizes = [min(most, each.spec.num_users or most) for each in populations]
  tasks, _ = joined(train_episodes(each, size) for each, size in zip(populations, sizes))
  visible = episodes.visible_arrays(tasks, has_labels=True)
  draft.add(name, {**visible, **fold_array(folds, sizes)})


def train_episodes(population: Population, size: int) -> tuple[Task, Truth | None]:
  """Returns the fixed episodes of the first train users; an endless stream has that many too."""

  def draw(arrays: PyTree) -> tuple[Task, Truth | None]:
    def episode(user):
      return population.episode_of(arrays, user, 'train')

    return batches.map_chunks(episode, size, CHUNK_SIZE)

  return jax.jit(draw)(population.arrays)


def joined(parts: Iterable[tuple[Task, Truth | None]]) -> tuple[Task, Truth | None]:
  """Returns episodes joined along T."""
  return jax.tree.map(lambda *each: jnp.concatenate(each), *parts)


def fold_array(folds: Sequence[int], sizes: Sequence[int]) -> dict[str, np.ndarray]:
  """Returns the fold of every user; 0 where there are no folds."""
  return {'fold': np.repeat(np.asarray(tuple(folds) or (0,), np.int32), sizes)}
