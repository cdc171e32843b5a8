"""The references of a table: what could be known of the users, and so what is left to learn."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from experiments import commands
from experiments.build import Config
from experiments.settings import Setting
from metapers.core.task import Truth
from metapers.data import ridge
from metapers.evaluation import ceiling
from metapers.evaluation.evidence import Condition
from metapers.evaluation.predictions import Predictions

Make = Callable[[Setting], Predictions]


def table(config: Config, setting: Setting) -> dict[str, Make]:
  """Returns what makes each reference of a setting; real people have none.

  `oracle` is the true reward; `bayes` the exact posterior predictive under the setting's own
  condition, called `bayes_scores` on the features track, where it sees
  scores that learners do not; `bayes_mixture` the same without being told which condition of
  `evaluation.mixture` holds; `oracle_features` the true weights on rewards ridge-regressed from
  the features.

  Raises:
    ValueError: for a mixture on the features track, or one of something else than conditions.
  """
  if setting.truth is None:
    return {}
  known = conditions(setting)
  several = mixture(config, known[0])
  made: dict[str, Make] = {'oracle': lambda setting: oracle(setting, known[0])}
  if setting.populations[0].record['track'] == 'features':
    if several:
      raise ValueError('evaluation.mixture is for the scores track; leave it empty here')
    made['oracle_features'] = lambda setting: oracle_features(setting, known[0])
    made['bayes_scores'] = lambda setting: bayes(config, setting, known)
    return made
  made['bayes'] = lambda setting: bayes(config, setting, known)
  if several:
    made['bayes_mixture'] = lambda setting: bayes(config, setting, several)
  return made


def simulated(setting: Setting) -> Truth:
  """Returns the truth of simulated users.

  Raises:
    ValueError: for real people, of whom nobody knows it.
  """
  if setting.truth is None:
    raise ValueError('references need simulated users; of real people nobody knows the truth')
  return setting.truth


def conditions(setting: Setting) -> list[Condition]:
  """Reads how the users of a setting choose: one condition for each α that they mix."""
  users = setting.populations[0].arrays.users['test']
  noise = float(users.temperature[0]), float(users.flip_rate[0])
  alphas = str(setting.populations[0].record['concentration']).split('+')
  return [Condition(float(alpha), *noise) for alpha in alphas]


def mixture(config: Config, known: Condition) -> list[Condition]:
  """Reads `evaluation.mixture`: conditions told by what in them differs from the known one.

  Raises:
    ValueError: for a field that conditions do not have.
  """
  several = []
  for changes in config.evaluation.mixture:
    unknown = sorted(set(changes) - set(Condition._fields))
    if unknown:
      known_fields = ', '.join(Condition._fields)
      raise ValueError(f'evaluation.mixture takes {known_fields}; got {", ".join(unknown)}')
    several.append(known._replace(**changes))
  return several


def oracle(setting: Setting, known: Condition) -> Predictions:
  """Predicts with the true rewards and choice model."""
  return ceiling.oracle(
    setting.tasks,
    simulated(setting),
    num_rows=len(setting.shots),
    temperature=known.temperature,
    flip_rate=known.flip_rate,
  )


def bayes(config: Config, setting: Setting, prior: list[Condition]) -> Predictions:
  """Predicts with the exact posterior, and prints how exact it is."""
  commands.say(f'bayes: {len(prior)} conditions, {config.evaluation.num_particles} particles')
  made, diagnostics = ceiling.bayes(
    setting.tasks,
    simulated(setting),
    prior,
    pair_rule=str(setting.populations[0].record['pair_rule']),
    shots=setting.shots,
    num_particles=config.evaluation.num_particles,
  )
  points = 100 * float(np.abs(diagnostics.accuracy_gap).max())
  nats = float(np.abs(diagnostics.nll_gap).max())
  commands.say(f'bayes: two halves differ by at most {points:.2f} points and {nats:.4f} nats')
  return made


def oracle_features(setting: Setting, known: Condition) -> Predictions:
  """Predicts with the true weights on scores that a ridge on train prompts reads from features."""
  arrays = setting.populations[0].arrays
  features, rewards, mask = map(np.asarray, (arrays.features, arrays.rewards, arrays.mask))
  is_train = np.isin(np.arange(len(mask)), np.asarray(arrays.prompts['train']))
  fitted = ridge.within_prompt_ridge(features, rewards, mask, is_train)
  coefficients = jnp.asarray(fitted)
  truth = simulated(setting)
  truth = truth._replace(
    query_rewards=setting.tasks.query.candidates.features @ coefficients,
    slate_rewards=truth.slate.features @ coefficients,
  )
  return oracle(setting._replace(truth=truth), known)
