"""Simulation-based calibration: are posteriors of simulated users right, over all users together?

Draw a user from the prior and their answers; then the truth is one more draw from the posterior, so
that its rank among draws is uniform, whatever the quantity. A learner that never looks at the
answers passes, too: the check sees a wrong prior or a wrong update, not that nothing was learned.

References:
  Talts et al. 2018, arXiv:1804.06788; Modrák et al. 2023, arXiv:2211.02383 (quantities of the data
  such as the likelihood); Säilynoja, Bürkner and Vehtari 2022, arXiv:2103.10522 (simultaneous
  bands).
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import stats

from metapers.analysis import sampling, study_frame
from metapers.analysis.study_frame import Cell, Whose
from metapers.core import batches, choice_model, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates, Choices, Task, Truth
from metapers.core.types import Array, Float, Int, Params, PRNGKey

NUM_DRAWS = 99
# Of a learner's `sample`, among which a user's draws are picked at random: banks that all users
# share give everybody the same few members, among which no rank is uniform.
NUM_SAMPLES = 4096
NUM_USERS = 1000
LIKELIHOOD, AS_PREDICTED = 'log-likelihood of the answers', 'answers as predicted'
WEIGHT, EVENNESS = 'weight of {}', 'entropy of the weights'
COVERAGES = (0.5, 0.8, 0.95)
LEVEL = 0.95  # of simultaneous bands
LEAST_WEIGHT = 1e-3  # below which weights are equal: they move no choice
ROUNDING = 1e-5  # of a quantity, by which equal ones may differ
NUM_SIMULATIONS = 2000  # of uniform ranks, at least
FOR_EACH_TEST = 40  # the least p is half of the .05 that all tests share


class Draws(NamedTuple):
  """A quantity of each user after each number of comparisons: its truth, and draws of it."""

  truth: Float[np.ndarray, 'L T']
  draws: Float[np.ndarray, 'L T S']


def draw(
  learner: MetaLearner,
  params: Params,
  tasks: Task,
  truth: Truth,
  *,
  shots: Sequence[int],
  reward_models: Sequence[str] = (),
  num_draws: int = NUM_DRAWS,
  chunk_size: int = 16,
  seed: int = 0,
) -> dict[str, Draws]:
  """Returns the quantities of all users.

  Of held-out answers: their log-likelihood under the learner's own predictions, and how many are
  those predicted; draws are of all answers of a user together, under one draw of the posterior. Of
  the weights, where the learner's latent is the simulator's: each of them, and their entropy; those
  below LEAST_WEIGHT count as equal.

  Args:
    learner: whose posterior is looked at; without one, answers are drawn from its predictions.
    params: of the learner.
    tasks: of T users of the prior.
    truth: of the same.
    shots: L numbers of comparisons.
    reward_models: names of the weights, for learners that read scores; () for predictions alone.
    num_draws: S.
    chunk_size: users at once.
    seed: of the draws.
  """
  key, found = jax.random.key(seed), {}
  for count in shots:
    fixed = num_draws, len(reward_models), chunk_size
    one = _draw(learner, *fixed, params, tasks, truth.weights, jnp.int32(count), key)
    for name, values in zip(names_of(reward_models), jax.device_get(_split(one))):
      found.setdefault(name, []).append(values)
  return {
    name: Draws(np.stack([one[0] for one in rows]), np.stack([one[1] for one in rows]))
    for name, rows in found.items()
  }


def names_of(reward_models: Sequence[str]) -> list[str]:
  """Returns the names of the quantities, in the order of `draw`."""
  of_weights = [*map(WEIGHT.format, reward_models), EVENNESS] if reward_models else []
  return [LIKELIHOOD, AS_PREDICTED, *of_weights]


def _split(found: tuple[Array, Array]) -> list[tuple[Array, Array]]:
  truth, draws = found  # [T, Q], [T, S, Q]
  return [(truth[:, number], draws[..., number]) for number in range(truth.shape[1])]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _draw(learner, num_draws, num_models, chunk_size, params, tasks, weights, count, key):
  def of_user(number):
    person = task.take(tasks, number)
    keys = jax.random.split(jax.random.fold_in(key, number), 3)
    support = task.with_shots(person.support, count)
    state = learner.adapt(params, support, person.context, keys[0])
    truth, draws = answers(learner, params, state, person.query, num_draws, keys[1:])
    if not num_models:
      return truth, draws
    own = latent(learner, params, state, num_models, num_draws, keys[1])
    own, true_weights = (jnp.maximum(each, LEAST_WEIGHT) for each in (own, weights[number]))
    return (
      jnp.concatenate([truth, true_weights, evenness(true_weights)[None]]),
      jnp.concatenate([draws, own, evenness(own)[:, None]], 1),
    )

  return batches.map_chunks(of_user, tasks.user.shape[0], chunk_size)


def answers(
  learner: MetaLearner, params: Params, state, query: Choices, num_draws: int, keys
) -> tuple[Float[Array, 'Q'], Float[Array, 'S Q']]:
  """Returns the quantities of the held-out answers, and of draws of them."""
  shown, mean = query.candidates, learner.predict(params, state, query.candidates)  # [N, K]
  log_p = jnp.broadcast_to(mean, (num_draws, *mean.shape))
  if learner.has_posterior:
    utilities = learner.sample(params, state, shown)
    chosen = some_of(keys[0], utilities.shape[0], num_draws)
    log_p = jax.vmap(lambda own: choice_model.log_probs(own, shown.mask))(utilities[chosen])
  drawn = jax.random.categorical(keys[1], log_p)  # [S, N]
  best = jnp.argmax(mean, -1)

  def quantities(choice):
    likely = jnp.take_along_axis(mean, choice[:, None], 1)[:, 0]
    both = jnp.stack([likely, (choice == best).astype(likely.dtype)], 1)
    return jnp.sum(jnp.where(query.mask[:, None], both, 0), 0)

  found = jax.vmap(quantities)(jnp.concatenate([query.choice[None], drawn]))
  return found[0], found[1:]


def latent(
  learner: MetaLearner, params: Params, state, num_models: int, num_draws: int, key: PRNGKey
) -> Float[Array, 'S B']:
  """Returns draws of the weights: utilities of one score each, as shares of their sum."""
  corners = Candidates(
    jnp.eye(num_models, dtype=jnp.float32)[None], jnp.ones((1, num_models), bool)
  )
  utilities = learner.sample(params, state, corners)[:, 0]  # [S, B]
  chosen = utilities[some_of(key, utilities.shape[0], num_draws)]
  return chosen / chosen.sum(-1, keepdims=True)


def some_of(key: PRNGKey, size: int, num_draws: int) -> Int[Array, 'S']:
  """Returns which samples to take as draws: all of as many as are needed, else random ones."""
  if size == num_draws:
    return jnp.arange(num_draws, dtype=jnp.int32)
  return jax.random.randint(key, (num_draws,), 0, size, jnp.int32)


def evenness(weights: Float[Array, '*S B']) -> Float[Array, '*S']:
  """Returns the entropy of weights, in nats."""
  return jax.scipy.special.entr(weights).sum(-1)


def ranks(found: Draws, *, seed: int = 0) -> Int[np.ndarray, 'L T']:
  """Returns the rank of each truth among its draws, 0 to S; of tied ones any place is as likely.

  What differs by rounding alone is tied.
  """
  truth = found.truth[..., None]
  is_tied = np.abs(found.draws - truth) <= ROUNDING * np.abs(truth)
  below = ((found.draws < truth) & ~is_tied).sum(-1)
  tied = is_tied.sum(-1)
  return below + np.random.default_rng([seed, 13]).integers(tied + 1)


class Bands(NamedTuple):
  """What uniform ranks give, all places together, in LEVEL of the samples.

  places: [G] shares of the ranks. low, high: [G] of the share of users below each.
  least: [simulations] the smallest tail probability of each simulated sample, sorted.
  """

  places: Float[np.ndarray, 'G']
  low: Float[np.ndarray, 'G']
  high: Float[np.ndarray, 'G']
  least: Float[np.ndarray, 'simulations']


def bands(
  num_users: int, num_draws: int = NUM_DRAWS, *, num_tests: int = 1, seed: int = 0
) -> Bands:
  """Returns simultaneous bands of the distribution of ranks, by simulation.

  A sample leaves the band where the smallest of its binomial tail probabilities, over all places,
  is below what it is in all but LEVEL of samples of uniform ranks.

  Args:
    num_users: whose truths are ranked.
    num_draws: that they are ranked among.
    num_tests: p values that share a level of .05: more need smaller ones, of more simulations.
    seed: of the simulations.
  """
  places = np.arange(1, num_draws + 1) / (num_draws + 1)
  rng = np.random.default_rng([seed, 14])
  size = max(NUM_SIMULATIONS, FOR_EACH_TEST * num_tests)
  drawn = rng.multinomial(num_users, np.full(num_draws + 1, 1 / (num_draws + 1)), size=size)
  least = np.sort(smallest_tail(np.cumsum(drawn, 1)[:, :-1], num_users, places))
  tail = np.quantile(least, 1 - LEVEL)
  low, high = (stats.binom.ppf(q, num_users, places) / num_users for q in (tail / 2, 1 - tail / 2))
  return Bands(places, low, high, least)


def smallest_tail(
  counts: Int[np.ndarray, '*X G'], num_users: int, places: Float[np.ndarray, 'G']
) -> Float[np.ndarray, '*X']:
  """Returns the smallest two-sided binomial tail probability of numbers of users below places."""
  below = stats.binom.cdf(counts, num_users, places)
  above = stats.binom.sf(counts - 1, num_users, places)
  return np.asarray(np.minimum(2 * np.minimum(below, above), 1).min(-1))


def below(found: Int[np.ndarray, 'T'], num_draws: int = NUM_DRAWS) -> Int[np.ndarray, 'G']:
  """Returns how many users' ranks are below each place."""
  return np.cumsum(np.bincount(found, minlength=num_draws + 1))[:-1]


