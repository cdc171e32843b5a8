"""A known world of users, prompts and learners, from which whole studies are drawn anew.

What a learner predicts is what a user with other weights would choose: how far these are off sets
its accuracy, so that learners are apart by one point or three.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metapers.core import task
from metapers.core.task import Candidates, Task, Truth
from metapers.core.types import Float, Int
from metapers.evaluation import metrics
from metapers.evaluation.predictions import Predictions

DIM, NUM_RESPONSES, NUM_SLATES = 4, 4, 8
COMMON = np.ones(DIM) / np.sqrt(DIM)  # of the weights of all users
SHARPNESS = 2.0  # of choices and predictions
BASE, FLOOR, ALIKE, ORACLE = 'near', 'pooled', 'alike', 'oracle'
GAPS = {'one_point': 0.01, 'three_points': 0.03}  # less accurate than BASE
APART = '_apart'  # behind the name of one of GAPS: as far off, by errors of its own
NEAR = 0.5  # how far the guesses of BASE are off, in sds of what users differ by
ERRORS = np.linspace(NEAR, 2.0, 14)  # among which those of GAPS are looked for
LARGE = 2000  # users of a draw that true values are measured on
ASKED = {'active': 1.5, 'random': 0.5}  # rule -> how fast answers tell of a user
NUM_QUESTIONS = 16


class Study(NamedTuple):
  """The size of a study, and how users and prompts differ.

  num_users: T. num_queries: N of each. num_prompts: that queries are drawn from.
  spread: of the users' weights around the common ones. prompt_spread: sd of the logs of how far the
    responses to a prompt are apart. is_noisy: choices follow Bradley and Terry, or the utility.
  is_of_people: any two of `num_prompts` items are compared, and there is no truth and no slate; the
    items are the same in every study unless has_new_items.
  """

  num_users: int
  num_queries: int
  num_prompts: int = 1000
  spread: float = 1.0
  prompt_spread: float = 0.3
  is_noisy: bool = True
  is_of_people: bool = False
  has_new_items: bool = False


STUDIES = {  # in the order of their sizes
  '60x20': Study(60, 20),
  '200x60-100-prompts': Study(200, 60, 100),
  '200x40-people': Study(200, 40, 100, is_of_people=True),
  '200x40-new-items': Study(200, 40, 100, is_of_people=True, has_new_items=True),
  '500x16-noiseless': Study(500, 16, is_noisy=False),
  '500x40': Study(500, 40),
}


def in_words(study: Study) -> str:
  """Returns the size of a study in words."""
  items = ('new items' if study.has_new_items else 'items') if study.is_of_people else 'prompts'
  whom = 'people' if study.is_of_people else 'users'
  noise = '' if study.is_noisy else ', choices without noise'
  size = f'{study.num_users} {whom} x {study.num_queries} comparisons'
  return f'{size} of {study.num_prompts:,} {items}{noise}'


class Drawn(NamedTuple):
  """A study: what is evaluated, and what each learner predicts; see `draw`.

  items: [T, N, K] ids of what is compared, where intervals are for new ones.
  answered: rule of ASKED -> log-probabilities [L, T, N, K] after 0, 1, ..., NUM_QUESTIONS answers.
  """

  tasks: Task
  truth: Truth | None
  predictions: dict[str, Predictions]
  items: Int[np.ndarray, 'T N K'] | None
  answered: dict[str, Float[np.ndarray, 'L T N K']]


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

  ORACLE predicts by the users' own weights, and so is calibrated where choices are noisy; FLOOR by
  what all share; the others guess weights with an error, which BASE and those of GAPS have in
  common, so that they nearly agree; ALIKE, and those that are APART, have errors of their own.
  """
  study = whom.study
  prompts = draw_prompts(study, rng) if whom.prompts is None else whom.prompts
  sd = study.spread / np.sqrt(DIM)
  weights = COMMON + sd * rng.standard_normal((study.num_users, DIM))
  error, apart = sd * rng.standard_normal((2, study.num_users, DIM))
  guesses = {ORACLE: weights, FLOOR: np.broadcast_to(COMMON, weights.shape)}
  guesses |= {name: weights + size * error for name, size in whom.errors.items()}
  guesses[ALIKE] = weights + NEAR * apart
  own = rng.spawn(1)[0]  # leaves what is drawn of others as it is
  for name in GAPS.keys() & whom.errors.keys():
    guesses[name + APART] = weights + whom.errors[name] * sd * own.standard_normal(weights.shape)
  shape = study.num_users, study.num_queries
  ids = rng.integers(0, len(prompts), shape)
  # Two responses to one prompt, or two items: the first of two prompts.
  other = (ids + rng.integers(1, len(prompts), shape)) % len(prompts)
  items = np.stack([ids, other], -1)
  slate_ids = rng.integers(0, len(prompts), (study.num_users, NUM_SLATES))
  queries = prompts[items][:, :, :, 0] if study.is_of_people else prompts[ids][:, :, :2]
  slates = prompts[slate_ids]
  noise = rng.gumbel(size=queries.shape[:-1]) if study.is_noisy else 0
  choice = (SHARPNESS * utilities(queries, weights) + noise).argmax(-1)
  tasks, truth = episodes(weights, queries, ids, choice, slates, slate_ids)
  answered = {
    rule: after_answers(weights, own, queries, speed)
    for own, (rule, speed) in zip((error, apart), ASKED.items())
  }
  if study.is_of_people:
    truth, slates = None, slates[:, :0]
  predictions = {name: predict(own, queries, slates) for name, own in guesses.items()}
  return Drawn(tasks, truth, predictions, items if study.has_new_items else None, answered)


