"""What it is worth to notice that preferences change: comparisons that arrive one by one, predicted
from all before, from the last ones, from those since the change, and by change points.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from metapers.core import batches, choice_model, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population, UserModel
from metapers.core.task import Choices
from metapers.core.types import Array, Bool, Callable, Context, Float, Int, Params, PRNGKey, Scalar
from metapers.evaluation import adaptation, change_points, intervals, streams
from metapers.learners import particle_bank
from metapers.learners.particle_bank import Bank

EXTENTS = {'none': 0.0, 'half': 0.5, 'whole': 1.0}
SPANS = (16, 32)  # turns after a change

# Of one person's comparisons, context and key, see `change_points.predictive`.
Predictive = Callable[[Choices, Context, PRNGKey], Float[Array, 'N N K']]


def of_learner(learner: MetaLearner, params: Params, *, chunk_size: int = 64) -> Predictive:
  """Returns what a learner foresees; see `change_points.predictive`."""

  def foresee(given, context, key):
    return change_points.predictive(learner, params, given, context, key, chunk_size=chunk_size)

  return foresee


def of_bank(bank: Bank) -> Predictive:
  """Returns what Bayes' rule foresees of a user who is one of a bank, on score features.

  It equals `of_learner` of a learner of the same bank, and takes a fraction of the time.
  """

  def foresee(given, context, key):
    del context, key
    scores = particle_bank.utilities(bank.heads, given.candidates.features)
    log_p = jax.vmap(choice_model.log_probs, (0, None), 1)(scores, given.candidates.mask)
    return change_points.predictive_of_types(log_p, given, bank.log_weights)

  return foresee


def of_users(users: UserModel, num_models: int, *, num_draws: int = 4096) -> Predictive:
  """Returns what Bayes' rule foresees by the users' own prior and noise, on score features.

  Exact up to the draws, of which too few would agree with noiseless choices.

  Args:
    users: whose choices are noisy.
    num_models: B, the number of features.
    num_draws: from the prior.

  Raises:
    ValueError: for users without noise, or whose labels are flipped.
  """
  if not users.temperature or users.flip_rate:
    raise ValueError(
      f'draws from the prior serve users with a temperature, without flips, got {users}; use '
      'of_learner of evaluation.bayes.exact_learner'
    )
  weights = np.random.default_rng(7).dirichlet([users.concentration] * num_models, num_draws)
  heads = jnp.asarray(weights / users.temperature, jnp.float32)
  return of_bank(Bank(heads, jnp.zeros(num_draws, jnp.float32)))


def table(
  rows: Mapping[str, Predictive],
  population: Population,
  *,
  split: str = 'test',
  num_people: int = 500,
  window: int = 16,
  hazards: Sequence[float] = (change_points.HAZARD,),
  level: float = 0.9,
  earliest: int = 16,
  spans: Sequence[int] = SPANS,
  seed: int = 0,
  key: PRNGKey,
) -> pd.DataFrame:
  """Returns how well comparisons are foreseen around a change: a row a learner, extent and memory.

  Each unseen person's comparisons are the support of their episode. Their preferences change to
  those of the next person, halfway, or not, at a turn drawn uniformly from `earliest` to N less the
  longest span.
  `all` remembers every comparison, `window` the last ones, `reset` those since the true change;
  `change points` averages over where the preferences of now may have begun.

  Args:
    rows: `of_learner`, `of_bank`, or `of_users`, the exact posterior of a change.
    population: of simulated users whose pairs do not depend on them.
    split: of the people: 'validation' to choose a hazard.
    num_people: T.
    window: comparisons remembered.
    hazards: of `change_points.posterior`, one row each.
    level: of alarms, see `change_points.alarms`.
    earliest: turn of a change.
    spans: numbers of turns after it.
    seed: of the turns of changes.
    key: of what is random in answers and learners.

  Returns:
    Columns learner; extent; memory; hazard; for the turns of each span after the change and for
    `every` turn the accuracy, what it is above that of `all`, and half the 95 % interval of this
    gain over people; found, the share of changes after which an alarm was raised; delay, the
    median number of comparisons until then; false_alarms, the others in 100 comparisons.

  Raises:
    ValueError: for people whose rewards nobody knows, or who compare too little.
  """
  simulation = population.simulation
  num_turns = population.spec.num_support
  if simulation is None or simulation.users is None or simulation.pair_rules != ('random',):
    raise ValueError(f'{population.source}: changes need simulated users and pair_rule="random"')
  if num_turns < earliest + max(spans):
    raise ValueError(
      f'{num_turns} comparisons are too few for {earliest} before a change and {max(spans)} after '
      f'it: raise num_support of the population to {earliest + max(spans)} or more'
    )
  tasks, truth = adaptation.episodes(population, split=split, num_users=num_people)
  assert truth is not None
  users = task.take(simulation.users(population.arrays, split), jnp.arange(num_people))
  last = num_turns - max(spans)
  change_at = np.random.default_rng(seed).integers(earliest, last + 1, num_people)
  key_answers, key_learners = jax.random.split(key)
  found = []
  for extent, share in EXTENTS.items():
    given = streams.drifted(
      tasks.support, truth, users, change_at=jnp.asarray(change_at), extent=share, key=key_answers
    )
    for name, foresee in rows.items():
      log_probs = foreseen(foresee, given, tasks.context, key_learners)
      named = {'learner': name, 'extent': extent}
      found += [named | row for row in rows_of(
        log_probs, given, change_at, changes=share > 0, window=window, hazards=hazards, level=level,
        spans=spans,
      )]  # fmt: skip
  return pd.DataFrame(found)


@functools.partial(jax.jit, static_argnums=0)
def foreseen(
  foresee: Predictive, given: Choices, context: Context, key: PRNGKey
) -> Float[Array, 'T N N K']:
  """Returns what is foreseen of T people, one after another."""
  clean = task.drop_masked(given)

  def of_person(index):
    own, told = task.take((clean, context), index)
    return foresee(own, told, jax.random.fold_in(key, index))

  return batches.map_chunks(of_person, given.choice.shape[0], 1)


def rows_of(
  log_probs: Float[Array, 'T N N K'],
  given: Choices,
  change_at: Int[np.ndarray, 'T'],
  *,
  changes: bool,
  window: int,
  hazards: Sequence[float],
  level: float,
  spans: Sequence[int],
) -> list[dict[str, Any]]:
  """Returns a row of the table for each memory and hazard.

  Args:
    log_probs: `foreseen`.
    given: the comparisons.
    change_at: turn of the change, or of none.
    changes: whether there is one.
    window: comparisons remembered.
    hazards: of change points.
    level: of alarms.
    spans: turns after a change.
  """
  turn = np.arange(given.choice.shape[1])
  since = turn - change_at[:, None]  # [T, N]
  counts = np.asarray(change_points.counted(given))
  fixed = {
    'all': np.zeros_like(since),
    'window': np.maximum(turn - window, 0) + np.zeros_like(since),
    'reset': np.where(changes & (since >= 0), change_at[:, None], 0),
  }
  people = np.arange(change_at.size)[:, None]
  hits = {name: correct(log_probs[people, at, turn], given) for name, at in fixed.items()}
  made = [
    {'memory': name, 'hazard': np.nan} | gains(hit, hits['all'], since, counts, spans)
    for name, hit in hits.items()
  ]
  for hazard in hazards:
    mixed, raised = watched(log_probs, given, hazard, level)
    made.append(
      {'memory': 'change points', 'hazard': hazard}
      | gains(correct(mixed, given), hits['all'], since, counts, spans)
      | signals(np.asarray(raised) & counts, since, counts, changes=changes)
    )
  return made


@functools.partial(jax.jit, static_argnums=3)
def watched(
  log_probs: Float[Array, 'T N N K'], given: Choices, hazard: float | Scalar, level: float
) -> tuple[Float[Array, 'T N K'], Bool[Array, 'T N']]:
  """Returns what change points predict of each comparison, and after which alarms are raised."""

  def of_person(log_probs, given):
    log_p = change_points.chosen(log_probs, given)
    found = change_points.posterior(log_p, change_points.counted(given), hazard)
    mixed = change_points.mixture(log_probs, found.before, given.candidates.mask)
    return mixed, change_points.alarms(found.after, level)

  return jax.vmap(of_person)(log_probs, task.drop_masked(given))


def correct(log_probs: Float[Array, 'T N K'], given: Choices) -> Float[np.ndarray, 'T N']:
  """Returns the chance that the most probable candidate is the choice."""
  return np.asarray(choice_model.correct(log_probs, given))


def gains(
  hits: Float[np.ndarray, 'T N'],
  plain: Float[np.ndarray, 'T N'],
  since: Int[np.ndarray, 'T N'],
  counts: Bool[np.ndarray, 'T N'],
  spans: Sequence[int],
) -> dict[str, float]:
  """Returns the accuracies of a row, and what they are above those of another.

  Args:
    hits: `correct` of the row.
    plain: of the other.
    since: turns since the change.
    counts: comparisons that say anything.
    spans: turns after a change.
  """
  found = {}
  after = {str(span): (since >= 0) & (since < span) for span in spans}
  for name, within in (after | {'every': np.ones_like(counts)}).items():
    own, other = (mean_of_people(x, within & counts) for x in (hits, plain))
    half = intervals.NORMAL * np.std(own - other, ddof=1) / np.sqrt(own.size)
    found |= {name: own.mean(), f'gain_{name}': np.mean(own - other), f'half_{name}': half}
  return found


def mean_of_people(
  hits: Float[np.ndarray, 'T N'], counts: Bool[np.ndarray, 'T N']
) -> Float[np.ndarray, 'T']:
  """Returns each person's mean, of those who have any."""
  number = counts.sum(1)
  return ((hits * counts).sum(1) / np.maximum(number, 1))[number > 0]


def signals(
  raised: Bool[np.ndarray, 'T N'],
  since: Int[np.ndarray, 'T N'],
  counts: Bool[np.ndarray, 'T N'],
  *,
  changes: bool,
) -> dict[str, float]:
  """Returns how many changes were found, how late, and how many alarms were false.

  The first alarm after a comparison with changed preferences finds the change; all others, those
  before it among them, are false.

  Args:
    raised: after which comparisons an alarm was raised.
    since: turns since the change.
    counts: comparisons that say anything.
    changes: whether there is a change at all.
  """
  true = raised & (since >= 0) & changes
  is_found = true.any(1)
  at = true.argmax(1)
  seen = (counts & (since >= 0) & (np.arange(counts.shape[1]) <= at[:, None])).sum(1)
  false = raised.sum() - is_found.sum()
  return {
    'found': is_found.mean() if changes else np.nan,
    'delay': np.median(seen[is_found]) if is_found.any() else np.nan,
    'false_alarms': 100 * false / counts.sum(),
  }
