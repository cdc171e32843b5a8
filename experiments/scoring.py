"""Judges a submission for frozen episodes by the code that judges our own learners."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from experiments import commands, publish, trained
from experiments.build import Config
from experiments.settings import Setting
from metapers.bench import frozen, frozen_arrays, submission_checks, submissions, tables
from metapers.bench.results import Row
from metapers.core.task import Task, Truth
from metapers.evaluation import estimates
from metapers.evaluation.predictions import Predictions
from metapers.io import workdirs

Found = dict[str, dict[str, Predictions]]  # learner -> seed -> its predictions
SAME = ('protocol', 'population', 'data')  # in the config of a workdir as in that of the episodes


def score(
  folder: pathlib.Path,
  paths: Sequence[str | pathlib.Path],
  *,
  name: str,
  truth: str | None = None,
  workdir: str | None = None,
) -> list[Row]:
  """Judges a submission, prints its tables and returns all rows.

  Args:
    folder: of the episodes.
    paths: parquet files, see `evaluation.submissions`.
    name: of the method, in the tables.
    truth: folder of the truth, where it is kept apart.
    workdir: of a benchmark on the same protocol.

  Raises:
    ValueError: for files that are not those of the manifest, predictions that are not what was
      asked, a name that is taken, or a workdir of something else.
  """
  manifest, submitted = frozen.read(folder), submissions.read(paths)
  conditions = {entry['name']: entry for entry in manifest['conditions']}
  episodes = {condition: load(folder, manifest, condition, truth) for condition in conditions}
  asked = {
    condition: submissions.asked(*episode, conditions[condition]['shots'])
    for condition, episode in episodes.items()
  }
  made = submission_checks.predictions_of(submitted, asked)
  rows: list[Row] = []
  for condition, entry in conditions.items():
    found = stored_references(folder, manifest, entry, truth)
    found |= finished(pathlib.Path(workdir), manifest, condition) if workdir else {}
    if name in (*found, *tables.REFERENCES):
      raise ValueError(f'{name!r} is the name of another row; give --name=ANOTHER')
    setting = setting_of(entry, *episodes.pop(condition))
    judged = publish.judge_all(setting, {**found, name: {'': made[condition]}})
    own = publish.rows_of(setting, judged)
    own = labelled(own, name, has_picks=submitted.picks is not None)
    commands.say(f'\n{setting.title}\ndata: {manifest["source"]}; licence: {manifest["licence"]}')
    commands.say(tables.as_text(tables.table(own, metric=publish.headline(setting))))
    rows += own
  return rows


def load(
  folder: pathlib.Path, manifest: Mapping[str, Any], condition: str, truth: str | None
) -> tuple[Task, Truth | None]:
  """Reads the episodes of a condition that are judged."""
  return frozen_arrays.rebuild(
    frozen.load(folder, manifest, f'{condition}/test.npz'),
    frozen.load(folder, manifest, f'{frozen.TRUTH}/{condition}.npz', truth=truth),
  )


def setting_of(entry: Mapping[str, Any], tasks: Task, truth: Truth | None) -> Setting:
  """Prepares the judge of a condition as it was exported; of the population nothing is needed."""
  return Setting(
    name=entry['name'],
    title=entry['title'],
    labels=entry['labels'],
    shots=tuple(entry['shots']),
    populations=(),
    sizes=(len(tasks.user),),
    tasks=tasks,
    truth=truth,
    evaluated=estimates.evaluation_set(
      tasks, truth, rival=entry['rival'], num_resamples=entry['num_resamples']
    ),
  )


def stored_references(
  folder: pathlib.Path, manifest: Mapping[str, Any], entry: Mapping[str, Any], truth: str | None
) -> Found:
  """Reads what the references predicted when the episodes were exported."""
  if not entry['references']:
    return {}
  name = f'{frozen.TRUTH}/{entry["name"]}-references.npz'
  arrays = frozen.load(folder, manifest, name, truth=truth)
  return {
    name: {
      '': Predictions(*(jnp.asarray(arrays[f'{name}.{field}']) for field in Predictions._fields))
    }
    for name in entry['references']
  }


def finished(workdir: pathlib.Path, manifest: Mapping[str, Any], condition: str) -> Found:
  """Reads what the learners of a benchmark predicted for the same users.

  Raises:
    ValueError: for no benchmark, one of other users, or one that has finished nothing yet.
  """
  old, new = workdirs.read(workdir), manifest['config']
  if 'benchmark' not in old:
    raise ValueError(f'{workdir} is of a single run; give the workdir of experiments.benchmark')
  workdirs.compare(workdir, told(old), told(new))
  config: Config = config_dict.ConfigDict(old)
  found: Found = {}
  for learner in config.benchmark.learners:
    for seed in config.benchmark.seeds:
      name = trained.Trained(config, learner, seed, workdir).name
      path = workdir / 'predictions' / condition / f'{name}.npz'
      if path.exists():
        with np.load(path, allow_pickle=False) as stored:
          made = Predictions(*(stored[field] for field in Predictions._fields))
        found.setdefault(learner, {})[str(seed)] = made
  if not found:
    raise ValueError(f'{workdir} has no predictions for {condition!r} yet; run it to the end')
  return found


def told(config: Mapping[str, Any]) -> dict[str, Any]:
  """Selects from a config what decides whom a benchmark judges, and when."""
  judged = {name: config['evaluation'][name] for name in ('shots', 'num_users')}
  folds = config.get('benchmark', {}).get('folds', ())
  return {name: config.get(name) for name in SAME} | {'evaluation': judged, 'folds': list(folds)}


def labelled(rows: Sequence[Row], name: str, *, has_picks: bool) -> list[Row]:
  """Drops from the rows of a submission what does not hold of it.

  Args:
    rows: of a setting.
    name: of the submission.
    has_picks: it tells what to pick; else nothing is said of its picks.
  """
  return [
    row._replace(train_shots='') if row.learner == name else row
    for row in rows
    if row.learner != name or has_picks or not is_of_picks(row)
  ]


def is_of_picks(row: Row) -> bool:
  """Tells whether a metric, or a difference in it, is of picks from slates."""
  return row.metric.partition('_minus_')[0] in submissions.OF_PICKS
