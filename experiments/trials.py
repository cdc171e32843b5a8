"""What `experiments.tune` tries of each row of a table, and the table of what it chose."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.build import Config
from metapers.bench import tuning


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
