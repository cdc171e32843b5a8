"""Answers that are no choice: of two texts "about the same", "both bad", one "much better".

An outcome is a candidate. Users choose among outcomes by the choice model, P(k) ∝ exp(u_k), the
utility of an outcome being a linear map of the utilities of the two texts a, b, and an offset:

  a, b          u_a, u_b
  tie           (u_a + u_b) / 2 + log ν
  both_bad      θ
  strong a, b   u_a + γ (u_a - u_b) - o, u_b + γ (u_b - u_a) - o, with γ = 1/2

The tie is Davidson's, P(tie) ∝ ν √(π_a π_b); both_bad an outside option of utility θ; with γ = 1/2
the five outcomes from strong a over the tie to strong b are equally spaced in u_a - u_b, the
adjacent-category logit. In units of utility and without noise, a tie of offset τ/2 is chosen where
|u_a - u_b| <= τ, and a strong one of offset -γ σ where the difference is above σ. Being linear, the
map is one of features too: a learner whose utility is linear in them, and in one 0/1 column (a
flag) for each kind of outcome, has log ν, θ and -o as the weights of the flags. So whatever knows
the choice model of K candidates knows ties.

References: Davidson 1970 (JASA 65(329)); McFadden 1974, the outside option of a conditional logit;
Agresti 1992, Analysis of ordinal paired comparison data (JRSS C 41(2)). Unlike a cumulative link
(ordered logit), the adjacent-category one is a choice among candidates.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.task import Candidates, Choices
from metapers.core.types import Array, Bool, Float, Int

KINDS = ('tie', 'both_bad', 'strong')  # in the order of outcomes, and of their flags
STRENGTH = 0.5  # γ: outcomes are equally spaced
READINGS = ('dropped', 'halves')  # of `as_pairs`
NO_CHOICE = ('tie', 'both_bad')  # of two texts neither is preferred


class Outcome(NamedTuple):
  """One outcome: the weights of u_a and u_b in its utility, and its kind; '' for a plain choice."""

  weights: tuple[float, float]
  kind: str = ''


ALL = (
  Outcome((1, 0)),
  Outcome((0, 1)),
  Outcome((0.5, 0.5), 'tie'),
  Outcome((0, 0), 'both_bad'),
  Outcome((1 + STRENGTH, -STRENGTH), 'strong'),
  Outcome((-STRENGTH, 1 + STRENGTH), 'strong'),
)


class Answers(NamedTuple):
  """What users may answer; static.

  kinds: of outcomes beside the plain choice, see `of_names`. offsets: of each kind, in units of
    utility; see `offset`.
  """

  kinds: tuple[str, ...] = ()
  offsets: tuple[float, ...] = ()


def of_names(kinds: Sequence[str]) -> tuple[str, ...]:
  """Returns kinds of outcomes in their order.

  Raises:
    ValueError: for an unknown or repeated one.
  """
  given = (kinds,) if isinstance(kinds, str) else tuple(kinds)
  if not set(given) <= set(KINDS) or len(set(given)) < len(given):
    raise ValueError(
      f'outcomes must be some of {", ".join(KINDS)}, each once; got {", ".join(given)}'
    )
  return tuple(kind for kind in KINDS if kind in given)


def offset(kind: str, *, tie_width: float, outside_utility: float, strong_width: float) -> float:
  """Returns the offset of the utility of an outcome, in units of utility.

  Args:
    kind: of the outcome.
    tie_width: τ; log ν is τ / 2 at temperature 1.
    outside_utility: θ.
    strong_width: σ.
  """
  return {
    '': 0.0,
    'tie': tie_width / 2,
    'both_bad': outside_utility,
    'strong': -STRENGTH * strong_width,
  }[kind]


def outcomes_of(kinds: tuple[str, ...]) -> tuple[Outcome, ...]:
  """Returns the O outcomes of a comparison of two texts: a and b first."""
  return tuple(one for one in ALL if one.kind in ('', *kinds))


def flags(kinds: tuple[str, ...]) -> Float[np.ndarray, 'O F']:
  """Returns the flags of every outcome: a 0/1 column for each kind."""
  rows = [[one.kind == kind for kind in kinds] for one in outcomes_of(kinds)]
  return np.array(rows, np.float32).reshape(-1, len(kinds))


def choice_of(
  answer: Int[Array, '*N'], is_second: Bool[Array, '*N'], kinds: tuple[str, ...]
) -> Int[Array, '*N']:
  """Returns the index of answers among the outcomes of kinds; an answer of no such kind is plain.

  Args:
    answer: 0 for a plain choice, n for KINDS[n - 1].
    is_second: whether the second text is the chosen one, where one is.
    kinds: of outcomes.
  """
  known = [one.kind for one in outcomes_of(kinds)]
  names = ('', *KINDS)
  first = np.array([known.index(name) if name in known else 0 for name in names], np.int32)
  return jnp.asarray(first)[answer] + (prefers(answer) & is_second).astype(jnp.int32)


def prefers(answer: Int[Array, '*N']) -> Bool[Array, '*N']:
  """Returns whether answers, coded as in `choice_of`, prefer one of the two texts."""
  return jnp.asarray([name not in NO_CHOICE for name in ('', *KINDS)])[answer]


def combined(values: Float[Array, '*T 2 D'], kinds: tuple[str, ...]) -> Float[Array, '*T O D']:
  """Returns M v: what is linear in utilities, of every outcome, from that of the two texts."""
  weights = np.array([one.weights for one in outcomes_of(kinds)], np.float32)
  return jnp.einsum('oc,...cd->...od', weights, values)


def widened(features: Float[Array, '*T D'], kinds: tuple[str, ...]) -> Float[Array, '*T D1']:
  """Returns the features of candidates as they are, with flags, which are 0 of plain ones."""
  return jnp.pad(features, [(0, 0)] * (features.ndim - 1) + [(0, len(kinds))])


def expand(candidates: Candidates, kinds: tuple[str, ...]) -> Candidates:
  """Returns the outcomes of comparisons of two texts as candidates; as given without any kinds.

  Args:
    candidates: plain ones, [*T, N, 2, D + F], see `widened`.
    kinds: of outcomes.

  Returns:
    Candidates [*T, N, O, D + F]: M x with the flags; real where both texts are.
  """
  if not kinds:
    return candidates
  marked = np.pad(flags(kinds), [(0, 0), (candidates.features.shape[-1] - len(kinds), 0)])
  features = combined(candidates.features, kinds)
  mask = candidates.mask.all(-1, keepdims=True)
  shape = features.shape[:-1]
  return Candidates(
    features + jnp.broadcast_to(marked, features.shape), jnp.broadcast_to(mask, shape)
  )


def rewards_of(rewards: Float[Array, 'K B'], answers: Answers) -> Float[Array, 'O B']:
  """Returns M r + c: rewards of outcomes, whose weighted sums are utilities as weights sum to 1."""
  if not answers.kinds:
    return rewards
  added = jnp.asarray(_offsets(answers), rewards.dtype)
  return combined(rewards, answers.kinds) + added[:, None]


def utilities_of(utilities: Float[Array, 'K'], answers: Answers) -> Float[Array, 'O']:
  """Returns M u + c: the utilities of all outcomes, as given without any kinds."""
  return rewards_of(utilities[:, None], answers)[:, 0]


def _offsets(answers: Answers) -> Float[np.ndarray, 'O']:
  known = {'': 0.0, **dict(zip(answers.kinds, answers.offsets, strict=True))}
  return np.array([known[one.kind] for one in outcomes_of(answers.kinds)], np.float32)


def as_pairs(given: Choices, kinds: tuple[str, ...], reading: str) -> Choices:
  """Returns answers as plain comparisons of two texts, for who has no likelihood of others.

  A text that is much better is the chosen one, and "both bad" no comparison. Where ties are
  'dropped' they are none either; as 'halves' a tie of weight w is two of w / 2, one for each text.
  Neither is the likelihood of the answer.

  Args:
    given: choices among outcomes [*T, N, O].
    kinds: of outcomes.
    reading: one of READINGS.

  Returns:
    Choices [*T, N, 2], or [*T, 2 N, 2] of halves: the second of each comparison beside the first,
    for some learners read them in their order, and masked where the answer is no tie.
  """
  if not kinds:
    return given
  outcomes = outcomes_of(kinds)
  sides = np.array([one.weights[1] > one.weights[0] for one in outcomes], np.int32)
  choice = jnp.where(given.mask, given.choice, 0)
  is_tie, is_bad = (
    given.mask & jnp.asarray([one.kind == kind for one in outcomes])[choice]
    for kind in ('tie', 'both_bad')
  )
  pair = Candidates(given.candidates.features[..., :2, :], given.candidates.mask[..., :2])
  first = Choices(pair, jnp.asarray(sides)[choice], given.mask & ~is_bad, given.weight)
  if reading == 'dropped':
    return first._replace(mask=first.mask & ~is_tie)
  first = first._replace(weight=jnp.where(is_tie, given.weight / 2, given.weight))
  second = Choices(pair, jnp.ones_like(first.choice), is_tie, given.weight / 2)
  axis = given.mask.ndim
  return jax.tree.map(lambda *half: _in_turn(half, axis), first, second)


def _in_turn(halves: tuple[Array, Array], axis: int) -> Array:
  shape = halves[0].shape
  return jnp.stack(halves, axis).reshape(*shape[: axis - 1], 2 * shape[axis - 1], *shape[axis:])
