"""The references of a table: what could be known of the users, and so what is left to learn."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from metapers.bench.plan import Evaluation, Log, MakePopulation
from metapers.bench.settings import Setting
from metapers.core import files, programs
from metapers.core.population import Responses, Simulation
from metapers.core.task import Truth
from metapers.evaluation.bayes import references
from metapers.evaluation.bayes.ceiling import Diagnostics
from metapers.evaluation.predictions import Predictions

VERSION = 2  # to be raised with any change of a predicted number: cells of another are made anew
Make = Callable[[Setting], Predictions]
Find = Callable[..., tuple[Predictions, Diagnostics]]
NAMES = (
  'oracle', 'oracle_features', 'bayes', 'bayes_scores', 'bayes_features', 'bayes_pair',
  'bayes_mixture', 'bayes_seen',
)  # fmt: skip


def makers(
  setting: Setting, evaluation: Evaluation, trained_on: MakePopulation, *, log: Log
) -> dict[str, Make]:
  """Returns what makes each reference of a setting; real people have none.

  `oracle` is the true reward; `bayes` the exact posterior predictive under the setting's own user
  model, called `bayes_scores` where it sees scores that learners do not; `bayes_features` the same
  of one who sees the features alone; `bayes_pair` of one who sees of `extreme` pairs not the slate
  that they were chosen from, as learners do not; `bayes_mixture` without knowing which user model
  of `evaluation.mixture` holds; `bayes_seen` under the prior of the users that were trained on;
  `oracle_features` the true weights on rewards ridge-regressed from the features. Users who differ
  in their pair rule, or whose preferences change, have no `bayes`.

  Args:
    setting: the users.
    evaluation: which references, and how exact.
    trained_on: makes the population that learners were trained on.
    log: is given lines of progress.

  Raises:
    ValueError: for a mixture where learners do not see scores, or one of other fields, or
      `evaluation.without` a name that no reference has.
  """
  if unknown := [name for name in evaluation.without if name not in NAMES]:
    raise ValueError(f'no reference is called {unknown[0]!r}; known: {", ".join(NAMES)}')
  found = of_setting(setting, evaluation, trained_on, log=log)
  return {name: make for name, make in found.items() if name not in evaluation.without}


def of_setting(
  setting: Setting, evaluation: Evaluation, trained_on: MakePopulation, *, log: Log
) -> dict[str, Make]:
  """Returns what makes each reference that a setting has; see `makers`."""
  simulation = setting.populations[0].simulation
  if simulation is None:
    return {}
  if simulation.choice_probabilities is not None:
    return {'bayes': functools.partial(of_types, simulation=simulation)}
  if setting.truth is None:
    return {}
  given = {'evaluation': evaluation, 'trained_on': trained_on, 'log': log}
  return of_weights(setting, setting.truth, simulation, **given)


def identity(
  name: str, setting: Setting, evaluation: Evaluation, trained_on: MakePopulation
) -> dict[str, Any]:
  """Returns what a reference's predictions depend on, beside the users themselves, as JSON."""
  population = setting.populations[0]
  simulation = population.simulation
  found: dict[str, Any] = {'version': VERSION}
  if simulation is None or name.startswith('oracle'):  # `oracle_features` reads train responses
    return found | {'data': population.content_hash}
  if simulation.choice_probabilities is not None:
    shown = setting.tasks.query.candidates
    program = programs.program(simulation.choice_probabilities, shown)
    return found | {'types': files.sha256(program)}
  found |= {'prior': str(simulation.user_models), 'num_particles': evaluation.num_particles}
  if name in ('bayes_features', 'bayes_pair'):  # which read train responses
    found['data'] = population.content_hash
  if name == 'bayes_mixture':
    found['mixture'] = [dict(changes) for changes in evaluation.mixture]
  if name == 'bayes_seen':
    seen = trained_on()
    excluded = seen.simulation.excluded_model if seen.simulation else ''
    found['seen'] = [str(user_models_of(trained_on)), excluded, seen.content_hash]
  return found


def of_types(setting: Setting, simulation: Simulation) -> Predictions:
  """Returns the exact answer for users of a few types."""
  return references.types(setting.tasks, simulation, shots=setting.shots)


