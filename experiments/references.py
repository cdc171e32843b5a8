"""The references of a table: what could be known of the users, and so what is left to learn."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from experiments import build, commands
from experiments.settings import Setting
from metapers.data import ridge
from metapers.evaluation import ceiling
from metapers.evaluation.posterior import Condition
from metapers.evaluation.predictions import Predictions

Make = Callable[[Setting], Predictions]
RIDGE_PENALTY = 10.0


def table(config: config_dict.ConfigDict, setting: Setting) -> dict[str, Make]:
  """Returns what makes each reference of a setting; real people have none.

  `oracle` is the true reward; `bayes` the exact posterior predictive under the setting's own
  condition, called `bayes_scores` on the features track, where it sees scores that learners do
  not; `bayes_mixture` the same under all of `evaluation.mixture`; `oracle_features` the true
  weights on rewards ridge-regressed from the features.
  """
  if setting.truth is None:
    return {}
  known = condition(setting)
  made: dict[str, Make] = {'oracle': lambda setting: oracle(setting, known)}
  if setting.populations[0].record['track'] == 'features':
    made['oracle_features'] = lambda setting: oracle_features(config, setting, known)
    made['bayes_scores'] = lambda setting: bayes(config, setting, [known])
    return made
  made['bayes'] = lambda setting: bayes(config, setting, [known])
  if config.evaluation.mixture:
    several = [known._replace(concentration=alpha) for alpha in config.evaluation.mixture]
    made['bayes_mixture'] = lambda setting: bayes(config, setting, several)
  return made


def condition(setting: Setting) -> Condition:
  """Reads how the users of a setting choose."""
  users = setting.populations[0].arrays.users['test']
  alpha = float(str(setting.populations[0].record['concentration']))
  return Condition(alpha, float(users.temperature[0]), float(users.flip_rate[0]))


def oracle(setting: Setting, known: Condition) -> Predictions:
  """Predicts with the true rewards and choice model."""
  return ceiling.oracle(
    setting.tasks,
    setting.truth,
    num_rows=len(setting.shots),
    temperature=known.temperature,
    flip_rate=known.flip_rate,
  )


def bayes(
  config: config_dict.ConfigDict, setting: Setting, conditions: list[Condition]
) -> Predictions:
  """Predicts with the exact posterior, and prints how exact it is."""
  commands.say(f'bayes: {len(conditions)} conditions, {config.evaluation.num_particles} particles')
  made, diagnostics = ceiling.bayes(
    setting.tasks,
    setting.truth,
    conditions,
    pair_rule=str(setting.populations[0].record['pair_rule']),
    shots=setting.shots,
    num_particles=config.evaluation.num_particles,
  )
  points = 100 * float(np.abs(diagnostics.accuracy_gap).max())
  nats = float(np.abs(diagnostics.nll_gap).max())
  commands.say(f'bayes: two halves differ by at most {points:.2f} points and {nats:.4f} nats')
  return made


def oracle_features(
  config: config_dict.ConfigDict, setting: Setting, known: Condition
) -> Predictions:
  """Predicts with the true weights on scores that a ridge on train prompts reads from features."""
  arrays = setting.populations[0].arrays
  train = np.asarray(arrays.prompts['train'])
  fitted = ridge.within_prompt_ridge(
    np.asarray(arrays.features),
    np.asarray(arrays.rewards),
    np.asarray(arrays.mask),
    train,
    penalty=RIDGE_PENALTY,
  )
  coefficients = jnp.asarray(fitted.coefficients)
  truth = setting.truth._replace(
    query_rewards=setting.tasks.query.candidates.features @ coefficients,
    slate_rewards=setting.truth.slate.features @ coefficients,
  )
  return oracle(setting._replace(truth=truth), known)
