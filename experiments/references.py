"""The references of a table: what could be known of the users, and so what is left to learn."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from experiments import build, commands
from experiments.build import Config
from experiments.settings import Setting
from metapers.core.population import SEEN, Population, UserModel
from metapers.core.task import Truth
from metapers.data import ridge
from metapers.evaluation import adaptation, streams
from metapers.evaluation.bayes import ceiling
from metapers.evaluation.predictions import Predictions
from metapers.populations import np_btl, simulated_users
from metapers.populations.simulated_users import Exclusion

Make = Callable[[Setting], Predictions]


def table(config: Config, setting: Setting) -> dict[str, Make]:
  """Returns what makes each reference of a setting; real people have none.

  `oracle` is the true reward; `bayes` the exact posterior predictive under the setting's own
  condition, called `bayes_scores` on the features track, where it sees
  scores that learners do not; `bayes_mixture` the same without being told which condition of
  `evaluation.mixture` holds; `bayes_seen` the same under the prior of the users that were trained
  on, where `evaluation.seen_prior` asks for it; `oracle_features` the true weights on rewards
  ridge-regressed from the features. Users who differ in their pair rule, or whose taste changes,
  have no `bayes`.

  Raises:
    ValueError: for a mixture on the features track, or one of something else than conditions.
  """
  if config.population.name == 'np_btl':
    return {'bayes': np_btl_exact}
  if setting.truth is None:
    return {}
  known = conditions(setting.populations[0])
  several = mixture(config, known[0])
  on_features = setting.populations[0].record['track'] == 'features'
  if on_features and several:
    raise ValueError('evaluation.mixture is for the scores track; leave it empty here')
  made: dict[str, Make] = {'oracle': oracle}
  if on_features:
    made['oracle_features'] = oracle_features
  if not has_posterior(setting):
    return made
  made['bayes_scores' if on_features else 'bayes'] = lambda setting: bayes(config, setting, known)
  if several:
    made['bayes_mixture'] = lambda setting: bayes(config, setting, several)
  if config.evaluation.seen_prior:
    made['bayes_seen'] = lambda setting: bayes_seen(config, setting)
  return made


def has_posterior(setting: Setting) -> bool:
  """Tells whether `bayes` can be computed: one pair rule, and one taste that all is told of."""
  is_lasting = setting.stream is None or not (setting.stream.change_at or setting.stream.window)
  return is_lasting and '+' not in str(setting.populations[0].record['pair_rule'])


def simulated(setting: Setting) -> Truth:
  """Returns the truth of simulated users.

  Raises:
    ValueError: for real people, of whom nobody knows it.
  """
  if setting.truth is None:
    raise ValueError('references need simulated users; of real people nobody knows the truth')
  return setting.truth


def conditions(population: Population) -> list[UserModel]:
  """Reads how the users of a population choose: one condition for each α and noise they mix."""
  users = population.arrays.users['test']
  temperatures = np.unique(users.temperature)
  alphas = str(population.record['concentration']).split('+')
  flip_rate = float(users.flip_rate[0])
  return [
    UserModel(float(alpha), float(temperature), flip_rate)
    for alpha in alphas
    for temperature in temperatures
  ]


def mixture(config: Config, known: UserModel) -> list[UserModel]:
  """Reads `evaluation.mixture`: conditions told by what in them differs from the known one.

  Raises:
    ValueError: for a field that conditions do not have.
  """
  several = []
  for changes in config.evaluation.mixture:
    unknown = sorted(set(changes) - set(UserModel._fields))
    if unknown:
      known_fields = ', '.join(UserModel._fields)
      raise ValueError(f'evaluation.mixture takes {known_fields}; got {", ".join(unknown)}')
    several.append(known._replace(**changes))
  return several


def oracle(setting: Setting) -> Predictions:
  """Predicts with the true rewards and every user's own choice model."""
  split = setting.labels['split']
  users = setting.populations[0].arrays.users['train' if split == SEEN else split]
  return ceiling.oracle(
    setting.tasks,
    simulated(setting),
    num_rows=1 if setting.stream else len(setting.shots),
    temperature=users.temperature[: len(setting.tasks.user)],  # the first are judged
    flip_rate=float(users.flip_rate[0]),
  )


def bayes(
  config: Config, setting: Setting, prior: list[UserModel], *, as_seen: bool = False
) -> Predictions:
  """Predicts with the exact posterior, and prints how exact it is.

  Args:
    config: for the number of particles.
    setting: whose users are predicted.
    prior: conditions that are equally likely beforehand.
    as_seen: believe of an excluded reward model what holds of the seen users, of new ones too.
  """
  commands.say(f'bayes: {len(prior)} conditions, {config.evaluation.num_particles} particles')
  record = setting.populations[0].record
  truth, floor = simulated(setting), ()
  if record['excluded_model'] and (as_seen or setting.labels['split'] == SEEN):
    truth = without(truth, exclusion(setting).index)
  elif record['excluded_model']:
    floor = simulated_users.exclusion_floor(exclusion(setting), truth.weights.shape[-1])
  made, diagnostics = ceiling.bayes(
    setting.tasks,
    truth,
    prior,
    pair_rule=str(record['pair_rule']),
    shots=range(setting.tasks.support.mask.shape[1]) if setting.stream else setting.shots,
    floor=floor,
    num_particles=config.evaluation.num_particles,
  )
  points = 100 * float(np.abs(diagnostics.accuracy_gap).max())
  nats = float(np.abs(diagnostics.nll_gap).max())
  unexplained = int(np.max(diagnostics.num_unexplained))
  commands.say(
    f'bayes: two halves differ by at most {points:.2f} points and {nats:.4f} nats'
    + (f'; {unexplained} comparisons contradict the prior' if unexplained else '')
  )
  return streams.by_turn(made, setting.tasks.support.mask) if setting.stream else made


def exclusion(setting: Setting) -> Exclusion:
  """Reads which reward model the seen users of a setting do not care for."""
  record, names = setting.populations[0].record, setting.populations[0].record['reward_models']
  index = str(names).split(', ').index(str(record['excluded_model']))
  return Exclusion(index, float(record['excluded_share']))


def bayes_seen(config: Config, setting: Setting) -> Predictions:
  """Predicts with the exact posterior of who believes that new users are like the seen ones."""
  return bayes(config, setting, conditions(build.population(config)), as_seen=True)


def without(truth: Truth, index: int) -> Truth:
  """Drops a reward model of which users have no weight."""
  return truth._replace(
    weights=jnp.delete(truth.weights, index, -1),
    support_rewards=jnp.delete(truth.support_rewards, index, -1),
    query_rewards=jnp.delete(truth.query_rewards, index, -1),
    slate_rewards=jnp.delete(truth.slate_rewards, index, -1),
  )


def np_btl_exact(setting: Setting) -> Predictions:
  """Predicts with the exact posterior over the two types of NP-BTL's users."""
  slates = adaptation.no_slates(setting.tasks).mask
  scores = jnp.zeros((len(setting.shots), *slates.shape))
  return Predictions(np_btl.exact(setting.tasks, setting.shots), scores)


def oracle_features(setting: Setting) -> Predictions:
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
  return oracle(setting._replace(truth=truth))