def of_weights(
  setting: Setting,
  truth: Truth,
  simulation: Simulation,
  *,
  evaluation: Evaluation,
  trained_on: MakePopulation,
  log: Log,
) -> dict[str, Make]:
  """Returns the references of users who weigh reward models; see `makers`."""
  if evaluation.mixture and not simulation.has_score_features:
    raise ValueError('evaluation.mixture is for the scores track; leave it empty here')
  made: dict[str, Make] = {'oracle': functools.partial(oracle, truth=truth)}
  if not simulation.has_score_features and simulation.responses is not None:
    made['oracle_features'] = functools.partial(oracle_features, truth=truth)
  if not has_posterior(setting):
    return made

  def exact(setting: Setting, find: Find = references.bayes, **options: Any) -> Predictions:
    log(f'bayes: {evaluation.num_particles} particles')
    found, diagnostics = find(
      setting.tasks,
      truth,
      simulation,
      split=setting.split,
      shots=setting.shots,
      is_stream=setting.stream is not None,
      num_particles=evaluation.num_particles,
      **options,
    )
    log(exactness(diagnostics))
    return found

  made['bayes' if simulation.has_score_features else 'bayes_scores'] = exact
  for name, find in partly_hidden(setting, truth, simulation).items():
    made[name] = functools.partial(exact, find=find)
  if evaluation.mixture:
    several = [
      one
      for user_model in simulation.user_models
      for one in references.mixture(user_model, evaluation.mixture)
    ]
    made['bayes_mixture'] = functools.partial(exact, user_models=tuple(dict.fromkeys(several)))
  if evaluation.seen_prior:
    made['bayes_seen'] = lambda setting: exact(setting, believed=trained_on().simulation)
  return made


def partly_hidden(setting: Setting, truth: Truth, simulation: Simulation) -> dict[str, Find]:
  """Returns the exact answers to those who see no more than learners do, where these see less."""
  if simulation.responses is None:
    return {}
  if not simulation.has_score_features:
    can = references.can_read_features(setting.tasks, simulation)
    return {'bayes_features': from_train(setting, references.bayes_features)} if can else {}
  has_others = truth.support_mask.shape[-1] > 2
  if simulation.pair_rules == ('extreme',) and has_others:
    return {'bayes_pair': from_train(setting, references.bayes_pair)}
  return {}


def from_train(setting: Setting, find: Find) -> Find:
  """Returns what finds a reference, given the responses to the train prompts."""
  return lambda *given, **options: find(*given, train_responses(setting), **options)


def has_posterior(setting: Setting) -> bool:
  """Returns whether `bayes` can be computed, for which preferences must last."""
  simulation, stream = setting.populations[0].simulation, setting.stream
  is_lasting = stream is None or not (stream.change_at or stream.window)
  if simulation is None or not is_lasting:
    return False
  return references.has_posterior(simulation, setting.split)


def user_models_of(make: MakePopulation) -> tuple:
  """Returns the user models of a population of simulated users; () for others."""
  simulation = make().simulation
  return () if simulation is None else simulation.user_models


def num_rows(setting: Setting) -> int:
  """Returns for how many numbers of shots a setting is predicted."""
  return 1 if setting.stream else len(setting.shots)


def oracle(setting: Setting, truth: Truth) -> Predictions:
  """Returns the predictions of the true rewards."""
  users = references.users_of(setting.populations[0], setting.split)
  return references.oracle(setting.tasks, truth, users, num_rows=num_rows(setting))


def oracle_features(setting: Setting, truth: Truth) -> Predictions:
  """Returns the predictions of the true weights on scores read from features."""
  users = references.users_of(setting.populations[0], setting.split)
  responses = train_responses(setting)
  return references.oracle_features(
    setting.tasks, truth, users, responses, num_rows=num_rows(setting)
  )


def train_responses(setting: Setting) -> Responses:
  """Returns all responses to the train prompts of a population that has `responses`."""
  population = setting.populations[0]
  assert population.simulation is not None and population.simulation.responses is not None
  return population.simulation.responses(population.arrays, 'train')


def exactness(diagnostics: Diagnostics) -> str:
  """Returns a line that says how far the two halves of the particles differ."""
  points = 100 * float(np.abs(diagnostics.accuracy_gap).max())
  nats = float(np.abs(diagnostics.nll_gap).max())
  unexplained = int(np.max(diagnostics.num_unexplained))
  contradicting = f'; {unexplained} comparisons contradict the prior' if unexplained else ''
  return (
    f'bayes: two halves differ by at most {points:.2f} points and {nats:.4f} nats{contradicting}'
  )
