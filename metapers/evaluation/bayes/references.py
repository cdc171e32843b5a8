"""The references of a table of results: what is known of simulated users, and what can be learned.

Each is a function of the episodes, their truth and the facts of the simulation that made them.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core.population import SEEN, Population, Responses, Simulation, UserModel, Users
from metapers.core.task import Task, Truth
from metapers.core.types import Any
from metapers.evaluation import adaptation, streams
from metapers.evaluation.bayes import ceiling, feature_scores, other_responses
from metapers.evaluation.bayes import types as user_types
from metapers.evaluation.bayes.ceiling import Diagnostics
from metapers.evaluation.bayes.evidence import Hidden
from metapers.evaluation.bayes.other_responses import Slates
from metapers.evaluation.bayes.posterior import NUM_HALVES, PairOdds
from metapers.evaluation.predictions import Predictions
from metapers.populations import statements
from metapers.populations.simulated_users import Exclusion, exclusion_floor

NUM_SETS = 112  # of other responses for each half, four of each pair of 8 positions


class Prior(NamedTuple):
  """What is known of users before any comparison.

  user_models: equally likely ones. pair_rule: of `choice_rules`. floor: [B] least weights, () for
  none. truth: of the users, without a reward model of which they are known to have no weight.
  """

  user_models: tuple[UserModel, ...]
  pair_rule: str
  floor: tuple[float, ...]
  truth: Truth


def users_of(population: Population, split: str) -> Users:
  """Returns the simulated users of a split; those of SEEN are train users.

  Raises:
    ValueError: for a population whose users have no weights.
  """
  simulation = population.simulation
  if simulation is None or simulation.users is None:
    raise ValueError(
      f'references need simulated users with weights; {population.source!r} has none: nobody knows '
      'the rewards of real people'
    )
  return simulation.users(population.arrays, 'train' if split == SEEN else split)


def has_posterior(simulation: Simulation, split: str = 'test') -> bool:
  """Returns whether `bayes` can be computed of the users of a split.

  Their weights come from a Dirichlet, they choose honestly, and by one pair rule.
  """
  some_lie = split == SEEN and simulation.adversarial_share > 0
  return bool(simulation.user_models) and len(simulation.pair_rules) == 1 and not some_lie


def mixture(known: UserModel, changes: Sequence[Mapping[str, Any]]) -> tuple[UserModel, ...]:
  """Returns user models that each differ from the known one in the fields given.

  Raises:
    ValueError: for a field that a user model does not have.
  """
  unknown = sorted(set().union(*changes) - set(UserModel._fields))
  if unknown:
    fields = ', '.join(UserModel._fields)
    raise ValueError(f'a mixture is of user models with {fields}; got {", ".join(unknown)}')
  return tuple(known._replace(**change) for change in changes)


def prior_of(
  simulation: Simulation, truth: Truth, split: str, *, believed: Simulation | None = None
) -> Prior:
  """Returns what is known of the users of a split before any comparison.

  Of an excluded reward model, train and validation users are known to have no weight, and test
  users at least `excluded_share`.

  Args:
    simulation: of the population.
    truth: of the users.
    split: of the users, SEEN included.
    believed: of train users whom those of the split are taken for, whatever they are: then of a
      reward model that is excluded there, nobody is believed to have any weight.
  """
  pair_rule, floor, by = simulation.pair_rules[0], (), believed or simulation
  if by.excluded_model:
    index = simulation.reward_models.index(by.excluded_model)
    if split == 'test' and believed is None:
      exclusion = Exclusion(index, by.excluded_share)
      floor = exclusion_floor(exclusion, len(simulation.reward_models))
    else:
      truth = without(truth, index)
  return Prior(by.user_models, pair_rule, floor, truth)


def without(truth: Truth, index: int) -> Truth:
  """Returns the truth without reward model `index`, of which users have no weight."""
  return truth._replace(
    weights=jnp.delete(truth.weights, index, -1),
    support_rewards=jnp.delete(truth.support_rewards, index, -1),
    query_rewards=jnp.delete(truth.query_rewards, index, -1),
    slate_rewards=jnp.delete(truth.slate_rewards, index, -1),
  )


def oracle(tasks: Task, truth: Truth, users: Users, *, num_rows: int) -> Predictions:
  """Returns the predictions of the true rewards under every user's own choice model.

  Args:
    tasks: T users.
    truth: of the same.
    users: of the split, see `users_of`; the first T are those of the tasks.
    num_rows: L, the numbers of shots to repeat the same predictions for.
  """
  size = len(tasks.user)
  noise = {'temperature': users.temperature[:size], 'flip_rate': users.flip_rate[:size]}
  return ceiling.oracle(tasks, truth, num_rows=num_rows, **noise)


def oracle_features(
  tasks: Task, truth: Truth, users: Users, responses: Responses, *, num_rows: int
) -> Predictions:
  """Returns the predictions of the true weights on scores that a ridge reads from the features.

  Args:
    tasks: T users.
    truth: of the same.
    users: as in `oracle`.
    responses: to the train prompts, which the ridge is fitted on.
    num_rows: L.
  """
  return oracle(tasks, read_scores(tasks, truth, responses), users, num_rows=num_rows)


def read_scores(tasks: Task, truth: Truth, responses: Responses) -> Truth:
  """Returns the truth with what a ridge reads from the features of candidates as their rewards."""
  coefficients = jnp.asarray(feature_scores.coefficients_of(responses), jnp.float32)
  return truth._replace(
    support_rewards=tasks.support.candidates.features @ coefficients,
    support_mask=tasks.support.candidates.mask,
    query_rewards=tasks.query.candidates.features @ coefficients,
    query_mask=tasks.query.candidates.mask,
    slate_rewards=truth.slate.features @ coefficients,
  )


def bayes(
  tasks: Task,
  truth: Truth,
  simulation: Simulation,
  *,
  split: str,
  shots: Sequence[int] = (),
  is_stream: bool = False,
  user_models: Sequence[UserModel] = (),
  believed: Simulation | None = None,
  num_particles: int = 1000,
  hidden: Hidden | None = None,
  odds: PairOdds | None = None,
) -> tuple[Predictions, Diagnostics]:
  """Returns the exact posterior predictive, and how exact it is.

  Args:
    tasks: T users.
    truth: of the same.
    simulation: of their population.
    split: of the users, SEEN included.
    shots: L numbers of comparisons.
    is_stream: predicts each comparison of the support from those before it, in place of `shots`.
    user_models: equally likely beforehand; by default those of the simulation, or of `believed`.
    believed: see `prior_of`; that of the users that learners were trained on gives the row
      `bayes_seen`.
    num_particles: of each of two halves.
    hidden: see `ceiling.bayes`; of all B reward models.
    odds: likewise.
  """
  prior = prior_of(simulation, truth, split, believed=believed)
  if hidden is not None and prior.truth.weights.shape != truth.weights.shape:
    index = simulation.reward_models.index((believed or simulation).excluded_model)
    hidden = hidden._replace(directions=jnp.delete(hidden.directions, index, -1))
  made, diagnostics = ceiling.bayes(
    tasks,
    prior.truth,
    user_models or prior.user_models,
    pair_rule=prior.pair_rule,
    shots=range(tasks.support.mask.shape[1]) if is_stream else shots,
    floor=prior.floor,
    num_particles=num_particles,
    hidden=hidden,
    odds=odds,
    statement=statements.read(tasks.context) if simulation.has_statements else None,
  )
  return streams.by_turn(made, tasks.support.mask) if is_stream else made, diagnostics


def can_read_features(tasks: Task, simulation: Simulation) -> bool:
  """Returns whether `bayes_features` is exact: two candidates, drawn whatever their scores are."""
  is_pair = tasks.query.candidates.mask.shape[-1] == 2
  return is_pair and set(simulation.pair_rules) <= {'random', 'best_of_k'}


def bayes_features(
  tasks: Task, truth: Truth, simulation: Simulation, responses: Responses, **options: Any
) -> tuple[Predictions, Diagnostics]:
  """Returns the exact posterior predictive of one who sees features, not scores; how exact it is.

  Scores are what the ridge of `oracle_features` reads from the features, plus Gaussian residuals
  with the covariance that train prompts have (`feature_scores`). Residuals of comparisons that
  share a response count as independent, and scores that depend on features otherwise than linearly
  as unknown: a learner that finds such a dependence may do better.

  Args:
    tasks: T users, see `can_read_features`.
    truth: of the same; their rewards are not used.
    simulation: of their population.
    responses: to the train prompts.
    **options: of `bayes`.

  Raises:
    ValueError: for other than two candidates, or pairs whose choice depends on their scores.
  """
  if not can_read_features(tasks, simulation):
    raise ValueError(
      'bayes_features needs 2 candidates of pair_rule random or best_of_k, got '
      f'{tasks.query.candidates.mask.shape[-1]} of {"+".join(simulation.pair_rules)}'
    )
  covariance = feature_scores.contrast_covariance(responses)
  by = options.get('believed') or simulation
  is_noisy = any(one.temperature > 0 for one in options.get('user_models') or by.user_models)
  hidden = stack([feature_scores.residuals_of(covariance, is_noisy=is_noisy)] * NUM_HALVES)
  return bayes(tasks, read_scores(tasks, truth, responses), simulation, hidden=hidden, **options)


def bayes_pair(
  tasks: Task,
  truth: Truth,
  simulation: Simulation,
  responses: Responses,
  *,
  num_sets: int = NUM_SETS,
  **options: Any,
) -> tuple[Predictions, Diagnostics]:
  """Returns the posterior predictive of one who sees the scores of extreme pairs, not the slates.

  The other responses are integrated out by resampling slates (`other_responses`), those of either
  half of the particles on their own: the diagnostics hold the error of that, too.

  Args:
    tasks: T users.
    truth: of the same; of the slates that pairs come from only the pairs are used.
    simulation: of their population, under `extreme`.
    responses: to the train prompts, of at least 3 responses each.
    num_sets: M resampled sets of other responses of each half; cost is linear.
    **options: of `bayes`.

  Raises:
    ValueError: for another pair rule, or fewer responses.
  """
  if simulation.pair_rules != ('extreme',):
    raise ValueError(f'bayes_pair is for pair_rule extreme, got {"+".join(simulation.pair_rules)}')
  slates = other_responses.slates_of(responses)
  sets = [
    other_responses.resample(responses, slates, num_sets, seed=half) for half in range(NUM_HALVES)
  ]
  odds = PairOdds(
    *(
      other_responses.pair_odds(slates, rewards[..., :2, :])
      for rewards in (truth.support_rewards, truth.query_rewards)
    )
  )
  pairs = only_pairs(truth, slates)
  return bayes(tasks, pairs, simulation, hidden=stack(sets), odds=odds, **options)


def only_pairs(truth: Truth, slates: Slates) -> Truth:
  """Returns the truth with G z̄, see `other_responses`, in place of what pairs were chosen from."""
  regression = jnp.asarray(slates.regression, jnp.float32)

  def change(rewards, mask):
    shown = rewards[..., :2, :]
    expected = shown.mean(-2, keepdims=True) @ regression
    real = jnp.concatenate([mask[..., :2], mask[..., :2].all(-1, keepdims=True)], -1)
    return jnp.concatenate([shown, expected], -2), real

  support = change(truth.support_rewards, truth.support_mask)
  query = change(truth.query_rewards, truth.query_mask)
  return truth._replace(
    support_rewards=support[0],
    support_mask=support[1],
    query_rewards=query[0],
    query_mask=query[1],
  )


def stack(halves: Sequence[Hidden]) -> Hidden:
  """Returns what is hidden from each half of the particles, on a first axis."""
  return jax.tree.map(lambda *x: jnp.stack(x), *halves)


def types(tasks: Task, simulation: Simulation, *, shots: Sequence[int]) -> Predictions:
  """Returns the exact posterior predictive of users who are of a few equally likely types.

  Args:
    tasks: T users.
    simulation: with `choice_probabilities`.
    shots: L numbers of comparisons.

  Raises:
    ValueError: for users who are not of a few types.
  """
  if simulation.choice_probabilities is None:
    raise ValueError('these users are not of a few types: simulation.choice_probabilities is None')
  log_probs = user_types.predict(tasks, shots, simulation.choice_probabilities)
  scores = jnp.zeros((len(shots), *adaptation.no_slates(tasks).mask.shape), jnp.float32)
  return Predictions(log_probs, scores)
