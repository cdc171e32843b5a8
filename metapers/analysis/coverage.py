"""Do intervals hold the truth as often as they say? The bench's own judge on a known population.

Users, prompts and choices are drawn anew again and again; each time the code that evaluates
learners gives every metric its interval, which holds the true value or does not.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from metapers.analysis import disagreement, flips, gains, groups, tax
from metapers.analysis.superpopulation import (
  ALIKE,
  ASKED,
  BASE,
  COMMON,
  FLOOR,
  NUM_SLATES,
  ORACLE,
  Drawn,
  Superpopulation,
  draw,
  large,
)  # fmt: skip
from metapers.core import choice_model
from metapers.core.task import Choices, Truth
from metapers.evaluation import asking, estimates, streams
from metapers.evaluation.estimates import Estimates, EvaluationSet
from metapers.evaluation.intervals import NORMAL
from metapers.evaluation.predictions import Predictions

NUM_LARGE = 40  # draws of very many users that true values are measured on
ROUNDING = 1e-6  # of a truth that every study finds
NUMBERS = ('value', 'ci_low', 'ci_high')
ASKED_AFTER = 2  # questions
GROUP = 3  # of four by their distance from what all share: those farthest off


def evaluation_set(drawn: Drawn, *, seed: int, num_resamples: int) -> EvaluationSet:
  """Returns a study's episodes with their resamples."""
  return estimates.evaluation_set(
    drawn.tasks,
    drawn.truth,
    rival=None if drawn.truth is None else 0,
    items=drawn.items,
    num_resamples=num_resamples,
    seed=seed,
  )


def measure(drawn: Drawn, evaluated: EvaluationSet) -> dict[str, Estimates]:
  """Returns what the bench estimates of every learner, and of its differences to BASE."""
  found = {name: estimates.estimate(evaluated, own) for name, own in drawn.predictions.items()}
  for name in (BASE, FLOOR):
    found[name] |= beside(evaluated, drawn, drawn.predictions[name])
  base = found[BASE]
  compared = {
    name: own if name == BASE else own | estimates.differences(own, base, BASE)
    for name, own in found.items()
  }
  compared[BASE] = base | of_one(evaluated, drawn, found)
  return compared


def beside(evaluated: EvaluationSet, drawn: Drawn, made: Predictions) -> Estimates:
  """Returns what is measured of a learner beyond its metrics: of a group, of picks, by turn."""
  truth = drawn.truth
  if truth is None:
    return {}
  distance = np.linalg.norm(np.asarray(truth.weights) - COMMON, axis=-1)
  of_groups = groups.estimate(evaluated, made, groups.by_size('distance', distance))
  names = [f'model {number}' for number in range(truth.weights.shape[1])]
  return {
    **{f'{metric}@group': of_groups[metric][:, [GROUP]] for metric in ('accuracy', 'nll')},
    **tax.estimate(evaluated, made, tax.outcomes(truth, names)),
    **by_turn(evaluated, drawn, truth, made),
  }


