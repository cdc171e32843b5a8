"""Scores a submission for episodes in files by the code that evaluates our own learners."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

from metapers.bench import (
  cells,
  episodes,
  freezing,
  report,
  resampling,
  results,
  submissions,
  tables,
)
from metapers.bench.cells import BySeed
from metapers.bench.plan import Log
from metapers.bench.resampling import Resampled
from metapers.bench.settings import TRAINED, Setting
from metapers.core.task import Task, Truth
from metapers.evaluation import estimates
from metapers.evaluation.predictions import Predictions
from metapers.io import workdirs

# What must be alike in the configs of a workdir and of episodes, beside who is evaluated.
SAME = ('protocol', 'population', 'population_source', 'data')


class Loaded(NamedTuple):
  """The episodes of a condition that are evaluated, and what of them is resampled."""

  tasks: Task
  truth: Truth | None
  resampled: Resampled


class Finished(NamedTuple):
  """What the learners of a table predicted for a condition.

  predictions: row -> seed -> its predictions. trained: row -> how, as in `Setting`.
  """

  predictions: BySeed
  trained: dict[str, dict[str, str]]


def score(
  folder: str | os.PathLike,
  paths: Sequence[str | os.PathLike],
  *,
  name: str,
  truth: str | None = None,
  workdir: str | os.PathLike | None = None,
  log: Log = print,
) -> pd.DataFrame:
  """Returns the results of a submission, beside those of references and of a finished table.

  Args:
    folder: of the episodes.
    paths: parquet files, see `submissions`.
    name: of the method, in the results.
    truth: folder of the truth, where it is kept apart.
    workdir: of `experiments.benchmark` on the same protocol, whose learners to add.
    log: is given the table of each condition.

  Raises:
    ValueError: for files that are not those of the manifest, predictions of something else than
      the targets, a name that is taken, or a workdir of another table.
  """
  manifest, submission = episodes.read_episodes_manifest(folder), submissions.read_submission(paths)
  conditions = {entry['name']: entry for entry in manifest['conditions']}
  loaded = {name: load(folder, manifest, entry, truth) for name, entry in conditions.items()}
  targets = {
    condition: submissions.targets_of(own.tasks, own.truth, conditions[condition]['shots'])
    for condition, own in loaded.items()
  }
  made = submissions.predictions_of(submission, targets)
  frames = []
  for condition, entry in conditions.items():
    others = finished(workdir, manifest, condition)
    setting = setting_of(entry, loaded.pop(condition), others.trained)
    predicted = stored_references(folder, manifest, entry, truth) | others.predictions
    require_free(name, predicted)
    frame = results.rows_of(
      setting, results.evaluate_all(setting, {**predicted, name: {'': made[condition]}})
    )
    frame = frame if submission.picks is not None else without_picks(frame, name)
    log(f'\n{setting.title}\ndata: {manifest["source"]}; licence: {manifest["licence"]}')
    log(report.spoken_for(frame, setting))
    log(tables.as_text(tables.table(frame, metric=report.headline(setting))))
    frames.append(frame)
  return results.join(frames)


def load(
  folder: str | os.PathLike,
  manifest: Mapping[str, Any],
  entry: Mapping[str, Any],
  truth: str | None,
) -> Loaded:
  """Returns the episodes of a condition.

  Raises:
    ValueError: for arrays that make no episodes, or not those of the manifest.
  """
  name = entry['name']
  visible = episodes.load_arrays(folder, manifest, f'{name}/test.npz')
  hidden = episodes.load_arrays(folder, manifest, f'{episodes.TRUTH}/{name}.npz', truth=truth)
  tasks, known = episodes.rebuild(visible, hidden)
  resampled = Resampled(entry.get('resampled', ''), hidden.get('query_resampled'))
  num_ids = 0 if resampled.ids is None else resampled.ids.shape[-1]
  most = int(np.asarray(tasks.query.candidates.mask).sum(-1).max())  # outcomes are no items
  expected = resampling.num_ids(resampled.kind, most)
  if num_ids != expected:
    raise ValueError(
      f'{folder}: {name!r} has {num_ids} ids of each comparison to resample, expected {expected} '
      f'(resampled={resampled.kind!r}); export the episodes anew'
    )
  return Loaded(tasks, known, resampled)


def setting_of(
  entry: Mapping[str, Any], loaded: Loaded, trained: Mapping[str, Mapping[str, str]]
) -> Setting:
  """Returns a condition as it was exported; of its population nothing is needed."""
  tasks, truth, resampled = loaded
  return Setting(
    name=entry['name'],
    title=entry['title'],
    labels=entry['labels'],
    shots=tuple(entry['shots']),
    populations=(),
    sizes=(len(tasks.user),),
    split=entry['labels'].get('split', 'test'),
    tasks=tasks,
    truth=truth,
    evaluated=estimates.evaluation_set(
      tasks,
      truth,
      rival=entry['rival'],
      items=resampled.ids,
      num_resamples=entry['num_resamples'],
    ),
    trained=trained,
    resampled=resampled,
  )


def stored_references(
  folder: str | os.PathLike,
  manifest: Mapping[str, Any],
  entry: Mapping[str, Any],
  truth: str | None,
) -> BySeed:
  """Returns what the references predicted when the episodes were exported.

  Raises:
    ValueError: for predictions that are missing or of another shape.
  """
  if not entry['references']:
    return {}
  file = freezing.references_file(entry['name'])
  arrays = episodes.load_arrays(folder, manifest, file, truth=truth)
  visible = manifest['files'][f'{entry["name"]}/test.npz']['arrays']
  num_users, *candidates = visible['query_shown']['shape']
  _, *responses = visible.get('slate_shown', {'shape': (num_users, 0, 0)})['shape']
  for field, part in zip(Predictions._fields, (candidates, responses), strict=True):
    wanted = (len(entry['shots']), num_users, *part)
    for name in (f'{each}.{field}' for each in entry['references']):
      if name not in arrays or arrays[name].shape != wanted or arrays[name].dtype.kind != 'f':
        raise ValueError(f'{folder}/{file} holds no {name} of {list(wanted)}; export it anew')
  return {
    name: {
      '': Predictions(*(jnp.asarray(arrays[f'{name}.{field}']) for field in Predictions._fields))
    }
    for name in entry['references']
  }


def require_free(name: str, predicted: Mapping[str, Any]) -> None:
  """Refuses a name for a submission that another row has.

  Raises:
    ValueError: naming it.
  """
  if name in (*predicted, *tables.REFERENCES):
    raise ValueError(f'{name!r} is the name of another row; give --name=ANOTHER')


def finished(
  workdir: str | os.PathLike | None, manifest: Mapping[str, Any], condition: str
) -> Finished:
  """Returns what the learners of a finished table predicted for the users of a condition.

  Args:
    workdir: of `experiments.benchmark`; None for none.
    manifest: of the episodes.
    condition: its name.

  Raises:
    ValueError: for a workdir of something else, of other users, or with nothing finished yet.
  """
  if workdir is None:
    return Finished({}, {})
  stored = workdirs.read_config(workdir)
  if 'benchmark' not in stored:
    kind = '`bench.compare`' if stored.get('kind') == 'table' else 'a single run'
    raise ValueError(f'{workdir} is of {kind}; give the workdir of experiments.benchmark')
  workdirs.compare_configs(workdir, compared(stored), compared(manifest['identity']))
  (entry,) = (each for each in manifest['conditions'] if each['name'] == condition)
  shots = entry['shots']
  kept, frozen = cells.users_of(workdir, condition), entry.get('users', '')
  if kept and frozen and kept != frozen:
    raise ValueError(
      f'{workdir} predicted for other users of {condition!r} than those of the episodes, under the '
      'same options: they were drawn by other versions of metapers, JAX or NumPy; run '
      'experiments.benchmark anew with the version that froze the episodes'
    )
  found = Finished({}, {})
  for row, seeds in cells.read_index(workdir, condition).items():
    for seed, folder in seeds.items():
      if all(cells.part_of(folder, k).exists() for k in shots):
        found.predictions.setdefault(row, {})[seed] = cells.read_parts(folder, shots)
  labelled = results.read_results(pathlib.Path(workdir) / 'results.csv')
  labelled = results.select(labelled, **entry['labels'])
  for label in labelled.drop_duplicates('learner').itertuples():
    found.trained[str(label.learner)] = {name: str(getattr(label, name)) for name in TRAINED}
  if not found.predictions:
    raise ValueError(f'{workdir} has no predictions for {condition!r} yet; run it to the end')
  return found


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what of a table's config decides who is evaluated."""
  folds = config.get('benchmark', {}).get('folds', ())
  num_users = config.get('evaluation', {}).get('num_users')
  same = workdirs.flat({name: config.get(name) for name in SAME})
  kept = {name: value for name, value in same.items() if name not in workdirs.PATHS}
  return {**kept, 'evaluation.num_users': num_users, 'folds': list(folds)}


def without_picks(frame: pd.DataFrame, name: str) -> pd.DataFrame:
  """Drops what is measured of picks, differences included, from the rows of one method."""
  metric = frame['metric'].str.partition('_minus_')[0]
  return frame.loc[~(metric.isin(submissions.OF_PICKS) & (frame['learner'] == name))]
