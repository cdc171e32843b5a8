"""What a learner makes of ties where it reads every answer as plain comparisons of two texts."""

from collections.abc import Sequence

import jax.numpy as jnp

from metapers.core import masked, meta_learner
from metapers.core import outcomes as answering
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates, Choices, Task
from metapers.core.types import Any, Array, Float, Params, UserState
from metapers.learners import inner

NO_OPTIONS: dict[str, Any] = {}
NEVER = -1e4  # utility and log P of an answer that is not foreseen; finite, for sums are taken


def as_pairs(
  num_features: int,
  *,
  num_users: int = 0,
  num_histories: int = 0,
  num_context: int = 0,
  outcomes: Sequence[str] = (),
  history_length: int = 0,
  base: str = 'gaussian_prior',
  options: dict[str, Any] = NO_OPTIONS,
  reading: str = 'halves',
) -> MetaLearner:
  """Returns a learner that is shown answers as plain pairs, to measure what a likelihood is worth.

  "Much better" is a choice, and "both bad" no comparison. A tie is none either where it is
  'dropped'; as 'halves' it is two comparisons of half a weight, one for each text: it pulls both
  utilities together, by a likelihood that no user has. Flags are not shown to the base, whose prior
  may be one of features that nobody dislikes. Without outcomes this is the base.

  Args:
    num_features: D, flags included.
    num_users: U, the known users, where the base asks.
    num_histories: of users shown to `prepare`, where the base asks.
    num_context: C, where the base asks.
    outcomes: kinds of answers beside the plain choice, see `core.outcomes`.
    history_length: comparisons of a history, where the base asks.
    base: name of the learner.
    options: of the base.
    reading: 'dropped' or 'halves'.

  Raises:
    ValueError: for an unknown reading, learner or option, or a base whose users are coupled.
  """
  if reading not in answering.READINGS:
    raise ValueError(f'reading must be {" or ".join(answering.READINGS)}, got {reading!r}')
  kinds = answering.of_names(outcomes)
  sizes = {
    'num_features': num_features - len(kinds),
    'num_users': num_users,
    'num_histories': num_histories,
    'num_context': num_context,
    'history_length': history_length * (2 if kinds and reading == 'halves' else 1),
  }
  learner = inner.made(base, options, sizes)
  return _of_pairs(learner, kinds, reading) if kinds else learner


def _of_pairs(base: MetaLearner, kinds: tuple[str, ...], reading: str) -> MetaLearner:
  def of_choices(given: Choices) -> Choices:
    read = answering.as_pairs(given, kinds, reading)
    return read._replace(candidates=texts(read.candidates))

  def texts(candidates: Candidates) -> Candidates:
    # Of a slate all candidates are texts, whose flags are 0; other outcomes the base cannot tell.
    is_text = (candidates.features[..., -len(kinds) :] == 0).all(-1)
    return Candidates(candidates.features[..., : -len(kinds)], candidates.mask & is_text)

  def of_task(given: Task) -> Task:
    return given._replace(support=of_choices(given.support), query=of_choices(given.query))

  def adapt(params, support, context, key):
    return base.adapt(params, of_choices(support), context, key)

  def score(params: Params, user_state: UserState, candidates: Candidates) -> Float[Array, 'N K']:
    shown = texts(candidates)
    return masked.fill(base.score(params, user_state, shown), shown.mask, NEVER)

  def predict(params, user_state, candidates):
    shown = texts(candidates)
    foreseen = shown.mask | ~candidates.mask
    return masked.fill(base.predict(params, user_state, shown), foreseen, NEVER)

  def sample(params, user_state, candidates):
    shown = texts(candidates)
    drawn = base.sample(params, user_state, shown)
    return masked.fill(drawn, jnp.broadcast_to(shown.mask, drawn.shape), NEVER)

  return meta_learner.from_adapt_score(
    base.init,
    adapt,
    score,
    predict=predict,
    loss=lambda params, given, key: base.loss(params, of_task(given), key),
    sample=sample if base.has_posterior else None,
    start=lambda params, histories, key: base.start(params, of_task(histories), key),
    prepare=lambda params, histories, key: base.prepare(params, of_task(histories), key),
  )
