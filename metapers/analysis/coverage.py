"""Do intervals hold the truth as often as they say? The bench's own judge on a known population.

Users, prompts and choices are drawn anew again and again from a superpopulation; each time the code
that evaluates learners gives every metric its interval, which holds the true value or does not.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd

from metapers.core import task
from metapers.core.task import Candidates, Task, Truth
from metapers.core.types import Float, Int
from metapers.evaluation import bootstrap, estimates
from metapers.evaluation.estimates import Estimates
from metapers.evaluation.predictions import Predictions

DIM, NUM_RESPONSES, NUM_SLATES = 4, 4, 8
SHARPNESS = 2.0  # of choices and predictions
BASE = 'near'
GAPS = {'one_point': 0.01, 'three_points': 0.03}  # less accurate than BASE
NEAR = 0.5  # how far the guesses of BASE are off, in sds of what users differ by
ROUNDING = 1e-6  # of a truth that every study finds
NUMBERS = ('value', 'ci_low', 'ci_high')
LARGE, NUM_LARGE = 2000, 40  # users of a draw, and draws, that true values are measured on


class Study(NamedTuple):
  """The size of a study, and how users and prompts differ.

  num_users: T. num_queries: N of each. num_prompts: that queries are drawn from.
  spread: of the users' weights around the common ones. prompt_spread: sd of the logs of how far the
    responses to a prompt are apart. is_noisy: choices follow Bradley and Terry, or the utility.
  is_of_people: no prompts are known, and the items are the same in every study.
  """

  num_users: int
  num_queries: int
  num_prompts: int = 1000
  spread: float = 1.0
  prompt_spread: float = 0.3
  is_noisy: bool = True
  is_of_people: bool = False


STUDIES = {
  '500 users x 40': Study(500, 40),
  '60 users x 20': Study(60, 20),
  '500 users x 16, noiseless': Study(500, 16, is_noisy=False),
  '200 users x 60, 100 prompts': Study(200, 60, 100),
  '200 people x 40, 100 items': Study(200, 40, 100, is_of_people=True),
}


class Drawn(NamedTuple):
  """A study: what is evaluated, and what each learner predicts; see `draw`."""

  tasks: Task
  truth: Truth | None
  predictions: dict[str, Predictions]


class Superpopulation(NamedTuple):
  """Whom studies draw, and how far the learners' guesses of users are off.

  prompts: [P, R, D] features of all responses where they are the same in every study, else None.
  errors: learner -> sd of the error of its guess of a user's weights, in those of the users.
  """

  study: Study
  prompts: Float[np.ndarray, 'P R D'] | None
  errors: dict[str, float]


def draw_prompts(study: Study, rng: np.random.Generator) -> Float[np.ndarray, 'P R D']:
  """Returns the features of the responses to prompts, on some of which they hardly differ."""
  sizes = np.exp(study.prompt_spread * rng.standard_normal((study.num_prompts, 1, 1)))
  return sizes * rng.standard_normal((study.num_prompts, NUM_RESPONSES, DIM))


def draw(whom: Superpopulation, rng: np.random.Generator) -> Drawn:
  """Returns a study of fresh users and, unless they are always the same, fresh prompts.

  `oracle` predicts by the users' own weights, and so is calibrated where choices are noisy;
  `pooled` by what all share; the others guess weights with an error of their own, which BASE and
  those of GAPS have in common, and `alike` has apart.
  """
  study = whom.study
  prompts = draw_prompts(study, rng) if whom.prompts is None else whom.prompts
  common = np.ones(DIM) / np.sqrt(DIM)
  sd = study.spread / np.sqrt(DIM)
  weights = common + sd * rng.standard_normal((study.num_users, DIM))
  error, other = sd * rng.standard_normal((2, study.num_users, DIM))
  guesses = {'oracle': weights, 'pooled': np.broadcast_to(common, weights.shape)}
  guesses |= {name: weights + size * error for name, size in whom.errors.items()}
  guesses['alike'] = weights + whom.errors[BASE] * other
  ids = rng.integers(0, len(prompts), (study.num_users, study.num_queries))
  slate_ids = rng.integers(0, len(prompts), (study.num_users, NUM_SLATES))
  queries, slates = prompts[ids][:, :, :2], prompts[slate_ids]
  noise = rng.gumbel(size=queries.shape[:-1]) if study.is_noisy else 0
  choice = (SHARPNESS * utilities(queries, weights) + noise).argmax(-1)
  tasks, truth = episodes(weights, queries, ids, choice, slates, slate_ids)
  predictions = {name: predict(own, queries, slates) for name, own in guesses.items()}
  if not study.is_of_people:
    return Drawn(tasks, truth, predictions)
  without = {
    name: own._replace(slate_scores=own.slate_scores[..., :0, :0])
    for name, own in predictions.items()
  }
  return Drawn(tasks, None, without)


def utilities(
  features: Float[np.ndarray, 'T N K D'], weights: Float[np.ndarray, 'T D']
) -> np.ndarray:
  """Returns the users' utilities of what they are shown: [T, N, K]."""
  return np.einsum('tnkd,td->tnk', features, weights)


def predict(
  weights: Float[np.ndarray, 'T D'],
  queries: Float[np.ndarray, 'T N K D'],
  slates: Float[np.ndarray, 'T M R D'],
) -> Predictions:
  """Returns what a learner predicts who takes the users' weights to be these."""
  logits = SHARPNESS * utilities(queries, weights)
  log_probs = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
  return Predictions(
    log_probs[None].astype(np.float32), utilities(slates, weights)[None].astype(np.float32)
  )


