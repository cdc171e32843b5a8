"""Active querying: every learner asks unseen users by every rule, and is evaluated as it goes on.

Which rule is best is read off validation users; what it saves is measured on test users.
"""

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from metapers.bench import cells, fingerprints, references, results, runs, settings
from metapers.bench import plan as plans
from metapers.bench.plan import Condition, Log, MakePopulation, Plan
from metapers.bench.settings import Setting
from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Params
from metapers.evaluation import asking, estimates
from metapers.evaluation.acquisition import RULES
from metapers.evaluation.bayes import exact_learner
from metapers.evaluation.estimates import Estimates
from metapers.evaluation.predictions import Predictions
from metapers.io import processes, workdirs

EXACT = 'bayes'
RANDOM = 'random'
LEAD = 'questions_ahead_of_random'
ByRule = dict[str, Estimates]  # rule -> its estimates after 0, 1, ... questions


class Questioning(NamedTuple):
  """Who is asked, and how much.

  population: makes the users, the support of whose episodes is their pool of questions.
  num_questions: that each is asked.
  compared_after: questions by a rule, against those that random ones need for the same accuracy.
  num_samples: row -> draws from the posterior that questions are chosen by; by default as many as
    the learner was trained with.
  exact: ask by the exact posterior, too, as row `bayes`.
  """

  population: MakePopulation
  num_questions: int = 32
  compared_after: int = 8
  num_samples: Mapping[str, int] = plans.NOTHING
  exact: bool = True


def row_name(row: str, rule: str) -> str:
  """Returns the name in results of a learner that asks by a rule."""
  return f'{row} {rule}'


def rule_of(name: str) -> str:
  """Returns the rule of a name in results; no rule has a space, names of learners may."""
  return name.rpartition(' ')[2]


class Asker(NamedTuple):
  """A learner that is ready to ask.

  name: its row. cell: name with how long it was trained, for files. made_by: digest of what makes
  it, and of how it asks. make_params: trains it on first use, so that finished parts cost nothing.
  chunk_size: users at once.
  """

  name: str
  cell: str
  made_by: str
  learner: MetaLearner
  make_params: Callable[[], Params]
  chunk_size: int


class QueryingResult(NamedTuple):
  """What active querying came to.

  frame: rows of results; the learner of each is a `row_name`, its shots the number of questions.
  best_rules: row -> the rule of the highest accuracy on validation users, other than random.
  users: of the test split, who were asked.
  plan, questioning: what was asked for.
  """

  frame: pd.DataFrame
  best_rules: Mapping[str, str]
  users: Setting
  plan: Plan
  questioning: Questioning


def run(
  plan: Plan,
  questioning: Questioning,
  workdir: str | os.PathLike | None = None,
  *,
  log: Log = print,
) -> QueryingResult:
  """Trains what is missing of a table, asks everyone by every rule and returns the results.

  Args:
    plan: of the learners, with one seed; its conditions are not looked at.
    questioning: who is asked.
    workdir: keeps runs and predictions, so that finished parts are skipped on a restart.
    log: is given lines of progress.

  Raises:
    ValueError: for a workdir of something else, a learner that has no posterior to ask by, users of
      whom there is no exact posterior, or options that do not fit each other.
    SystemExit: in all of several processes but the first, once everything is trained.
  """
  check_options(plan, questioning)
  with workdirs.holding(workdir):
    return _run(plan, questioning, workdir, log)


def _run(
  plan: Plan, questioning: Questioning, workdir: str | os.PathLike | None, log: Log
) -> QueryingResult:
  exact = [exact_asker(plan, questioning)] if questioning.exact else []
  learners = {row: asking_learner(plan, questioning, row) for row in plan.entries}
  validation, test = (users_of(plan, questioning, split) for split in ('validation', 'test'))
  if workdir is not None:
    plan = fingerprints.identified(plan)
  askers = exact + [
    trained_asker(plan, questioning, *each, workdir, log) for each in learners.items()
  ]
  if workdir is not None:  # only now: what is refused changes nothing
    identity = plans.table_identity(plan, 'active querying')
    workdirs.claim(workdir, identity, workdirs.of_table)
  if processes.are_several():  # which train together, and the first of them asks alone
    for asker in askers:
      asker.make_params()
    processes.leave_to_first()
  by_rule = functools.partial(estimates_by_rule, questioning=questioning, workdir=workdir, log=log)
  best_rules = {asker.name: best_rule(by_rule(asker, validation)) for asker in askers}
  frames = [rows_of(test, asker.name, by_rule(asker, test), plan, questioning) for asker in askers]
  return QueryingResult(results.join(frames), best_rules, test, plan, questioning)


def check_options(plan: Plan, questioning: Questioning) -> None:
  """Refuses several seeds or folds, and no questions to compare rules by.

  Raises:
    ValueError: naming what was given.
  """
  if len(plan.seeds) != 1 or plan.folds:
    raise ValueError(
      f'active querying takes one seed and no folds, got seeds={plan.seeds}, folds={plan.folds}'
    )
  for row, entry in plans.entries_of(plan, None).items():
    runs.check_training(entry, entry.populations[0](), row, plan.placement)
  pool = questioning.population().spec.num_support
  if questioning.num_questions > pool:
    raise ValueError(
      f'num_questions={questioning.num_questions} are more than the {pool} of a pool (num_support '
      'of the population); ask fewer, or raise num_support'
    )
  if not 0 < questioning.compared_after < questioning.num_questions:
    raise ValueError(
      f'compared_after must lie between 0 and num_questions={questioning.num_questions}, got '
      f'{questioning.compared_after}'
    )