def p_value(found: Int[np.ndarray, 'T'], known: Bands) -> float:
  """Returns how often uniform ranks are as far from uniform at some place as these."""
  own = float(smallest_tail(below(found, len(known.places)), len(found), known.places))
  return float((1 + (known.least <= own * (1 + 1e-9)).sum()) / (1 + len(known.least)))


def covered(
  found: Int[np.ndarray, 'T'], level: float, num_draws: int = NUM_DRAWS
) -> Float[np.ndarray, 'T']:
  """Returns whether the truth is in the central interval of a level, of each user.

  An end of the interval that lies between two ranks takes its part of the rank that it cuts, so
  that uniform ranks are covered as often as the level says.
  """
  num_ranks = num_draws + 1
  away = np.abs(found + 0.5 - num_ranks / 2)
  return np.clip((level * num_ranks - 1) / 2 + 1 - away, 0, 1)


def study(
  given: dict[str, Draws],
  shots: Sequence[int],
  whose: Whose,
  *,
  known: Bands | None = None,
  seed: int = 0,
) -> pd.DataFrame:
  """Returns uniformity of ranks and coverage by quantity and k, as `study_frame.COLUMNS`.

  Args:
    given: of `draw`.
    shots: of the same.
    whose: of which learner.
    known: the bands; by default made here.
    seed: of ties.
  """
  cells = []
  for name, drawn in given.items():
    num_users, num_draws = drawn.draws.shape[1:]
    edges = known or bands(num_users, num_draws)
    for count, found in zip(shots, ranks(drawn, seed=seed)):
      group = f'{name}, k = {count}'
      cells.append(Cell(group, 'p of uniform ranks', p_value(found, edges)))
      for level in COVERAGES:
        inside = sampling.mean(covered(found, level, num_draws))
        cells.append(Cell(group, f'coverage of {level:.0%}', *inside))
  return study_frame.rows(whose, cells)
