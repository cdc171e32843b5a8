"""Steering without training, on a small model whose answers have known styles.

Users have a weight of every axis of style, so that utilities are known and nobody needs to judge.
What a learner reads of an answer is how much likelier each preference prompt makes it (φ); the
weights that explain a user's choices then steer the tokens, pick among n answers, and tell when the
best of a few is found.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.bench.language import styled_writer
from metapers.bench.language.styled_writer import Writer
from metapers.core import batches, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import SEEN, HostOrDevice, Population
from metapers.core.task import Candidates, Task
from metapers.core.types import Array, Bool, Float, Int, Params, PRNGKey
from metapers.evaluation import best_arm, best_of
from metapers.llm import steer, styled_prompts, styled_users, styles, tastes, text_users
from metapers.llm.steer import Features, Forms
from metapers.llm.tastes import Tasted
from metapers.llm.text_users import Split

USERS_AT_ONCE = 32


class Study(NamedTuple):
  """Users of the splits, as texts and as features.

  queried: questions of users of 'validation' and 'test' that answers are written to, [T, M].
  """

  writer: Writer
  users: Mapping[str, Tasted]
  features: Features
  splits: Mapping[str, Split]
  population: Population
  queried: Mapping[str, Int[HostOrDevice, 'T M']]


def study(
  writer: Writer,
  users: Mapping[str, Tasted],
  *,
  kind: str,
  num_queried: int,
  num_query: int,
  seed: int,
) -> Study:
  """Returns users whose comparisons have features of their texts.

  Args:
    writer: model and prompts.
    users: of the splits, see `tastes.tastes`.
    kind: of features, one of `steer.KINDS`.
    num_queried: questions of each held-out user that answers are written to.
    num_query: comparisons that a step of training predicts.
    seed: of these questions.
  """
  known = users['train'].support
  made = steer.features(
    kind,
    styled_writer.ratios_of(writer, known.prompts, known.responses),
    styled_writer.lengths_of(known.responses),
  )
  of_texts = functools.partial(styled_writer.features_of, writer, made)
  num_known = len(users['train'].weights)
  splits = {
    name: tastes.split_of(
      given,
      of_texts,
      np.arange(num_known) if name in ('train', SEEN) else np.full(len(given.weights), num_known),
    )
    for name, given in users.items()
  }
  num_support = users['test'].support.choice.shape[1]
  population = text_users.text_users(
    splits, num_query=num_query, num_support=num_support, source='answers in known styles'
  )
  rng, numbers = np.random.default_rng(seed), styled_users.prompts(seed)
  queried = {
    name: rng.choice(own, (len(users[name].weights), num_queried))
    for name, own in (('validation', numbers.validation), ('test', numbers.test))
  }
  return Study(writer, users, made, splits, population, queried)


class User(NamedTuple):
  """Users of a split after so many comparisons. states: the learner's. weights: of φ, [T, B]."""

  states: object
  weights: Float[HostOrDevice, 'T B']


@functools.partial(jax.jit, static_argnums=0)
def _states(learner: MetaLearner, params: Params, tasks: Task, shots: Array, key: PRNGKey):
  def one(user):
    person = task.take(tasks, user)
    support = task.with_shots(person.support, shots)
    state = learner.adapt(params, support, person.context, jax.random.fold_in(key, user))
    # Linearised where this user looked, whatever they have said so far.
    return state, steer.slopes(learner, params, state, person.support.candidates)

  return batches.map_chunks(one, tasks.user.shape[0], USERS_AT_ONCE)


def adapted(study: Study, learner: MetaLearner, params: Params, split: str, shots: int) -> User:
  """Returns what a learner makes of users of a split after some of their comparisons."""
  tasks = study.splits[split].tasks
  states, slopes = _states(learner, params, tasks, jnp.asarray(shots), jax.random.key(0))
  return User(states, study.features.weights(slopes))


def true_weights(study: Study, split: str) -> Float[HostOrDevice, 'T B']:
  """Returns the weights of φ that explain users' utilities best over the answers of known users.

  By least squares: what no kept prompt asks for, no weights can steer.
  """
  known = study.users['train'].support
  ratios = styled_writer.ratios_of(study.writer, known.prompts, known.responses)
  design = np.asarray(ratios, np.float64).reshape(-1, len(study.writer.kept))
  design -= design.mean(0)
  style = np.asarray(known.styles, np.float64).reshape(len(design), -1)
  found = np.linalg.lstsq(design, style - style.mean(0), rcond=1e-6)[0]  # [B, A]
  return jnp.asarray(np.asarray(study.users[split].weights) @ found.T, jnp.float32)


