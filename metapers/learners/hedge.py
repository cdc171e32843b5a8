"""An average of learners, each weighed by how well it predicted the user so far."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import batches, meta_learner, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates, Choices, Task
from metapers.core.types import (
  Any,
  Array,
  Callable,
  Context,
  Float,
  Metrics,
  Params,
  PRNGKey,
  Scalar,
  UserState,
)
from metapers.learners import hedge_team as team_of
from metapers.learners import mixture, options, prequential
from metapers.learners.hedge_team import Seat
from metapers.learners.prequential import MemberEvidence

MEMBERS = {'cnp': {}, 'bayes_head': {}, 'pooled': {}}
CHUNK_SIZE = 32  # known users at once


class Hedged(NamedTuple):
  """What each member holds of the user, by row, and what the comparisons say of the members."""

  members: dict[str, UserState]
  evidence: MemberEvidence


def hedge(
  num_features: int,
  *,
  num_users: int = 0,
  num_histories: int = 0,
  num_context: int = 0,
  history_length: int = 0,
  outcomes: Sequence[str] = (),
  members: dict[str, Any] = MEMBERS,
  own_from: str = 'pooled',
  own_scale: float = 1.0,
  outside: Sequence[str] = (),
  outside_prior: float = 0.3,
  switching: float = 0.0,
  num_pseudo_users: float = 1.0,
  num_prior_users: int = 128,
  num_prior_shots: int = 16,
  num_samples: int = 64,
  untrained: Sequence[str] = (),
) -> MetaLearner:
  """Returns the average of M learners by their prequential evidence on the user's comparisons.

    log E_m = Σ_n weight_n log P_m(choice_n | choices before n),  π_m(D) ∝ π_m E_m,
    P(choice) = Σ_m π_m(D) P_m(choice | D),

  with, under `switching` α > 0, π_m ← (1 - α) π_m + α π_m(∅) after each comparison: a user whom
  another member describes better from some comparison on is then followed sooner. Members are
  trained together, each by its own loss on parameters of its own (one optimiser clips their joint
  gradient). `own`, the fit of `own_fit` that starts from one of them, is not trained.
  `prepare` fits the prior π to the known users' evidence, see `prequential.prior`. Members have
  seen these users in training, so it trusts those that fit tightly too much; and no known user is
  from outside, so what members from outside share is given.

  Utilities are the members' averaged by π(D): all are logits of the same choices, so this is the
  expected one. Draws are the members' own, each as often as π(D) asks.

  Evidence depends on the order of the comparisons, and is of the order in which they were made; it
  counts a weight as a power of the probability, where a comparison made twice would be predicted
  better the second time. Adapting to N comparisons costs each member N + 1 adaptations, of one with
  `update` N of those; with all of them so, a hedge has `update`, at a constant cost a comparison.
  What forgets a comparison adapts anew: all that came after it is predicted without it.

  Args:
    num_features: D.
    num_users: U, the known users, for members that ask.
    num_histories: of users shown to `prepare`, for members that ask.
    num_context: C, for members that ask.
    history_length: comparisons of a history, for members that ask.
    outcomes: kinds of answers beside the plain choice, for members that ask.
    members: row -> the member's options, with `name` where the learner is not named as the row.
    own_from: row of the member that `own` starts from, for candidates that are vectors [D]; '' for
      no such member. One that adapts serves ordinary users better, and of an unheard-of preference
      it must be corrected first.
    own_scale: σ of its prior.
    outside: rows of members, beside `own`, that describe users from outside of the population: the
      others' evidence against theirs is the state's `Surprise`.
    outside_prior: what all members from outside share of π; no part of the surprise.
    switching: α, of at least 0 and below 1. Above 0 it keeps some weight on members that are long
      refuted, which costs where a user's member is one and stays it.
    num_pseudo_users: ν, users of each member before any is counted; keeps every member alive.
    num_prior_users: known users whose evidence `prepare` looks at, at most.
    num_prior_shots: their comparisons, at most.
    num_samples: S.
    untrained: rows of members that `prepare` makes alone, such as `dirichlet_mixture`: their loss
      is left out, which costs a pass and would move what `prepare` replaces.

  Raises:
    ValueError: for members that are unknown or coupled, or an option out of range.

  Reference:
    Dawid 1984 (JRSS A 147(2)), prequential; Hoeting et al. 1999 (Statistical Science 14(4)),
    Bayesian model averaging; Herbster and Warmuth 1998 (Machine Learning 32), switching.
  """
  options.at_least_one(
    num_prior_users=num_prior_users, num_prior_shots=num_prior_shots, num_samples=num_samples
  )
  options.positive(num_pseudo_users=num_pseudo_users)
  options.share(outside_prior=outside_prior)
  if not 0 <= switching < 1:
    raise ValueError(f'switching must be at least 0 and below 1, got {switching}')
  sizes = {
    'num_features': num_features,
    'num_users': num_users,
    'num_histories': num_histories,
    'num_context': num_context,
    'history_length': history_length,
    'outcomes': outcomes,
  }
  made = team_of.made_of(members, sizes)
  if not set(untrained) <= set(made):
    raise ValueError(f'untrained must name members, {", ".join(made)}; got {", ".join(untrained)}')
  if idle := [row for row in untrained if made[row].prepare is meta_learner.keep_params]:
    raise ValueError(
      f'untrained members {", ".join(idle)} have no prepare: nothing would make them'
    )
  team = team_of.seats_of(made, own_from, own_scale)
  groups = team_of.groups_of(team, outside)
  prior_of = functools.partial(
    prequential.prior,
    groups=groups,
    outside_prior=outside_prior,
    num_pseudo_users=num_pseudo_users,
  )

  def prior(params, histories, key):
    few = first_of(histories, num_prior_users, num_prior_shots)
    return prior_of(total_values(team, params, few, key))

  start = prior_of(jnp.zeros((0, len(team)), jnp.float32))
  weighing = {'groups': groups, 'switching': switching}
  return averaged(made, team, start, prior, weighing, num_samples=num_samples, untrained=untrained)


def averaged(
  made: dict[str, MetaLearner],
  team: Sequence[Seat],
  log_prior: Float[Array, 'M'],
  prior: Callable[[Params, Task, PRNGKey], Float[Array, 'M']],
  weighing: dict[str, Any],
  *,
  num_samples: int,
  untrained: Sequence[str],
) -> MetaLearner:
  """Returns the average of a team, see `hedge`.

  Args:
    made: the members that have parameters, by row.
    team: all members.
    log_prior: log π before any history is seen.
    prior: log π given the parameters and the known users.
    weighing: `groups` and `switching`, as `prequential.after` takes them.
    num_samples: S.
    untrained: rows without a loss.
  """
  trained = {row: one for row, one in made.items() if row not in untrained}

  def init(key):
    return {'members': started(made, key), 'log_prior': log_prior}

  def adapt(params, support, context, key):
    values = values_of(team, params, support, context, key)
    states = {one.row: one.member.adapt(own(params, one), support, context, key) for one in team}
    counts = support.mask & (support.weight > 0)
    found = prequential.from_first(values, counts, log_prior=params['log_prior'], **weighing)
    return Hedged(states, found)

  def update(params, user_state, comparison, context, key):
    held, evident = user_state
    values = choice_values(team, params, held, comparison)
    counts = comparison.mask[0] & (comparison.weight[0] > 0)
    after = prequential.after(evident, values, counts, log_prior=params['log_prior'], **weighing)
    return Hedged(updated(team, params, held, comparison, context, key), after)

  def score(params, user_state, candidates):
    each = shown(lambda member: member.score, team, params, user_state, candidates)
    return jnp.einsum('m,mnk->nk', shares_of(user_state), jnp.stack(each))

  def predict(params, user_state, candidates):
    each = shown(lambda member: member.predict, team, params, user_state, candidates)
    return mixture.log_probs(jnp.stack(each), shares_of(user_state), candidates.mask)

  def sample(params, user_state, candidates):
    each = shown(lambda member: member.sample, team, params, user_state, candidates)
    return allotted(each, shares_of(user_state), num_samples)

  @jax.jit
  def prepare(params, histories, key):
    params = learned(made, lambda one: one.prepare, params, histories, key)
    return params | {'log_prior': prior(params, histories, key)}

  return meta_learner.from_adapt_score(
    init,
    adapt,
    score,
    predict=predict,
    loss=functools.partial(joint_loss, trained),
    sample=sample if len(team) > 1 or team[0].member.has_posterior else None,
    start=functools.partial(learned, made, lambda one: one.start),
    prepare=prepare,
    update=update if all(one.member.update for one in team) else None,
  )


def started(made: dict[str, MetaLearner], key: PRNGKey) -> Params:
  """Returns the first parameters of each member, by row."""
  keys = jax.random.split(key, len(made))
  return {row: member.init(k) for (row, member), k in zip(made.items(), keys)}


def joint_loss(
  trained: dict[str, MetaLearner], params: Params, episode: Task, key: PRNGKey
) -> tuple[Scalar, Metrics]:
  """Returns the sum of the members' losses, and their metrics by row."""
  found = {row: one.loss(params['members'][row], episode, key) for row, one in trained.items()}
  metrics = {f'{row}_{name}': x for row, (_, each) in found.items() for name, x in each.items()}
  return sum((value for value, _ in found.values()), jnp.zeros((), jnp.float32)), metrics


