"""Simulated users in the place of real people: the same questions, answered by weighted scores.

And which users are likeliest to have answered as people did, where reward models score the very
items that people compared.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from metapers.analysis import people_statistics
from metapers.analysis.people_statistics import Answers
from metapers.core.types import Array, Float, Int
from metapers.populations import dirichlet

CONCENTRATIONS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
TEMPERATURES = (0.0, 0.25, 0.5, 1.0, 2.0)  # in sd of a reward model's scores
NUM_PARTICLES = 4096  # of the prior, over which a person's answers are averaged
LEVEL = 0.95
# The least p is 2 / 200: small enough for the .05 that three statistics share.
NUM_REPLICATES = 199
CONFORMING = 'spread of agreement with others'


def answered(
  answers: Answers,
  scores: Float[np.ndarray, 'I B'],
  weights: Float[np.ndarray, 'U B'],
  temperature: float,
  rng: np.random.Generator,
) -> Answers:
  """Returns the same questions, answered by users of these weights.

  Args:
    answers: whose questions are asked, person by person.
    scores: of the items.
    weights: of as many users as there are people.
    temperature: of P(first) = sigmoid(w·(z_first - z_second) / temperature); 0 is without noise. Of
      ratings each has its own noise, which all answers that it implies share.
    rng: draws the noise.
  """
  gap = scores[answers.first] - scores[answers.second]
  utility = np.einsum('mb,mb->m', gap, weights[answers.user])
  if answers.is_rated:
    noise = rng.gumbel(size=(answers.num_users, len(scores)))
    own = answers.user
    utility = utility + temperature * (noise[own, answers.first] - noise[own, answers.second])
  else:
    utility = utility + temperature * rng.logistic(size=utility.shape)
  ties = rng.integers(2, size=utility.shape) == 1
  sign = np.where((utility > 0) | ((utility == 0) & ties), 1, -1)
  return answers._replace(sign=sign)


def draw_weights(
  rng: np.random.Generator, num_users: int, concentration: float, num_models: int
) -> Float[np.ndarray, 'U B']:
  """Returns weights of users from Dirichlet(α·1_B), α = `concentration`."""
  return np.exp(dirichlet.sample_log_weights(rng, num_users, concentration, num_models))


def items_of(
  scores: Float[np.ndarray, 'P R B'], mask: np.ndarray, num_items: int, rng: np.random.Generator
) -> Float[np.ndarray, 'I B']:
  """Returns the scores of random responses, around their prompts' means, as items.

  A response may stand for several items where there are fewer of them.
  """
  real = mask[..., None]
  centre = (scores * real).sum(1, keepdims=True) / real.sum(1, keepdims=True)
  pool = (scores - centre)[mask]
  return pool[rng.choice(len(pool), num_items, replace=num_items > len(pool))]


class Likelihood(NamedTuple):
  """How likely people's answers are under each (α, temperature).

  log_evidence: [A, C], Σ over people, of concentrations and temperatures. inside: [A, C], whether
  each is in the region of LEVEL.
  """

  concentrations: tuple[float, ...]
  temperatures: tuple[float, ...]
  log_evidence: Float[np.ndarray, 'A C']
  inside: np.ndarray

  @property
  def best(self) -> tuple[float, float]:
    """The likeliest concentration and temperature."""
    row, column = np.unravel_index(self.log_evidence.argmax(), self.log_evidence.shape)
    return self.concentrations[row], self.temperatures[column]


@functools.partial(jax.jit, static_argnames='chunk_size')
def log_evidence(
  weights: Float[Array, 'S B'],
  gaps: Float[Array, 'U N B'],
  mask: Float[Array, 'U N'],
  temperature: Float[Array, ''],
  *,
  chunk_size: int = 8,
) -> Float[Array, 'U']:
  """Returns each person's log of the mean over particles of the probability of all answers.

      log 1/S Σ_s Π_n sigmoid(w_s·gap_n / temperature)

  Args:
    weights: particles of the prior.
    gaps: scores of what was chosen minus what was rejected.
    mask: 1 where an answer is real.
    temperature: of the choice model.
    chunk_size: people at once.
  """

  def of_person(given):
    gap, real = given
    logits = gap @ weights.T / temperature  # [N, S]
    total = jnp.sum(real[:, None] * jax.nn.log_sigmoid(logits), 0)
    return jax.scipy.special.logsumexp(total) - jnp.log(float(len(weights)))

  return jax.lax.map(of_person, (gaps, mask), batch_size=chunk_size)


def padded(
  answers: Answers, scores: Float[np.ndarray, 'I B']
) -> tuple[Float[np.ndarray, 'U N B'], Float[np.ndarray, 'U N']]:
  """Returns each person's gaps of scores, chosen minus rejected, and which are real."""
  counts = np.bincount(answers.user, minlength=answers.num_users)
  order = np.argsort(answers.user, kind='stable')
  place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
  gaps = np.zeros((answers.num_users, int(counts.max()), scores.shape[1]), np.float32)
  mask = np.zeros(gaps.shape[:2], np.float32)
  user = answers.user[order]
  gap = answers.sign[:, None] * (scores[answers.first] - scores[answers.second])
  gaps[user, place], mask[user, place] = gap[order], 1
  return gaps, mask