def likeliest_prompt(weights: Float[HostOrDevice, 'T B']) -> Float[HostOrDevice, 'T B']:
  """Returns weights of the one prompt that has the most."""
  return jax.nn.one_hot(weights.argmax(-1), weights.shape[-1], dtype=jnp.float32)


def told(study: Study, split: str) -> Float[HostOrDevice, 'T B']:
  """Returns weights of the one prompt that states a user's strongest preference that a prompt asks.

  Raises:
    ValueError: never; of users whose strongest axis no prompt asks for the strongest other one is
      stated.
  """
  kept = study.writer.kept
  own = np.asarray(study.users[split].weights)[:, kept // 2] * (2 * (kept % 2) - 1)
  return likeliest_prompt(jnp.asarray(own, jnp.float32))


Tables = dict[str, np.ndarray]


def measured(
  study: Study,
  split: str,
  responses: Int[np.ndarray, 'T M R'],
  shares: Float[HostOrDevice, 'T forms'],
  forms: Forms | None = None,
) -> Tables:
  """Returns what answers are worth, and how far they are from the base.

  utility: w·style. kl: to the base, in nats. base_nats: -log of the base, a token: its perplexity
  is exp of it. length: tokens. ended: whether the answer ends.

  Args:
    study: the users.
    split: of them.
    responses: answers to the questions of `Study.queried`.
    shares: of the forms that wrote them.
    forms: of each question; those of the kept prompts by default.
  """
  numbers, writer = study.queried[split], study.writer
  forms, num = styled_writer.forms_of(writer, numbers) if forms is None else forms, numbers.shape[1]
  repeated = np.broadcast_to(np.asarray(shares)[:, None], (len(shares), num, shares.shape[1]))
  found = styled_writer.readings(writer, forms, responses, repeated)
  lengths = styled_writer.lengths_of(responses)
  return {
    'utility': tastes.utilities(study.users[split].weights, responses),
    'kl': np.asarray(found.divergence),
    'base_nats': -np.asarray(found.base) / lengths,
    'length': lengths,
    'ended': (responses == styles.EOS).any(-1).astype(np.float32),
  }


def policy_accuracy(
  study: Study,
  split: str,
  shares: Float[HostOrDevice, 'T forms'],
  forms: Forms | None = None,
) -> Float[np.ndarray, 'T N']:
  """Returns 1 where the steered model finds the chosen answer the likelier one, against the base.

  Of log π(y | x, user) - log π(y | x), what steering adds: the base's own preferences among
  answers are nobody's.

  Args:
    study: the users.
    split: of them.
    shares: of the forms.
    forms: of each question, [T, N, forms, L]; those of the kept prompts by default.
  """
  query = study.users[split].query
  forms = styled_writer.forms_of(study.writer, query.prompts) if forms is None else forms
  shape = (*query.choice.shape, 2)
  doubled = jax.tree.map(lambda x: np.broadcast_to(x[:, :, None], (*shape, *x.shape[2:])), forms)
  repeated = np.broadcast_to(np.asarray(shares)[:, None, None], (*shape, shares.shape[1]))
  found = styled_writer.readings(study.writer, doubled, query.responses, repeated)
  added = np.asarray(found.steered - found.base)
  chosen = np.take_along_axis(added, np.asarray(query.choice)[..., None], -1)[..., 0]
  other = added.sum(-1) - chosen
  return np.where(chosen > other, 1.0, np.where(chosen == other, 0.5, 0.0))


def examples_of(study: Study, split: str, numbers: Int[np.ndarray, 'T M'], shots: int) -> Forms:
  """Returns questions as they are, and behind the last answers of the first `shots` choices."""
  support = study.users[split].support
  liked = np.take_along_axis(support.responses, support.choice[..., None, None], 2)[:, :shots, 0]
  liked = np.broadcast_to(liked[:, None], (*numbers.shape, *liked.shape[1:]))  # [T, M, N, R]
  return styled_prompts.shown(numbers, liked)


class Slates(NamedTuple):
  """n answers of the base to each question: features, and what they are worth to their user."""

  candidates: Candidates
  utilities: Float[np.ndarray, 'T M n']


def slates(study: Study, split: str, size: int, key: PRNGKey) -> Slates:
  """Returns answers of the base, who knows nobody."""
  numbers = study.queried[split]
  plain = jnp.zeros((len(numbers), 1 + len(study.writer.kept)), jnp.float32).at[:, 0].set(1.0)
  drawn = [
    styled_writer.written(study.writer, numbers, plain, jax.random.fold_in(key, number))
    for number in range(size)
  ]
  responses = np.stack(drawn, 2)  # [T, M, n, R]
  found = styled_writer.features_of(study.writer, study.features, numbers, responses)
  worth = tastes.utilities(study.users[split].weights, responses)
  return Slates(Candidates(jnp.asarray(found), jnp.ones(found.shape[:-1], bool)), worth)


@functools.partial(jax.jit, static_argnums=0)
def _sampled(learner, params, states, candidates):
  def one(given):
    state, own = given
    return learner.sample(params, state, own)

  return jax.lax.map(one, (states, candidates), batch_size=USERS_AT_ONCE)  # [T, S, M, n]


def picked(
  learner: MetaLearner,
  params: Params,
  user: User,
  given: Slates,
  *,
  sizes: Sequence[int],
  caution: float,
) -> Float[np.ndarray, 'L T M']:
  """Returns what the pick of the first n answers is worth, for each n of `sizes`.

  Args:
    learner: whose draws say mean and sd.
    params: of it.
    user: states.
    given: the answers.
    sizes: n.
    caution: c, of mean - c sd.
  """
  drawn = np.asarray(_sampled(learner, params, user.states, given.candidates))
  chosen = best_of.picks(best_of.cautious(np.moveaxis(drawn, 1, 0), caution), sizes)
  return np.stack([np.take_along_axis(given.utilities, c[..., None], -1)[..., 0] for c in chosen])


def best_possible(given: Slates, sizes: Sequence[int]) -> Float[np.ndarray, 'L T M']:
  """Returns the largest utility of the first n answers, for each n of `sizes`."""
  return np.stack([given.utilities[..., :size].max(-1) for size in sizes])


class Ended(NamedTuple):
  """Questions for the best arm, each [T].

  questions: asked until the stop. is_best: whether the pick is the best arm. regret: by how much it
  is worth less.
  """

  questions: Float[np.ndarray, 'T']
  is_best: Float[np.ndarray, 'T']
  regret: Float[np.ndarray, 'T']


def best_arms(
  study: Study,
  learner: MetaLearner,
  params: Params,
  given: Slates,
  *,
  split: str,
  rule: str,
  num_questions: int,
  level: float,
) -> Ended:
  """Returns how many questions find the best answer to each user's first question.

  Users have said nothing before; they answer as they choose, P ∝ exp(w·style).

  Args:
    study: the users.
    learner: with a posterior.
    params: of it.
    given: the answers, the arms.
    split: of the users.
    rule: of `best_arm.RULES`.
    num_questions: at most.
    level: of P(best is best), at which questions end.
  """
  worth = given.utilities[:, 0]  # [T, J]
  arms = jax.tree.map(lambda x: x[:, :1], given.candidates)
  tasks = _arm_tasks(study.splits[split].tasks, arms, worth)
  found = best_arm.ask(
    learner, params, tasks, arms, rule=rule, num_questions=num_questions, key=jax.random.key(0)
  )
  stops = found.stops(level)
  chosen = np.asarray(found.standing.best)[np.arange(len(stops)), stops]
  regret = worth.max(-1) - np.take_along_axis(worth, chosen[:, None], -1)[:, 0]
  return Ended(stops.astype(float), (regret <= 1e-6).astype(float), regret)


def _arm_tasks(tasks: Task, arms: Candidates, worth: np.ndarray) -> Task:
  """Returns users who compare all pairs of their arms, and have compared nothing before."""
  pairs = best_arm.pairs_of(worth.shape[1])
  shown = arms.features[:, 0][:, pairs]  # [T, N, 2, D]
  gap = worth[:, pairs[:, 1]] - worth[:, pairs[:, 0]]
  drawn = np.random.default_rng(0).random(gap.shape)
  choice = jnp.asarray(drawn < 1 / (1 + np.exp(-gap)), jnp.int32)
  mask: Bool[HostOrDevice, 'T N 2'] = jnp.ones(shown.shape[:-1], bool)
  pool = task.choices(Candidates(shown, mask), choice)
  return tasks._replace(support=task.with_shots(tasks.support, 0), query=pool)
