"""Judges predictions that any framework made for frozen episodes.

    python -m experiments.score --episodes=FOLDER predictions.parquet [more.parquet]

A table of choices has the columns condition, user, shots, query, candidate, and probability (or
log_probability, in nats): a row for each real candidate of each real query comparison. A table of
picks, if any, has condition, user, shots, slate, response, score; without it, what is measured of
picks is left out. Prints the table of each condition, by the code that judges our own learners,
with the references beside it; `--workdir` of an `experiments.benchmark` on the same protocol adds
its learners, and differences to its `pooled`.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import config_dict

from experiments import commands, publish
from experiments.build import Config
from experiments.configs import base
from experiments.settings import Setting
from metapers.core.task import Task, Truth
from metapers.evaluation import estimates, results, submission_checks, submissions, tables
from metapers.evaluation.predictions import Predictions
from metapers.evaluation.results import Row
from metapers.io import frozen, frozen_arrays, workdirs

EPISODES = flags.DEFINE_string('episodes', None, 'A folder of experiments.export_episodes.')
TRUTH = flags.DEFINE_string('truth', None, 'The folder `truth` of it, where it is kept apart.')
NAME = flags.DEFINE_string('name', None, "Of the method; by default the first file's.")
OUT = flags.DEFINE_string('out', None, 'A results.csv to add the rows to.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Of a benchmark whose learners to show beside.')
Found = dict[str, dict[str, Predictions]]  # learner -> seed -> its predictions
SAME = ('protocol', 'population', 'data')  # in the config of a workdir as in that of the episodes


def main(argv: list[str]) -> None:
  """Runs the command."""
  _, *paths = argv
  if not paths:
    raise ValueError('give the parquet files of predictions, behind the flags')
  folder = pathlib.Path(commands.required(EPISODES))
  name = NAME.value or pathlib.Path(paths[0]).stem
  rows = score(folder, paths, name=name, truth=TRUTH.value, workdir=WORKDIR.value)
  commands.say(f'\nepisodes sha256: {frozen.fingerprint(folder)}')
  if OUT.value:
    commands.say(str(results.append(OUT.value, rows)))


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
    own = publish.rows_of(setting, {**found, name: {'': made[condition]}})
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
    judge=estimates.judge(tasks, truth, rival=entry['rival'], num_resamples=entry['num_resamples']),
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
    ValueError: for a benchmark of other users, or one that has finished nothing yet.
  """
  old, new = workdirs.read(workdir), manifest['config']
  workdirs.compare(workdir, told(old), told(new))
  config: Config = config_dict.ConfigDict(old)
  found: Found = {}
  for learner in config.benchmark.learners:
    for seed in config.benchmark.seeds:
      num_steps = base.single(config, learner, seed=seed).training.num_steps
      path = workdir / 'predictions' / condition / f'{learner}-{seed}-{num_steps}.npz'
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
  return {name: config.get(name) for name in SAME} | {'evaluation': judged}


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


if __name__ == '__main__':
  commands.run(main)