def own(params: Params, seat: Seat) -> Params:
  """Returns the parameters of a member."""
  return params['members'][seat.source]


def learned(
  made: dict[str, MetaLearner],
  function_of: Callable[[MetaLearner], Callable],
  params: Params,
  histories: Task,
  key: PRNGKey,
) -> Params:
  """Returns the parameters with what `start` or `prepare` of each member makes of its own."""
  own = {row: function_of(one)(params['members'][row], histories, key) for row, one in made.items()}
  return params | {'members': own}


def updated(
  team: Sequence[Seat],
  params: Params,
  states: dict[str, UserState],
  comparison: Choices,
  context: Context,
  key: PRNGKey,
) -> dict[str, UserState]:
  """Returns what each member holds after one more comparison; all must have `update`."""
  found = {}
  for one in team:
    assert one.member.update is not None
    found[one.row] = one.member.update(own(params, one), states[one.row], comparison, context, key)
  return found


def choice_values(
  team: Sequence[Seat], params: Params, states: dict[str, UserState], comparison: Choices
) -> Float[Array, 'M']:
  """Returns weight log P_m(choice) of one comparison, N = 1, of each member."""
  return jnp.stack(
    [
      prequential.of_choice(one.member, own(params, one), states[one.row], comparison)
      for one in team
    ]
  )


