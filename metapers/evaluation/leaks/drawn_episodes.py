"""The episodes that leaks are looked for in."""

import functools
from collections.abc import Mapping

import jax
import numpy as np

from metapers.core import outcomes
from metapers.core import population as core_population
from metapers.core.population import ItemPool, Population, Scaling
from metapers.core.task import Choices, Task, Truth
from metapers.core.types import Bool, Float
from metapers.evaluation import adaptation
from metapers.evaluation.leaks import cue_checks, matching
from metapers.evaluation.leaks.matching import Codes, HostArray, Leak

Drawn = Mapping[str, tuple[Task, Truth | None]]  # split -> episodes of T users, on the host


def draw(population: Population, num_users: int) -> Drawn:
  """Draws episodes as training does, and collects the fixed ones of the other splits."""
  keys = jax.random.split(jax.random.key(0), num_users)
  drawn = {'train': _sample(population.sample_episode, population.arrays, keys)}
  for split, size in population.spec.num_held_out.items():
    # One at a time compiles in half the time, and these are few.
    drawn[split] = adaptation.episodes(
      population, split=split, num_users=min(num_users, size), chunk_size=1
    )
  return jax.device_get(drawn)


@functools.partial(jax.jit, static_argnums=0)
def _sample(sample_episode, arrays, keys):
  return jax.lax.map(lambda key: sample_episode(arrays, key, 'train'), keys)


def draw_numbered(population: Population, items: ItemPool, num_users: int) -> dict[str, Task]:
  """Draws episodes of real people, whose features are the numbers of items: [T, N, K, 1]."""
  numbered = core_population.numbered(population, items)
  kinds = population.spec.outcomes
  return {split: texts_of(tasks, kinds) for split, (tasks, _) in draw(numbered, num_users).items()}


def item_codes(choices: Choices) -> Codes:
  """Returns one item of every comparison whose features are the numbers of items."""
  return Codes(np.asarray(choices.candidates.features[..., 0, 0], np.int64), choices.mask)


def pair_codes(choices: Choices, num_items: int) -> Codes:
  """Numbers the pair of items of every comparison, in whatever order it is shown."""
  pair = np.sort(np.asarray(choices.candidates.features[..., 0], np.int64), -1)
  return Codes(pair[..., 0] * num_items + pair[..., 1], choices.mask)


def offer_codes(tasks: Task) -> tuple[Codes, Codes]:
  """Numbers what every comparison of support and query offers, by its features."""
  rows = matching.keys(matching.columns(everything(tasks).candidates).values)  # [T, N, K]
  candidate = np.unique(rows, return_inverse=True)[1].reshape(rows.shape)
  shown = matching.keys(np.sort(candidate, -1))  # [T, N], in whatever order
  code = np.unique(shown, return_inverse=True)[1].reshape(shown.shape)
  support, query = np.split(code, [tasks.support.mask.shape[1]], 1)
  return Codes(support, tasks.support.mask), Codes(query, tasks.query.mask)


def everything(tasks: Task) -> Choices:
  """Joins the support and the query of T users."""
  return jax.tree.map(lambda *parts: np.concatenate(parts, 1), tasks.support, tasks.query)


def chosen_as_mean_user(tasks: Task, truth: Truth) -> Bool[np.ndarray, 'T N']:
  """Marks the comparisons in which the mean of these users would choose the same."""
  choices = everything(tasks)
  mask = choices.candidates.mask
  rewards = np.concatenate([truth.support_rewards, truth.query_rewards], 1)[:, :, : mask.shape[-1]]
  utility = np.where(mask, rewards @ truth.weights.mean(0), -np.inf)
  return utility.argmax(-1) == choices.choice


def unscaled(features: Float[HostArray, 'I D'], scaling: Scaling) -> Float[np.ndarray, 'I D']:
  """Returns features before scaling, so that zeros and whole numbers can be seen again."""
  if not features.shape[1]:
    return np.asarray(features)  # one-hot ids
  mean, scale = (part[: features.shape[1]] for part in scaling)  # items have no flags of outcomes
  given = np.asarray(features, np.float64) * scale + mean
  error = 1e-5 * scale + 1e-6 * np.abs(given)  # of float32, with a margin
  return np.where(np.abs(given - np.round(given)) < error, np.round(given), given)


def with_features(tasks: Task, features: Float[HostArray, 'I D']) -> Task:
  """Puts the features of items where their numbers stand, for as many users as are looked at."""
  per_user = 2 * everything(tasks).choice.shape[1] * (features.shape[1] or len(features))
  some = jax.tree.map(lambda x: x[: max(1, cue_checks.MOST_NUMBERS // per_user)], tasks)

  def fill(choices: Choices) -> Choices:
    rows = choices.candidates.features[..., 0].astype(int)
    shown = np.asarray(core_population.rows_of(features, rows))
    return choices._replace(candidates=choices.candidates._replace(features=shown))

  return some._replace(support=fill(some.support), query=fill(some.query))


def texts_of(tasks: Task, kinds: tuple[str, ...]) -> Task:
  """Returns the comparisons in which one of two texts was chosen: outcomes have fixed places."""
  parts = (outcomes.as_pairs(part, kinds, 'dropped') for part in (tasks.support, tasks.query))
  support, query = jax.device_get(tuple(parts))
  return tasks._replace(support=support, query=query)


def cues(drawn: Drawn, kinds: tuple[str, ...] = ()) -> list[Leak]:
  """Looks for what reveals the chosen candidate, in every split.

  Args:
    drawn: episodes of each split.
    kinds: of outcomes that can be answered beside a plain choice.
  """
  found = []
  for split, (tasks, truth) in drawn.items():
    tasks = texts_of(tasks, kinds)
    common = None if truth is None else chosen_as_mean_user(tasks, truth)
    shown = cue_checks.offers(everything(tasks), common)
    found += cue_checks.position(split, shown) + cue_checks.form(split, shown)
  return found