def by_turn(evaluated: EvaluationSet, drawn: Drawn, truth: Truth, made: Predictions) -> Estimates:
  """Returns the metrics of a stream whose turns are the slates and as many queries."""
  query = jax.tree.map(lambda x: x[:, :NUM_SLATES], drawn.tasks.query)
  shown = ('query_rewards', 'query_mask', 'query_prompts')
  turned = truth._replace(**{name: getattr(truth, name)[:, :NUM_SLATES] for name in shown})
  stream = estimates.evaluation_set(
    drawn.tasks._replace(query=query),
    turned,
    num_resamples=len(evaluated.draws.users) - 1,
    seed=evaluated.draws.seed,
  )
  first = made._replace(log_probs=made.log_probs[:, :, :NUM_SLATES])
  found = streams.estimate(stream, first, (NUM_SLATES // 2, NUM_SLATES))
  return {metric: samples[:, -1:] for metric, samples in found.items()}


def of_one(evaluated: EvaluationSet, drawn: Drawn, found: Mapping[str, Estimates]) -> Estimates:
  """Returns what is measured once in a study: shares, flips, leads, how far users disagree."""
  made, query = drawn.predictions, drawn.tasks.query
  accuracy = {name: gains.user_accuracy(evaluated, made[name]) for name in (BASE, FLOOR)}
  worse, _ = gains.shares(evaluated, accuracy[BASE], accuracy[FLOOR])
  correct = np.stack([correct_after(drawn.answered[rule], query) for rule in ASKED])
  active, random = estimates.weigh(evaluated.weights['query'], correct, list(ASKED))
  share = f'accuracy_share_of_{ORACLE}'
  measured = {
    share: estimates.recovered(found[BASE], found[FLOOR], found[ORACLE]),
    f'users_worse_than_{FLOOR}': worse,
    'flip_rate': flips.flip_rate(evaluated, made[BASE], made[ALIKE]),
    'questions_ahead': asking.questions_ahead(active, random, ASKED_AFTER)[:, None],
  }
  if drawn.truth is not None:
    contrasts = disagreement.query_contrasts(drawn.tasks, drawn.truth)
    apart = disagreement.rate(evaluated.draws, drawn.truth.weights, contrasts)
    measured['disagreement'] = apart[:, None]
  return measured


def correct_after(log_probs: np.ndarray, query: Choices) -> np.ndarray:
  """Returns which choices are predicted right after each number of answers: [L, T, N]."""
  correct = jax.vmap(choice_model.correct, (0, None))
  return np.asarray(correct(jnp.asarray(log_probs), query))


def true_values(whom: Superpopulation, *, seed: int = 0) -> dict[str, dict[str, float]]:
  """Returns the true value of every metric of every learner, measured on very many users."""
  rng, many = np.random.default_rng([seed, 2]), whom._replace(study=large(whom.study))
  sums: dict[str, dict[str, float]] = {}
  for _ in range(NUM_LARGE):
    drawn = draw(many, rng)
    for name, own in measure(drawn, evaluation_set(drawn, seed=0, num_resamples=2)).items():
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
  evaluated = evaluation_set(drawn, seed=seed, num_resamples=num_resamples)
  interval = functools.partial(estimates.interval, **evaluated.sizes)
  rows = [
    (name, metric, truth[name][metric], *interval(metric, samples)[:, 0])
    for name, own in measure(drawn, evaluated).items()
    for metric, samples in own.items()
    if metric != estimates.BY_CHANCE  # a fact of the sample
  ]
  return pd.DataFrame(rows, columns=['learner', 'metric', 'truth', *NUMBERS])


def summary(replicated: pd.DataFrame) -> pd.DataFrame:
  """Returns how often intervals held the truth, and how wide they were.

  Args:
    replicated: rows of many `replicate`.

  Returns:
    One row for each learner and metric: truth, mean and sd of the values, coverage with its
    standard error, width relative to 1.96 sd, power (the share of intervals without 0), number;
    num_dropped: of studies that had no interval, which count for nothing else.
  """
  there = replicated[['ci_low', 'ci_high']].notna().all(axis=1)
  low, high, truth = (replicated[name].where(there) for name in ('ci_low', 'ci_high', 'truth'))
  held = truth.between(low - ROUNDING, high + ROUNDING)
  is_apart = (low > 0) | (high < 0)
  noted = replicated.assign(
    held=held.where(there), is_apart=is_apart.where(there), half=(high - low) / 2, there=there
  )
  found = (
    noted.groupby(['learner', 'metric'], sort=False)
    .agg(
      truth=('truth', 'first'),
      value=('value', 'mean'),
      sd=('value', 'std'),
      coverage=('held', 'mean'),
      half=('half', 'mean'),
      power=('is_apart', 'mean'),
      num_studies=('held', 'count'),
      num_dropped=('there', lambda there: int((~there).sum())),
    )
    .astype({'coverage': float, 'power': float})
    .reset_index()
  )
  rate, size = found['coverage'], found['num_studies']
  found.insert(6, 'coverage_se', np.sqrt(rate * (1 - rate) / size))
  found.insert(7, 'width', found['half'] / (NORMAL * found['sd'].where(found['sd'] > ROUNDING)))
  return found.drop(columns='half')