def after_answers(
  weights: Float[np.ndarray, 'T D'],
  error: Float[np.ndarray, 'T D'],
  queries: Float[np.ndarray, 'T N K D'],
  speed: float,
) -> Float[np.ndarray, 'L T N K']:
  """Returns what is predicted after 0, 1, ... answers, each of which makes the guess better."""
  sizes = 2 / (1 + speed * np.arange(NUM_QUESTIONS + 1))
  return np.concatenate([log_probs(weights + size * error, queries)[None] for size in sizes])


def utilities(
  features: Float[np.ndarray, 'T N K D'], weights: Float[np.ndarray, 'T D']
) -> np.ndarray:
  """Returns the users' utilities of what they are shown: [T, N, K]."""
  return np.einsum('tnkd,td->tnk', features, weights)


def log_probs(
  weights: Float[np.ndarray, 'T D'], queries: Float[np.ndarray, 'T N K D']
) -> Float[np.ndarray, 'T N K']:
  """Returns the log-probabilities of what users of these weights choose."""
  logits = SHARPNESS * utilities(queries, weights)
  return (logits - np.logaddexp.reduce(logits, -1, keepdims=True)).astype(np.float32)


def predict(
  weights: Float[np.ndarray, 'T D'],
  queries: Float[np.ndarray, 'T N K D'],
  slates: Float[np.ndarray, 'T M R D'],
) -> Predictions:
  """Returns what a learner predicts who takes the users' weights to be these."""
  scores = utilities(slates, weights).astype(np.float32)
  return Predictions(jnp.asarray(log_probs(weights, queries)[None]), jnp.asarray(scores[None]))


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
  models = jnp.broadcast_to(jnp.arange(slates.shape[2], dtype=jnp.int32), slates.shape[:-1])
  seen = rewards, shown, jnp.asarray(ids)
  of_slates = slate, slate.features, jnp.asarray(slate_ids), models
  users = jnp.arange(len(weights), dtype=jnp.int32)
  tasks = Task(query, query, users, jnp.zeros((len(weights), 0), jnp.float32))
  return tasks, Truth(jnp.float32(weights), *seen, *seen, *of_slates)


def superpopulation(study: Study, *, seed: int = 0) -> Superpopulation:
  """Returns a superpopulation whose learners differ in accuracy by the points of GAPS."""
  rng = np.random.default_rng([seed, 1])
  prompts = draw_prompts(study, rng) if is_fixed(study) else None
  grid = Superpopulation(large(study), prompts, {f'{size}': size for size in ERRORS})
  found = []
  for _ in range(10):
    drawn = draw(grid, rng)
    found.append([accuracy_of(drawn, f'{size}') for size in ERRORS])
  mean = np.mean(found, 0)
  lost = np.maximum.accumulate(mean[0] - mean)
  errors = {name: float(np.interp(gap, lost, ERRORS)) for name, gap in GAPS.items()}
  return Superpopulation(study, prompts, {BASE: NEAR, **errors})


def accuracy_of(drawn: Drawn, learner: str) -> float:
  """Returns a learner's accuracy in a study."""
  made = drawn.predictions[learner]._replace(slate_scores=np.zeros((1, 0, 0, 0), np.float32))
  return float(metrics.user_means(made, drawn.tasks)['accuracy'][0])


def is_fixed(study: Study) -> bool:
  """Tells whether all studies are of the same items."""
  return study.is_of_people and not study.has_new_items


def large(study: Study) -> Study:
  """Returns a study of many users and, unless they are always the same, many prompts."""
  most = study.num_prompts if is_fixed(study) else 20 * LARGE
  return study._replace(num_users=LARGE, num_prompts=most)