def users_of(plan: Plan, questioning: Questioning, split: str) -> Setting:
  """Returns the users of a split with a pool of questions each, ready to be evaluated."""
  evaluation = plan.evaluation
  if split == 'validation':
    evaluation = evaluation._replace(num_users=evaluation.num_validation_users)
  condition = Condition((questioning.population,), split=split)
  made = settings.make_setting(plan._replace(evaluation=evaluation), condition)
  return made._replace(
    name=split,
    shots=tuple(range(questioning.num_questions + 1)),
    trained={
      row_name(row, rule): trained for row, trained in made.trained.items() for rule in RULES
    },
  )


def asking_learner(plan: Plan, questioning: Questioning, row: str) -> MetaLearner:
  """Returns a learner of the table with as many draws from its posterior as it asks by.

  Raises:
    ValueError: for a learner without a posterior, or one whose number of draws is no option.
  """
  entry = plan.entries[row]
  if row in questioning.num_samples:
    if 'num_samples' not in inspect.signature(entry.factory).parameters:
      raise ValueError(f'{row} takes no num_samples; leave it out of those of active querying')
    more = {'num_samples': questioning.num_samples[row]}
    entry = entry._replace(kwargs={**entry.kwargs, **more})
  learner = plans.build(entry, plan.populations[0]().spec)
  if not learner.has_posterior:
    raise ValueError(f'{row} has no posterior to choose questions by; give one such as bayes_head')
  return learner


def trained_asker(
  plan: Plan,
  questioning: Questioning,
  row: str,
  learner: MetaLearner,
  workdir: str | os.PathLike | None,
  log: Log,
) -> Asker:
  """Returns a learner with the parameters of its row of the table."""
  trained = cells.Trained(plan, row, plan.seeds[0], workdir, log=log)

  def make_params() -> Params:
    return trained.fold_runs()[0].params

  made_by = asked(questioning, row, run=trained.made_by)
  return Asker(row, trained.name, made_by, learner, make_params, plan.evaluation.chunk_size)


def asked(questioning: Questioning, row: str, **others: Any) -> str:
  """Returns a digest of how a row asks, and of what else its answers depend on."""
  draws = questioning.num_samples.get(row)
  return workdirs.digest({'num': questioning.num_questions, 'num_samples': draws, **others})


def exact_asker(plan: Plan, questioning: Questioning) -> Asker:
  """Returns the exact posterior, to ask by the same rules.

  Raises:
    ValueError: for users of whom it is not a function of what learners see.
  """
  population = questioning.population()
  if population.simulation is None:
    raise ValueError(f'{population.source}: no exact posterior of real people; set exact=False')
  draws = questioning.num_samples
  try:
    learner = exact_learner.of_simulation(
      population.simulation,
      num_candidates=population.spec.num_candidates,
      num_particles=plan.evaluation.num_particles,
      capacity=questioning.num_questions,
      **({'num_samples': draws[EXACT]} if EXACT in draws else {}),
    )
  except ValueError as error:
    raise ValueError(f'{error}; or leave the row `bayes` out by exact=False') from error
  particles = plan.evaluation.num_particles
  prior = str(population.simulation.user_models)
  version = references.VERSION
  made_by = asked(questioning, EXACT, num_particles=particles, prior=prior, version=version)
  # One user at a time: vmap would make every user pay for every move of the particles.
  return Asker(
    EXACT, EXACT, made_by, learner, lambda: learner.init(jax.random.key(0)), chunk_size=1
  )


def estimates_by_rule(
  asker: Asker,
  users: Setting,
  *,
  questioning: Questioning,
  workdir: str | os.PathLike | None,
  log: Log,
) -> ByRule:
  """Returns the estimates of a learner that asks all users of a setting, by rule."""

  def predict(users: Setting, rule: str) -> Predictions:
    params = asker.make_params()
    log(f'{asker.name} asks {users.name} users by {rule}')
    answers = asking.ask(
      asker.learner,
      params,
      users.tasks,
      users.truth,
      rule=rule,
      num_questions=questioning.num_questions,
      chunk_size=asker.chunk_size,
      key=jax.random.key(1),
    )
    return answers.predictions

  found, folder = {}, cells.folder_of(users, asker.cell, asker.made_by)
  for rule in RULES:
    make = functools.partial(
      cells.made_now, users, f'{asker.cell}-{rule}', functools.partial(predict, rule=rule)
    )
    made = cells.keep_file(workdir, folder / f'{rule}.npz', make)
    found[rule] = estimates.estimate(users.evaluated, made)
  return found


def best_rule(found: ByRule) -> str:
  """Returns the rule, other than random, of the highest mean accuracy over all questions."""
  means = {rule: np.mean(made['accuracy'][0]) for rule, made in found.items() if rule != RANDOM}
  return max(means, key=means.__getitem__)


def rows_of(
  users: Setting, row: str, found: ByRule, plan: Plan, questioning: Questioning
) -> pd.DataFrame:
  """Returns one learner's results by every rule, and how far each rule is ahead of random.

  Args:
    users: who were asked.
    row: of the learner.
    found: its estimates by rule.
    plan: of the learners.
    questioning: after how many questions rules are compared.
  """
  seed, after, parts = str(plan.seeds[0]), questioning.compared_after, []
  random = found[RANDOM]
  for rule, own in found.items():
    name = row_name(row, rule)
    parts.append(results.learner_rows(users, name, seed, own))
    if rule != RANDOM:
      ahead = asking.questions_ahead(own['accuracy'], random['accuracy'], after)[:, None]
      differences = estimates.differences(own, random, RANDOM)
      parts.append(results.learner_rows(users, name, seed, differences))
      compared = users._replace(shots=(after,))
      parts.append(results.learner_rows(compared, name, seed, {LEAD: ahead}))
  return results.join(parts)