def disjoint(answers: Answers, rng: np.random.Generator) -> Answers:
  """Returns some of each person's answers, no two of them about one item, taken at random.

  Of each rating no more than one answer is left: with Gumbel noise in each, these are independent.
  """
  used, kept = set(), np.zeros(len(answers.user), bool)
  for number in rng.permutation(len(answers.user)).tolist():
    user = answers.user[number]
    both = {(user, answers.first[number]), (user, answers.second[number])}
    if not both & used:
      used |= both
      kept[number] = True
  return people_statistics.some(answers, kept)


def fit(
  answers: Answers,
  scores: Float[np.ndarray, 'I B'],
  *,
  concentrations: tuple[float, ...] = CONCENTRATIONS,
  temperatures: tuple[float, ...] = TEMPERATURES[1:],
  num_particles: int = NUM_PARTICLES,
  seed: int = 0,
) -> Likelihood:
  """Returns how likely each (α, temperature) is, jointly, with a region of confidence.

  How a person's answers hang together tells both apart: noise makes people contradict themselves,
  concentration only others. The region holds what twice the log-likelihood ratio to the likeliest
  does not exclude by the χ² of two parameters. Of ratings only pairs without an item in common are
  read (`disjoint`): answers that share a rating share its noise, and are no product.

  Args:
    answers: of people.
    scores: of the items that they compared, in the units of `temperatures`.
    concentrations: to try.
    temperatures: to try, above 0.
    num_particles: of each prior.
    seed: of the particles, and of which pairs of ratings are read.
  """
  read = disjoint(answers, np.random.default_rng([seed, 20])) if answers.is_rated else answers
  gaps, mask = map(jnp.asarray, padded(read, scores))
  found = np.zeros((len(concentrations), len(temperatures)))
  for row, concentration in enumerate(concentrations):
    rng = np.random.default_rng([seed, 9])
    particles = draw_weights(rng, num_particles, concentration, scores.shape[1])
    for column, temperature in enumerate(temperatures):
      each = log_evidence(jnp.asarray(particles, jnp.float32), gaps, mask, jnp.float32(temperature))
      found[row, column] = float(np.asarray(each, np.float64).sum())
  inside = 2 * (found.max() - found) <= stats.chi2.ppf(LEVEL, 2)
  return Likelihood(concentrations, temperatures, found, inside)


def scored_columns(
  feature_names: tuple[str, ...], reward_models: tuple[str, ...]
) -> Int[np.ndarray, 'B'] | None:
  """Returns which features of people's items are the store's reward models; None unless all are."""
  if not set(reward_models) <= set(feature_names):
    return None
  return np.array([feature_names.index(name) for name in reward_models])


class Check(NamedTuple):
  """A posterior predictive check: what people's statistic is, and what replicated ones are.

  p: two-sided, how often a replicate is as far out.
  """

  statistic: str
  value: float
  replicated: Float[np.ndarray, 'replicates']
  p: float


def predictive_checks(
  answers: Answers,
  scores: Float[np.ndarray, 'I B'],
  concentration: float,
  temperature: float,
  *,
  num_replicates: int = NUM_REPLICATES,
  seed: int = 0,
) -> list[Check]:
  """Returns whether simulated users could have given the answers of people, statistic by statistic.

  Args:
    answers: of people.
    scores: of their items.
    concentration: α of the simulated users.
    temperature: of their choices.
    num_replicates: of all answers, each by other users.
    seed: of the replicates.

  Reference:
    Gelman, Meng and Stern 1996, Statistica Sinica 6, posterior predictive checks.
  """
  own = checked_values(answers)
  replicated: list[dict[str, float]] = []
  for number in range(num_replicates):
    rng = np.random.default_rng([seed, 15, number])
    weights = draw_weights(rng, answers.num_users, concentration, scores.shape[1])
    replicated.append(checked_values(answered(answers, scores, weights, temperature, rng)))
  return [
    Check(name, value, drawn, two_sided(value, drawn))
    for name, value in own.items()
    for drawn in [np.array([each[name] for each in replicated])]
    if np.isfinite(value) and np.isfinite(drawn).all()
  ]


def checked_values(answers: Answers) -> dict[str, float]:
  """Returns the statistics of a check: those of pairs, and how much people differ in conforming."""
  pairs = people_statistics.answered_twice(answers)
  return {
    people_statistics.DISAGREEMENT: people_statistics.disagreement(pairs),
    people_statistics.REPEATED: people_statistics.self_disagreement(answers),
    CONFORMING: spread_of_agreement(answers),
  }


def spread_of_agreement(answers: Answers) -> float:
  """Returns the sd over people of the share of their answers that go with most other answers."""
  pair = answers.first * len(answers.context) + answers.second
  _, number = np.unique(pair, return_inverse=True)
  others = np.bincount(number, answers.sign)[number] - answers.sign
  counted = others != 0
  agreed = np.bincount(
    answers.user[counted], (others * answers.sign > 0)[counted], answers.num_users
  )
  counts = np.bincount(answers.user[counted], minlength=answers.num_users)
  there = counts > 0
  return float((agreed[there] / counts[there]).std()) if there.any() else float('nan')


def two_sided(value: float, replicated: Float[np.ndarray, 'replicates']) -> float:
  """Returns the two-sided p value of a rank among replicates; the value counts as one of them."""
  above, below = (replicated >= value).sum(), (replicated <= value).sum()
  return float(min(1, 2 * (1 + min(above, below)) / (1 + len(replicated))))