def shares_of(user_state: Hedged) -> Float[Array, 'M']:
  """Returns π(D), the members' weights."""
  return jnp.exp(user_state.evidence.log_weights)


def shown(
  function_of: Callable[[MetaLearner], Callable],
  team: Sequence[Seat],
  params: Params,
  user_state: Hedged,
  candidates: Candidates,
) -> list[Array]:
  """Returns what one of its functions gives for the candidates, of each member."""
  return [
    function_of(one.member)(own(params, one), user_state.members[one.row], candidates)
    for one in team
  ]


def allotted(
  drawn: Sequence[Array], shares: Float[Array, 'M'], num_samples: int
) -> Float[Array, 'S N K']:
  """Returns S draws, each member's as often as its share asks to within one.

  Args:
    drawn: utilities of each member, [s, N, K] of s draws of its own, of which those taken are
      evenly spread.
    shares: of the members.
    num_samples: S.
  """
  member, slot = mixture.stratified(shares, num_samples), jnp.arange(num_samples)
  taken = functools.partial(mixture.own_draws, member, len(drawn))
  each = jnp.stack([x[taken(x.shape[0])] for x in drawn])  # [M, S, N, K]
  return each[member, slot]


def values_of(
  team: Sequence[Seat], params: Params, support: Choices, context: Context, key: PRNGKey
) -> Float[Array, 'N M']:
  """Returns weight_n log P_m(choice_n | choices before n) of each comparison and member."""
  each = [
    prequential.of_member(one.member, own(params, one), support, context, key) for one in team
  ]
  return jnp.stack(each, -1)


def first_of(histories: Task, num_users: int, shots: int) -> Task:
  """Returns the first real comparisons of the first users, at most so many of each."""
  few = jax.tree.map(lambda x: x[:num_users], histories)
  order = jnp.argsort(~few.support.mask, axis=-1, stable=True)[:, :shots]
  return few._replace(support=jax.vmap(task.take)(few.support, order))


def total_values(
  team: Sequence[Seat], params: Params, histories: Task, key: PRNGKey
) -> Float[Array, 'U M']:
  """Returns each known user's evidence of each member."""
  if not histories.user.shape[0]:
    return jnp.zeros((0, len(team)), jnp.float32)

  def of_user(user):
    known = task.take(histories, user)
    return values_of(team, params, known.support, known.context, jax.random.fold_in(key, user)).sum(
      0
    )

  return batches.map_chunks(of_user, histories.user.shape[0], CHUNK_SIZE)