def episodes(
  weights: Float[np.ndarray, 'T D'],
  queries: Float[np.ndarray, 'T N K D'],
  ids: Int[np.ndarray, 'T N'],
  choice: Int[np.ndarray, 'T N'],
  slates: Float[np.ndarray, 'T M R D'],
  slate_ids: Int[np.ndarray, 'T M'],
) -> tuple[Task, Truth]:
  """Returns what is evaluated: queries and slates of users whose support nobody looks at."""
  shown, rewards = jnp.ones(queries.shape[:-1], bool), jnp.float32(queries)
  query = task.choices(Candidates(rewards, shown), jnp.asarray(choice))
  slate = Candidates(jnp.float32(slates), jnp.ones(slates.shape[:-1], bool))
  models = jnp.broadcast_to(jnp.arange(slates.shape[2]), slates.shape[:-1])
  seen = rewards, shown, jnp.asarray(ids)
  of_slates = slate, slate.features, jnp.asarray(slate_ids), models
  users = jnp.arange(len(weights), dtype=jnp.int32)
  tasks = Task(query, query, users, jnp.zeros((len(weights), 0)))
  return tasks, Truth(jnp.float32(weights), *seen, *seen, *of_slates)


def superpopulation(study: Study, *, seed: int = 0) -> Superpopulation:
  """Returns a superpopulation whose learners differ in accuracy by the points of GAPS."""
  rng = np.random.default_rng([seed, 1])
  prompts = draw_prompts(study, rng) if study.is_of_people else None
  sizes = np.linspace(NEAR, 2.0, 14)
  grid = Superpopulation(large(study), prompts, {BASE: NEAR, **{f'{x}': x for x in sizes}})
  found = []
  for _ in range(10):
    values = measure(draw(grid, rng), seed=0, num_resamples=2)
    found.append([values[f'{size}']['accuracy'][0, 0] for size in sizes])
  lost = np.maximum.accumulate(np.mean(found, 0)[0] - np.mean(found, 0))
  errors = {name: float(np.interp(gap, lost, sizes)) for name, gap in GAPS.items()}
  return Superpopulation(study, prompts, {BASE: NEAR, **errors})


def large(study: Study) -> Study:
  """Returns a study of many users and, unless they are always the same, many prompts."""
  most = study.num_prompts if study.is_of_people else 20 * LARGE
  return study._replace(num_users=LARGE, num_prompts=most)


def measure(drawn: Drawn, *, seed: int, num_resamples: int) -> dict[str, Estimates]:
  """Returns what the bench estimates of every learner, and of its differences to BASE."""
  evaluated = estimates.evaluation_set(
    drawn.tasks,
    drawn.truth,
    rival=None if drawn.truth is None else 0,
    num_resamples=num_resamples,
    seed=seed,
  )
  found = {name: estimates.estimate(evaluated, own) for name, own in drawn.predictions.items()}
  base = found[BASE]
  return {
    name: own if name == BASE else own | estimates.differences(own, base, BASE)
    for name, own in found.items()
  }


def true_values(whom: Superpopulation, *, seed: int = 0) -> dict[str, dict[str, float]]:
  """Returns the true value of every metric of every learner, measured on very many users."""
  rng, many = np.random.default_rng([seed, 2]), whom._replace(study=large(whom.study))
  sums: dict[str, dict[str, float]] = {}
  for _ in range(NUM_LARGE):
    for name, own in measure(draw(many, rng), seed=0, num_resamples=2).items():
      kept = sums.setdefault(name, {})
      for metric, samples in own.items():
        kept[metric] = kept.get(metric, 0.0) + float(samples[0, 0]) / NUM_LARGE
  return sums


def replicate(
  whom: Superpopulation, truth: Mapping[str, Mapping[str, float]], *, seed: int, num_resamples: int
) -> pd.DataFrame:
  """Returns what one study says of every metric of every learner.

  Args:
    whom: is studied.
    truth: as of `true_values`.
    seed: of the study.
    num_resamples: of its bootstrap.

  Returns:
    Columns learner, metric, truth, value, ci_low, ci_high.
  """
  drawn = draw(whom, np.random.default_rng([seed, 3]))
  rows = [
    (name, metric, truth[name][metric], *bootstrap.interval(samples, whom.study.num_users)[:, 0])
    for name, own in measure(drawn, seed=seed, num_resamples=num_resamples).items()
    for metric, samples in own.items()
  ]
  return pd.DataFrame(rows, columns=['learner', 'metric', 'truth', *NUMBERS])


def summary(replicated: pd.DataFrame) -> pd.DataFrame:
  """Returns how often intervals held the truth, and how wide they were.

  Args:
    replicated: rows of many `replicate`.

  Returns:
    One row for each learner and metric: truth, mean value, coverage with its standard error, width
    relative to 1.96 standard deviations of the values, and the share of intervals without 0.
  """
  low, high, truth = (replicated[name] for name in ('ci_low', 'ci_high', 'truth'))
  held, half = truth.between(low - ROUNDING, high + ROUNDING), (high - low) / 2
  is_apart = (low > 0) | (high < 0)
  groups = replicated.assign(held=held, is_apart=is_apart, half=half).groupby(
    ['learner', 'metric'], sort=False
  )
  found = groups.agg(
    truth=('truth', 'first'),
    value=('value', 'mean'),
    sd=('value', 'std'),
    coverage=('held', 'mean'),
    half=('half', 'mean'),
    power=('is_apart', 'mean'),
    num_studies=('held', 'size'),
  ).reset_index()
  found['coverage_se'] = np.sqrt(found['coverage'] * (1 - found['coverage']) / found['num_studies'])
  found['width'] = found['half'] / (1.96 * found['sd'].where(found['sd'] > 0))
  return found.drop(columns='half')
