"""Choosing the options of every learner by equally many trials, on validation users alone."""

import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from metapers.bench import acquainted, cells, fingerprints, runs
from metapers.bench import plan as plans_of
from metapers.bench.plan import Evaluation, Log, Plan
from metapers.io import progress, workdirs
from metapers.io.report import Table

Changes = Mapping[str, Any]


class Trial(NamedTuple):
  """One choice of a learner's options, and how well it did.

  row: of the table. changes: of the row's options. nll: nats on validation users, their mean and
  that over all numbers of shots; lower is better.
  """

  row: str
  changes: Changes
  nll: float


def require_equal(trials: Mapping[str, Sequence[object]]) -> None:
  """Refuses a learner that is tried more often than another.

  Raises:
    ValueError: naming how often each is tried.
  """
  counts = {row: len(own) for row, own in trials.items()}
  if len(set(counts.values())) > 1 or not all(counts.values()):
    listed = ', '.join(f'{row} {count}' for row, count in counts.items())
    raise ValueError(f'all learners are tuned by equally many trials, at least one; got {listed}')


def require_one_length(plans: Sequence[Plan], trials: Mapping[str, Sequence[object]]) -> None:
  """Refuses trials of a learner that differ in length: of one run, the longer goes on.

  Raises:
    ValueError: naming the learner and the lengths.
  """
  for row in trials:
    lengths = sorted({plan.entries[row].training.num_steps for plan in plans})
    if len(lengths) > 1:
      raise ValueError(
        f'{row}: trials of one learner must be of one num_steps, got {lengths}: a longer run would '
        'go on from a shorter one; make rows of their own of them'
      )


def run(
  plans: Sequence[Plan],
  trials: Mapping[str, Sequence[Changes]],
  workdir: str | os.PathLike,
  *,
  log: Log = print,
) -> list[Trial]:
  """Trains every trial that is not trained yet, and returns all of them with what they came to.

  Runs are found by what makes them: a table in the same workdir does not train the chosen anew.

  Args:
    plans: of the table under the first trial of each row, the second, ...; their first seed counts.
    trials: row -> the changes of each trial, as many of every row as there are plans.
    workdir: keeps the runs.
    log: is given lines of progress.

  Raises:
    ValueError: for a learner that is tried more often than another or for unlike numbers of steps,
      options that do not fit, or where the tests of all folds leave nobody to choose by.
    FloatingPointError: for a learner all of whose trials diverged; a diverged one loses to others.
  """
  require_equal(trials)
  require_one_length(plans, trials)
  identity = plans_of.table_identity(fingerprints.identified(plans[0]), 'table')
  workdirs.check_claim(workdir, identity, workdirs.of_table)
  for row, plan in itertools.product(trials, plans):
    runs.check_training(plan.entries[row], plan.populations[0](), row, plan.placement)
  tested = tested_people(plans[0])
  workdirs.claim(workdir, identity, workdirs.of_table)
  found = []
  for row, own in progress.along(trials.items(), 'learners', unit='learner', label=_row):
    for number, (changes, plan) in enumerate(zip(own, plans, strict=True)):
      trained = cells.Trained(plan, row, plan.seeds[0], workdir, log=log)
      nll = _nll_of_all(trained, plan.evaluation, tested, log)
      log(f'{row}, trial {number + 1} of {len(own)}: validation NLL {nll:.4f}')
      found.append(Trial(row, changes, nll))
  hopeless = [row for row in trials if all(one.nll == np.inf for one in found if one.row == row)]
  if hopeless:
    raise FloatingPointError(f'every trial of {", ".join(hopeless)} diverged; try lower rates')
  return found


def tested_people(plan: Plan) -> set[Any]:
  """Returns the ids of the real people whom a table tests in any of its folds.

  Raises:
    ValueError: where nobody else is left to choose options by in a fold.
  """
  populations = [make() for make in plan.populations]
  tested = set().union(*(acquainted.people_of(each, ['test']) for each in populations))
  for fold, population in zip(plan.folds, populations):
    if acquainted.people_of(population, ['validation']) <= tested:
      raise ValueError(
        f'every validation user of fold {fold} is a test user of another: tune a table of fewer '
        'folds, such as --config.benchmark.folds=0,'
      )
  return tested


def _nll_of_all(
  trained: cells.Trained, evaluation: Evaluation, tested: Collection[Any], log: Log
) -> float:
  try:
    return float(np.mean([nll_of(one, evaluation, tested) for one in trained.fold_runs()]))
  except FloatingPointError as error:  # one choice of options that is no good, as others are
    log(str(error))
    return float(np.inf)


def _row(item: tuple[str, object]) -> str:
  return item[0]


def nll_of(trained: runs.Run, evaluation: Evaluation, tested: Collection[Any] = ()) -> float:
  """Returns the NLL on validation users of a run's best parameters, in nats.

  Args:
    trained: the run.
    evaluation: see `runs.validation`.
    tested: ids of people who are left out: the test users of all folds, of whom one fold's options
      would else be chosen by those that another is evaluated on.
  """
  measure = runs.validation(trained.learner, trained.population, evaluation, tested)
  return -measure(trained.params, trained.best_step)['score']


def best(trials: Sequence[Trial]) -> dict[str, Changes]:
  """Returns the changes of each row's best trial; of equal ones the first."""
  chosen: dict[str, Trial] = {}
  for trial in trials:
    if trial.row not in chosen or trial.nll < chosen[trial.row].nll:
      chosen[trial.row] = trial
  return {row: trial.changes for row, trial in chosen.items()}


def frame_of(trials: Sequence[Trial]) -> pd.DataFrame:
  """Returns one row for each trial: row, changes, nll, and whether it is the row's best."""
  chosen = best(trials)
  return pd.DataFrame(
    [
      {
        'row': trial.row,
        'changes': in_words(trial.changes),
        'nll': trial.nll,
        'chosen': trial.changes is chosen[trial.row],
      }
      for trial in trials
    ]
  )


def table_of(trials: Sequence[Trial]) -> Table:
  """Returns the trials as a table for a terminal."""
  chosen = best(trials)
  body = [
    [one.row, in_words(one.changes), f'{one.nll:.4f}', 'best' * (one.changes is chosen[one.row])]
    for one in trials
  ]
  return Table('NLL (nats) on validation users', ['learner', 'changes', 'nll', ''], body)


def in_words(changes: Changes) -> str:
  """Returns changes as text: 'training.learning_rate=0.001'."""
  parts = [f'{part}.{name}={value}' for part, own in changes.items() for name, value in own.items()]
  return ', '.join(parts) or 'defaults'
