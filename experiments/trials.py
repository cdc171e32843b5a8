"""What `experiments.tune` tries of each row of a table, and the table of what it chose."""

import copy
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import build
from experiments.build import Config
from metapers.bench import tuning
from metapers.core import fields, files

PLACES = ('path', 'store')  # options of populations that say where data lie


def changed(config: Config, changes: Mapping[str, Mapping[str, Any]]) -> Config:
  """Returns a table with further changes of some rows, which win over those that they have.

  Args:
    config: of a table.
    changes: row -> {'kwargs': ..., 'training': ..., 'population': ...}.

  Raises:
    ValueError: for an unknown row.
  """
  rows = config.benchmark.learners
  unknown = sorted(set(changes) - set(rows))
  if unknown:
    raise ValueError(f'the table has no {", ".join(unknown)}; it has {", ".join(rows)}')
  table = copy.deepcopy(config)
  for row, own in changes.items():
    held = config.learners[row].to_dict()
    changed_parts = {part: {**held.get(part, {}), **values} for part, values in own.items()}
    table.learners[row] = {**held, **changed_parts}
  return table


def chosen(config: Config, path: str | os.PathLike) -> Config:
  """Returns a table with what `experiments.tune` chose; `check_tuned` refuses that of another.

  Raises:
    ValueError: for another file, or one of rows that the table does not have.
  """
  found = files.read_json(path)
  fields.check(path, found, {'tuned_on': dict[str, Any], 'rows': dict[str, Any]})
  table = changed(config, found['rows'])
  table.trials.tuned_on = json.dumps(found['tuned_on'], sort_keys=True)
  return table


def made_on(config: Config) -> dict[str, Any]:
  """Returns what options are chosen on: users, data, steps and validation, but for where they lie.

  It goes beside what `experiments.tune` chose, for another table to be told from this one.
  """
  population = config.population.to_dict()
  kwargs = {name: value for name, value in population['kwargs'].items() if name not in PLACES}
  return {
    'population': {'name': build.without_folder(population['name']), **kwargs},
    'num_steps': config.training.num_steps,
    'num_validation_users': config.evaluation.num_validation_users,
    'shots': list(config.evaluation.shots),
  }


def check_tuned(config: Config) -> None:
  """Refuses options that were chosen on another table.

  Raises:
    ValueError: naming what differs.
  """
  there = config.get('trials', {}).get('tuned_on', '')
  here = json.dumps(made_on(config), sort_keys=True)
  if there and there != here:
    old, new = json.loads(there), json.loads(here)
    old, new = ({**each, **each.pop('population')} for each in (old, new))
    different = [
      f'{name}: {old.get(name)!r} there, {new.get(name)!r} here'
      for name in sorted({*old, *new})
      if old.get(name) != new.get(name)
    ]
    raise ValueError(
      f'these options were tuned on another table ({"; ".join(different)}): tune this one, or '
      'write them into its config'
    )


def of_config(config: Config) -> dict[str, list[dict[str, Any]]]:
  """Returns by how many changes of its options, and which, each row of a table is tuned.

  Raises:
    ValueError: for a config that names no trials.
  """
  if 'trials' not in config:
    raise ValueError('this config names no trials: it is not made to be tuned')
  of_rows = config.trials.rows
  return {
    row: [each.to_dict() if hasattr(each, 'to_dict') else dict(each) for each in own]
    for row in config.benchmark.learners
    for own in [of_rows.get(row, config.trials.others)]
  }


def by_number(tried: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
  """Returns the first trial of every row, the second of every row, and so on.

  Raises:
    ValueError: where rows have different numbers of trials.
  """
  tuning.require_equal(tried)
  return [dict(zip(tried, each, strict=True)) for each in zip(*tried.values(), strict=True)]
