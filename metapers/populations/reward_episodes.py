"""Episodes of simulated users: which prompts, which comparisons, and the truth behind them.

Pure functions of device arrays and a key, drawn inside the compiled training step.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import masked, outcomes, task
from metapers.core.outcomes import Answers
from metapers.core.population import Users
from metapers.core.task import Candidates, Choices, Task, Truth
from metapers.core.types import Array, Bool, Float, Int, PRNGKey
from metapers.populations import choice_rules, statements


class Arrays(NamedTuple):
  """What lives on the device.

  rewards: [P, R, B] normalised scores. features: [P, R, D] of the learner's track. mask: [P, R].
  models: [P, R] index of each response's model. prompts: split -> [P_split] prompt ids.
  users: split -> Users.
  """

  rewards: Float[Array, 'P R B']
  features: Float[Array, 'P R D']
  mask: Bool[Array, 'P R']
  models: Int[Array, 'P R']
  prompts: dict[str, Int[Array, 'P_']]
  users: dict[str, Users]


class Comparisons(NamedTuple):
  """N comparisons of one user, with all that bears on them."""

  choices: Choices
  rewards: Float[Array, 'N E B']
  mask: Bool[Array, 'N E']
  prompts: Int[Array, 'N']


class Layout(NamedTuple):
  """Static shape of an episode; see `reward_ensemble` for the meaning of each."""

  pair_rules: tuple[str, ...]
  num_candidates: int
  num_support: int
  num_query: int
  num_slates: int
  support_prompts: str
  num_users: int
  num_labels: int
  answers: Answers = Answers()

  @property
  def num_outcomes(self) -> int:
    """How many candidates a comparison has for who reads it: K, or all outcomes of a pair."""
    kinds = self.answers.kinds
    return len(outcomes.outcomes_of(kinds)) if kinds else self.num_candidates

  def of_train(self) -> 'Layout':
    """Returns the layout of a train user's episode: all their labels, if these are limited."""
    if not self.num_labels:
      return self
    num_support = min(self.num_support, self.num_labels // 2)
    return self._replace(num_support=num_support, num_query=self.num_labels - num_support)


def draw_distinct(key: PRNGKey, num_available: int, num_draws: int) -> Int[Array, 'N']:
  """Returns distinct indices below `num_available`, drawn one from each of N equal cells.

  They are in random order. Costs O(N log N), where a permutation of everything there is would sort
  all prompts per user.
  """
  key_cells, key_within = jax.random.split(key)
  cells = jax.random.permutation(key_cells, num_draws)
  low = cells * num_available // num_draws
  high = (cells + 1) * num_available // num_draws
  return jax.random.randint(key_within, (num_draws,), low, high, jnp.int32)


def by_rule(
  drawn: Sequence[tuple[Array, Array]], rule: Int[Array, ''], num_candidates: int
) -> tuple[Int[Array, 'E'], Bool[Array, '']]:
  """Returns what the user's own rule drew; of several rules no more than the K shown."""
  if len(drawn) == 1:
    return drawn[0]
  shown = [(order[:num_candidates], possible) for order, possible in drawn]
  return jax.tree.map(lambda *options: jnp.stack(options)[rule], *shown)


def compare(
  arrays: Arrays,
  user: Users,
  prompts: Int[Array, 'N'],
  key: PRNGKey,
  layout: Layout,
  *,
  is_forced: bool = False,
) -> Comparisons:
  """Returns what one user chooses of the candidates of each prompt that the pair rule shows.

  Args:
    arrays: of the population.
    user: who chooses.
    prompts: N of them.
    key: of all that is drawn.
    layout: rules, and what can be answered.
    is_forced: whether only plain choices are offered; other outcomes are masked.
  """

  def one(prompt, key):
    key_shown, key_choice = jax.random.split(key)
    rewards, mask = arrays.rewards[prompt], arrays.mask[prompt]
    order, possible = draw_order(key_shown, rewards, mask, user, layout)
    shown = order[: layout.num_candidates]
    offered = Candidates(arrays.features[prompt, shown], mask[shown])
    evident = rewards[order], mask[order]
    if layout.answers.kinds:
      offered = outcomes.expand(offered, layout.answers.kinds)
      is_plain = jnp.arange(layout.num_outcomes) < layout.num_candidates
      offered = offered._replace(mask=offered.mask & is_plain if is_forced else offered.mask)
      evident = outcomes.rewards_of(rewards[shown], layout.answers), offered.mask
    # Not of the outcomes' rewards: weights that do not sum to 1 would change the offsets.
    utilities = outcomes.utilities_of((rewards @ user.weights)[shown], layout.answers)
    choice = choice_rules.draw_choice(
      key_choice,
      utilities,
      offered.mask,
      temperature=user.temperature,
      flip_rate=user.flip_rate,
    )
    best = masked.largest(utilities, offered.mask)
    is_tie = jnp.sum(offered.mask & (utilities == best)) != 1
    real = possible & ~is_tie  # equal utilities never become a label
    candidates = offered._replace(mask=offered.mask & real)
    return Comparisons(task.choices(candidates, choice, real), *evident, prompt)

  return jax.vmap(one)(prompts, jax.random.split(key, prompts.size))


def draw_order(
  key: PRNGKey,
  rewards: Float[Array, 'R B'],
  mask: Bool[Array, 'R'],
  user: Users,
  layout: Layout,
) -> tuple[Int[Array, 'E'], Bool[Array, '']]:
  """Returns what the user's own pair rule shows of a slate; see `choice_rules.draw_shown`."""
  drawn = [
    choice_rules.draw_shown(
      key,
      rewards,
      rewards @ user.weights,
      mask,
      pair_rule=rule,
      num_candidates=layout.num_candidates,
    )
    for rule in layout.pair_rules
  ]
  return by_rule(drawn, user.rule, layout.num_candidates)


def draw_prompts(
  arrays: Arrays, split: str, key: PRNGKey, layout: Layout
) -> tuple[Int[Array, 'N_support'], Int[Array, 'N_query'], Int[Array, 'M']]:
  """Returns the distinct prompts of one episode: for the support, the query and the slates."""
  key_support, key_rest = jax.random.split(key)
  held_out = arrays.prompts[split]
  num_rest = layout.num_query + layout.num_slates
  if split == 'train' or layout.support_prompts == 'held_out':
    drawn = draw_distinct(key_rest, held_out.size, layout.num_support + num_rest)
    rest, support = held_out[drawn[:num_rest]], held_out[drawn[num_rest:]]
  else:
    train = arrays.prompts['train']
    support = train[draw_distinct(key_support, train.size, layout.num_support)]
    rest = held_out[draw_distinct(key_rest, held_out.size, num_rest)]
  return support, rest[: layout.num_query], rest[layout.num_query :]


def episode(
  arrays: Arrays,
  user: Int[Array, ''],
  key: PRNGKey,
  split: str,
  layout: Layout,
  *,
  people: str | None = None,
) -> tuple[Task, Truth]:
  """Returns an episode of one user of a split: what learners see, and the truth.

  Args:
    arrays: of the population.
    user: number among the users.
    key: of all that is drawn.
    split: whose prompts are shown.
    layout: sizes and rules.
    people: split of the user; by default the prompts'.
  """
  key_prompts, key_support, key_query = jax.random.split(key, 3)
  person = task.take(arrays.users[people or split], user)
  support_prompts, query_prompts, slates = draw_prompts(arrays, split, key_prompts, layout)
  support = compare(arrays, person, support_prompts, key_support, layout)
  # The labels of a finite pool are divided anew into support and query: they are of one kind.
  is_forced = split != 'train' or not layout.num_users
  query = compare(arrays, person, query_prompts, key_query, layout, is_forced=is_forced)
  known = user if (people or split) == 'train' and layout.num_users else layout.num_users
  truth = Truth(
    person.weights,
    *(support.rewards, support.mask, support.prompts),
    *(query.rewards, query.mask, query.prompts),
    Candidates(arrays.features[slates], arrays.mask[slates]),
    arrays.rewards[slates],
    slates,
    arrays.models[slates],
  )
  known = jnp.asarray(known, jnp.int32)
  return Task(support.choices, query.choices, known, context_of(person, arrays)), truth


def context_of(person: Users, arrays: Arrays) -> Float[Array, 'C']:
  """Returns what a learner is told of one user: what they say of themselves, if they are asked."""
  if person.statement is None:
    return task.no_context()
  return statements.context_of(person.statement, arrays.rewards.shape[-1])


def history_of(person: Task, truth: Truth) -> Comparisons:
  """Returns the support and the query of one user's episode as one history."""
  return Comparisons(
    task.concat(person.support, person.query),
    jnp.concatenate([truth.support_rewards, truth.query_rewards]),
    jnp.concatenate([truth.support_mask, truth.query_mask]),
    jnp.concatenate([truth.support_prompts, truth.query_prompts]),
  )


def with_support(pair: tuple[Task, Truth], support: Comparisons) -> tuple[Task, Truth]:
  """Returns an episode with another support."""
  person, truth = pair
  return person._replace(support=support.choices), truth._replace(
    support_rewards=support.rewards, support_mask=support.mask, support_prompts=support.prompts
  )


def reshuffle(pair: tuple[Task, Truth], key: PRNGKey, num_support: int) -> tuple[Task, Truth]:
  """Returns a fixed history, divided anew into support and query."""
  history = history_of(*pair)
  order = jax.random.permutation(key, history.prompts.size)
  query = task.take(history, order[num_support:])
  person, truth = with_support(pair, task.take(history, order[:num_support]))
  return person._replace(query=query.choices), truth._replace(
    query_rewards=query.rewards, query_mask=query.mask, query_prompts=query.prompts
  )


def revisit(
  arrays: Arrays, user: Int[Array, ''], keys: tuple[PRNGKey, PRNGKey], layout: Layout
) -> tuple[Task, Truth]:
  """Returns an episode of a known user on test prompts, after the first of their own history.

  Args:
    arrays: of the population.
    user: number among the train users.
    keys: of their history, and of the query.
    layout: sizes and rules; a history shorter than num_support is padded.
  """
  history = history_of(*episode(arrays, user, keys[0], 'train', layout.of_train()))
  size = min(layout.num_support, history.prompts.size)
  first = task.take(history, jnp.arange(size))
  missing = layout.num_support - size
  support = jax.tree.map(lambda x: jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)), first)
  on_test = episode(arrays, user, keys[1], 'test', layout, people='train')
  return with_support(on_test, support)
