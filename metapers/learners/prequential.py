"""Prequential evidence: how well learners predicted each choice of a user from those before it."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import batches, choice_model, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.surprise import Surprise
from metapers.core.task import Choices
from metapers.core.types import Array, Bool, Context, Float, Params, PRNGKey, Scalar, UserState

PREFIXES = 8  # adapted to at once


class Groups(NamedTuple):
  """Which of M members stand for the population and which for whoever is from outside of it.

  inside, outside: indices; without any outside nothing is surprising.
  """

  inside: tuple[int, ...]
  outside: tuple[int, ...] = ()


class MemberEvidence(NamedTuple):
  """What the comparisons of a user so far say of M members.

  log_evidence: Σ_n weight_n log P_m(choice_n | choices before n) [M], in nats.
  log_weights: log of the members' weights [M], which sum to 1.
  surprise: of members from outside against those from inside; () without any from outside.
  """

  log_evidence: Float[Array, 'M']
  log_weights: Float[Array, 'M']
  surprise: Surprise | tuple[()]


def of_choice(
  member: MetaLearner, params: Params, user_state: UserState, comparison: Choices
) -> Scalar:
  """Returns weight log P(choice | user state) of one comparison (N = 1), 0 where it is masked."""
  return -choice_model.total_nll(
    member.predict(params, user_state, comparison.candidates), comparison
  )


def of_member(
  member: MetaLearner, params: Params, support: Choices, context: Context, key: PRNGKey
) -> Float[Array, 'N']:
  """Returns weight_n log P(choice_n | choices before n) of each comparison, in nats; 0 if masked.

  A member with `update` reads the support once; another one is adapted anew at each of N prefixes.

  Args:
    member: whose predictions are judged.
    params: of the member.
    support: N comparisons of one user, in the order in which they were made.
    context: of the user.
    key: the same at every prefix, as in adapting to all of them.
  """
  size = support.choice.shape[0]

  def before(n):
    prefix = support._replace(mask=support.mask & (jnp.arange(size) < n))
    return member.adapt(params, prefix, context, key)

  if member.update is None:
    return batches.map_chunks(
      lambda n: of_choice(member, params, before(n), one_of(support, n)), size, PREFIXES
    )
  update = member.update

  def step(state, n):
    comparison = one_of(support, n)
    value = of_choice(member, params, state, comparison)
    return update(params, state, comparison, context, key), value

  return jax.lax.scan(step, before(0), jnp.arange(size, dtype=jnp.int32))[1]


def one_of(support: Choices, n: Array) -> Choices:
  """Returns comparison n alone, N = 1."""
  return task.take(support, n[None])


def at_first(log_prior: Float[Array, 'M'], groups: Groups) -> MemberEvidence:
  """Returns the evidence of a user of whom nothing is known: the prior."""
  none = jnp.zeros((), log_prior.dtype)
  return MemberEvidence(
    jnp.zeros_like(log_prior),
    jax.nn.log_softmax(log_prior),
    Surprise(none, none) if groups.outside else (),
  )


def after(
  evidence: MemberEvidence,
  values: Float[Array, 'M'],
  counts: Bool[Array, ''],
  *,
  log_prior: Float[Array, 'M'],
  groups: Groups,
  switching: float,
) -> MemberEvidence:
  """Returns the evidence after one more comparison.

  Args:
    evidence: before it.
    values: `of_choice` of each member.
    counts: False for a masked comparison, or one of weight 0, which leaves all as it is.
    log_prior: of the members.
    groups: inside and outside.
    switching: chance that the member that describes the user is drawn anew from the prior.
  """
  log_evidence = evidence.log_evidence + values
  log_weights = jax.nn.log_softmax(evidence.log_weights + values)
  if switching:
    anew = jnp.log(switching) + jax.nn.log_softmax(log_prior)
    log_weights = jnp.logaddexp(jnp.log1p(-switching) + log_weights, anew)
  surprise = evidence.surprise
  if isinstance(surprise, Surprise):
    ratio = log_ratio(log_prior, log_evidence, groups)
    surprise = Surprise(ratio, jnp.maximum(surprise.largest, ratio))
  updated = MemberEvidence(log_evidence, log_weights, surprise)
  return jax.tree.map(lambda new, old: jnp.where(counts, new, old), updated, evidence)


def from_first(
  values: Float[Array, 'N M'],
  counts: Bool[Array, 'N'],
  *,
  log_prior: Float[Array, 'M'],
  groups: Groups,
  switching: float,
) -> MemberEvidence:
  """Returns the evidence after N comparisons, one after another; see `after`."""

  def step(found, one):
    given = {'log_prior': log_prior, 'groups': groups, 'switching': switching}
    return after(found, *one, **given), None

  return jax.lax.scan(step, at_first(log_prior, groups), (values, counts))[0]


def log_ratio(
  log_prior: Float[Array, 'M'], log_evidence: Float[Array, 'M'], groups: Groups
) -> Scalar:
  """Returns log P(choices | outside) - log P(choices | inside), each mixed by its own prior."""

  def of_group(rows):
    index = jnp.asarray(rows, jnp.int32)
    return jax.nn.logsumexp(jax.nn.log_softmax(log_prior[index]) + log_evidence[index])

  return of_group(groups.outside) - of_group(groups.inside)


def prior(
  log_evidence: Float[Array, 'U M'],
  groups: Groups,
  *,
  outside_prior: float,
  num_pseudo_users: float,
  num_iterations: int = 100,
) -> Float[Array, 'M']:
  """Returns log π [M] that maximises the mixture's evidence of U users, in each group by itself.

  EM for the shares of a mixture with a Dirichlet(1 + ν) prior, in closed steps:
  π_m ∝ ν + Σ_u π_m E_um / Σ_j π_j E_uj. How many users come from outside of a population its own
  users cannot say: the outside members share `outside_prior`.

  Args:
    log_evidence: log E_um of each known user.
    groups: inside and outside.
    outside_prior: what the outside members share.
    num_pseudo_users: ν > 0 of each member, so that none dies.
    num_iterations: steps of EM.

  Reference:
    Dempster, Laird and Rubin 1977 (JRSS B 39(1)), the proportions of a mixture.
  """

  def shares(rows: Sequence[int]):
    index = jnp.asarray(rows, jnp.int32)

    def step(log_shares, _):
      belongs = jax.nn.softmax(log_shares[None] + log_evidence[:, index], -1)
      return jnp.log(num_pseudo_users + belongs.sum(0)) - jnp.log(
        num_pseudo_users * len(rows) + log_evidence.shape[0]
      ), None

    uniform = jnp.full(len(rows), -jnp.log(len(rows)), log_evidence.dtype)
    return index, jax.lax.scan(step, uniform, length=num_iterations)[0]

  found = jnp.zeros(log_evidence.shape[1], log_evidence.dtype)
  for rows, mass in zip(groups, masses(groups, outside_prior)):
    if rows:
      index, log_shares = shares(rows)
      found = found.at[index].set(log_shares + jnp.log(mass))
  return found


def masses(groups: Groups, outside_prior: float) -> tuple[float, float]:
  """Returns what the members from inside share, and those from outside."""
  return (1 - outside_prior, outside_prior) if groups.outside else (1.0, 0.0)
