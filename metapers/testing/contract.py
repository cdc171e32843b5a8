"""The checks that any MetaLearner must pass, for CI and for notebooks.

    contract.check(my_learner(num_features=4))

Each check is a function `check_<claim>(subject)` that raises AssertionError saying what broke.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metapers.core import choice_model, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Choices, Task
from metapers.core.types import Array, Callable, Float, Params
from metapers.populations import toy

SHAPE = {'num_features': 4, 'num_support': 8, 'num_query': 16, 'num_users': 64}


class Exceptions(NamedTuple):
  """What a learner is excused from, each named on its row.

  adapts: False where the user state is empty (pooled): checks 10b and 14 do not apply.
  order_matters: True where the order of the support may count.
  exact_gradient: False where `loss` is not differentiated exactly (first order, surrogate losses).
  constant: names of top-level parameters that the loss does not train.
  num_steps: of the short training; learning_rate: of its Adam.
  """

  adapts: bool = True
  order_matters: bool = False
  exact_gradient: bool = True
  constant: tuple[str, ...] = ()
  num_steps: int = 150
  learning_rate: float = 1e-2


class Subject(NamedTuple):
  """A learner, its excuses, untrained and briefly trained parameters, and tasks [T, ...]."""

  learner: MetaLearner
  excused: Exceptions
  start: Params
  trained: Params
  tasks: Task
  wide: Task


def predictions(learner: MetaLearner, params: Params, seen: Task) -> Float[Array, 'N K']:
  """Adapts to the support of one task and returns the query's log-probabilities [N, K]."""
  user_state = learner.adapt(params, seen.support, seen.context, jax.random.key(1))
  return learner.predict(params, user_state, seen.query.candidates)


def first(tasks: Task) -> Task:
  """Returns the first task of a batch."""
  return task.take(tasks, jnp.asarray(0))


def same(actual: Array, expected: Array, claim: str, tolerance: float = 2e-4) -> None:
  """Asserts that probabilities agree to `tolerance`.

  Raises:
    AssertionError: naming the claim and the largest difference.
  """
  worst = float(jnp.max(jnp.abs(jnp.exp(actual) - jnp.exp(expected))))
  assert worst <= tolerance, f'{claim}: probabilities differ by {worst:.2g}'


def train_briefly(learner: MetaLearner, params: Params, excused: Exceptions) -> Params:
  """Trains on `toy.two_tastes` for a few seconds, with supports of 0 to 8 comparisons."""
  population = toy.two_tastes(**SHAPE)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(excused.learning_rate))

  def task_loss(params, key):
    key_task, key_shots, key_loss = jax.random.split(key, 3)
    seen, _ = population.sample_episode((), key_task, 'train')
    shots = jax.random.randint(key_shots, (), 0, SHAPE['num_support'] + 1)
    seen = seen._replace(support=task.with_shots(seen.support, shots))
    return learner.loss(params, seen, key_loss)[0]

  def step(carry, key):
    params, state = carry
    keys = jax.random.split(key, 32)
    gradient = jax.grad(lambda p: jax.vmap(task_loss, (None, 0))(p, keys).mean())(params)
    updates, state = optimizer.update(gradient, state, params)
    return (optax.apply_updates(params, updates), state), None

  keys = jax.random.split(jax.random.key(2), excused.num_steps)
  (params, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))(
    (params, optimizer.init(params))
  )
  return learner.prepare(params, population.histories(()), jax.random.key(3))


def subject(learner: MetaLearner, excused: Exceptions = Exceptions()) -> Subject:  # noqa: B008
  """Trains the learner briefly and draws tasks, once for all the checks."""
  start = learner.init(jax.random.key(0))

  def held_out(num_candidates):
    population = toy.two_tastes(**SHAPE, num_candidates=num_candidates)
    return jax.vmap(lambda user: population.episode_of((), user, 'test')[0])(jnp.arange(64))

  return Subject(
    learner, excused, start, train_briefly(learner, start, excused), held_out(2), held_out(3)
  )


def check_state_shapes_do_not_depend_on_data(it: Subject) -> None:
  """1: user states of any support have the same structure, shapes and dtypes."""
  seen = first(it.tasks)
  shapes = [
    jax.eval_shape(lambda s: it.learner.adapt(it.start, s, seen.context, jax.random.key(0)), s)
    for s in (seen.support, task.with_shots(seen.support, 0), task.pad_to(seen.support, 11))
  ]
  assert shapes[0] == shapes[1] == shapes[2], f'user states differ in shape: {shapes}'


def check_probabilities_sum_to_one(it: Subject) -> None:
  """2: exp(predict) sums to 1 over real candidates and is 0 on masked ones, for K = 2 and 3."""
  for tasks in (it.tasks, it.wide):
    seen = first(tasks)
    mask = seen.query.candidates.mask.at[0, -1].set(False)
    candidates = seen.query.candidates._replace(mask=mask)
    seen = seen._replace(query=seen.query._replace(candidates=candidates))
    p = jnp.exp(predictions(it.learner, it.trained, seen))
    assert np.allclose(p.sum(-1), 1, atol=1e-5), f'probabilities sum to {p.sum(-1)}'
    assert p[0, -1] == 0, f'a masked candidate has probability {p[0, -1]}'


def check_padding_changes_nothing(it: Subject) -> None:
  """3: appending masked comparisons leaves predictions as they are."""
  seen = first(it.tasks)
  padded = seen._replace(support=task.pad_to(seen.support, 13))
  same(
    predictions(it.learner, it.trained, padded),
    predictions(it.learner, it.trained, seen),
    'padding the support changes predictions',
  )


def check_order_changes_nothing(it: Subject) -> None:
  """4: the support is a set."""
  if it.excused.order_matters:
    return
  seen = first(it.tasks)
  order = jax.random.permutation(jax.random.key(4), seen.support.choice.size)
  shuffled = seen._replace(support=task.take(seen.support, order))
  same(
    predictions(it.learner, it.trained, shuffled),
    predictions(it.learner, it.trained, seen),
    'the order of the support changes predictions',
  )


def all_finite(tree: Params) -> bool:
  """Tells whether every leaf is finite."""
  return all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(tree))


def check_empty_support_is_finite(it: Subject) -> None:
  """5: no comparison at all gives finite predictions and a finite gradient."""
  seen = first(it.tasks)
  seen = seen._replace(support=task.with_shots(seen.support, 0))
  assert all_finite(predictions(it.learner, it.trained, seen)), 'zero-shot predictions not finite'
  gradient = jax.grad(lambda p: it.learner.loss(p, seen, jax.random.key(5))[0])(it.trained)
  assert all_finite(gradient), 'zero-shot gradient is not finite'


def spoil(choices: Choices) -> Choices:
  """Puts NaN and an impossible choice into every masked entry."""
  mask = choices.candidates.mask & choices.mask[:, None]
  features = jnp.where(mask[..., None], choices.candidates.features, jnp.nan)
  choice = jnp.where(choices.mask, choices.choice, 10**6)
  return Choices(choices.candidates._replace(features=features), choice, choices.mask)


def check_masked_nan_reaches_nothing(it: Subject) -> None:
  """6: whatever stands in masked entries reaches neither value nor gradient."""
  seen = first(it.tasks)
  half = seen._replace(
    support=task.with_shots(seen.support, 4), query=task.with_shots(seen.query, 9)
  )
  spoiled = half._replace(support=spoil(half.support), query=spoil(half.query))
  loss = jax.value_and_grad(lambda p, t: it.learner.loss(p, t, jax.random.key(6))[0])
  clean, dirty = loss(it.trained, half), loss(it.trained, spoiled)
  assert all_finite(dirty), 'NaN in masked entries reaches the loss or its gradient'
  same(dirty[0], clean[0], 'masked entries change the loss')
  difference = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), clean[1], dirty[1])
  worst = max(map(float, jax.tree.leaves(difference)))
  assert worst < 1e-3, f'masked entries change the gradient by {worst:.2g}'


def check_jit_and_vmap_agree(it: Subject) -> None:
  """7: jit changes nothing, and vmap over users equals a loop."""
  few = task.take(it.tasks, jnp.arange(3))
  batched = jax.jit(jax.vmap(lambda seen: predictions(it.learner, it.trained, seen)))(few)
  for i in range(3):
    alone = predictions(it.learner, it.trained, task.take(few, jnp.asarray(i)))
    same(batched[i], alone, 'vmap under jit differs from a loop without', tolerance=1e-3)


def check_gradient_reaches_parameters(it: Subject) -> None:
  """8: the loss's gradient is finite, and non-zero somewhere in every top-level parameter."""
  few = task.take(it.tasks, jnp.arange(8))
  few = few._replace(user=jnp.arange(8))  # known users, for learners with a table

  def loss(params):
    return jax.vmap(lambda seen: it.learner.loss(params, seen, jax.random.key(7))[0])(few).mean()

  gradient = jax.grad(loss)(it.start)
  assert all_finite(gradient), 'the gradient is not finite'
  for name, part in gradient.items():
    moved = any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(part))
    expected = name not in it.excused.constant and bool(jax.tree.leaves(part))
    assert moved == expected, f'gradient of {name!r} is {"non-" if moved else ""}zero'


def check_finite_differences(it: Subject) -> None:
  """9: the directional derivative of the loss equals central differences in float64."""
  if not it.excused.exact_gradient:
    return
  with jax.enable_x64(True):
    params, seen = jax.tree.map(
      lambda x: jnp.asarray(x, jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x,
      (it.trained, first(it.tasks)),
    )
    keys = jax.random.split(jax.random.key(8), len(jax.tree.leaves(params)))
    draws = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, jax.tree.leaves(params))]
    direction = jax.tree.unflatten(jax.tree.structure(params), draws)

    def along(t):
      moved = jax.tree.map(lambda p, d: p + t * d, params, direction)
      return it.learner.loss(moved, seen, jax.random.key(9))[0]

    step = 1e-5
    derivative = float(jax.grad(along)(0.0))
    difference = float(along(step) - along(-step)) / (2 * step)
  assert np.isclose(derivative, difference, rtol=1e-4, atol=1e-6), (
    f'derivative {derivative:.8g}, finite difference {difference:.8g}'
  )


def mean_query(it: Subject, params: Params, shots: int) -> tuple[float, float]:
  """Returns mean NLL (nats) and accuracy on the held-out tasks after `shots` comparisons."""

  def one(seen):
    log_p = predictions(
      it.learner, params, seen._replace(support=task.with_shots(seen.support, shots))
    )
    return choice_model.nll(log_p, seen.query), choice_model.accuracy(log_p, seen.query)

  nll, accuracy = jax.jit(jax.vmap(one))(it.tasks)
  return float(nll.mean()), float(accuracy.mean())


def check_training_learns(it: Subject) -> None:
  """10: a short training lowers NLL, and with it 8 shots beat 0."""
  before, after = mean_query(it, it.start, 8)[0], mean_query(it, it.trained, 8)[0]
  assert after < before, f'training raised the 8-shot NLL from {before:.3f} to {after:.3f}'
  if it.excused.adapts:
    zero, eight = mean_query(it, it.trained, 0)[1], mean_query(it, it.trained, 8)[1]
    assert eight > zero + 0.05, f'8 shots give accuracy {eight:.3f}, 0 shots {zero:.3f}'


def check_same_key_same_bits(it: Subject) -> None:
  """11: everything random comes from the key."""
  again = it.learner.init(jax.random.key(0))
  for a, b in zip(jax.tree.leaves(it.start), jax.tree.leaves(again), strict=True):
    assert jnp.array_equal(a, b), 'init gives other parameters for the same key'
  seen = first(it.tasks)
  same(
    predictions(it.learner, it.trained, seen),
    predictions(it.learner, it.trained, seen),
    'predictions differ for the same key',
    tolerance=0.0,
  )


def check_candidates_permute(it: Subject) -> None:
  """13: permuting the candidates permutes the probabilities; in the support, changes nothing."""
  seen = first(it.wide)
  order = jnp.array([2, 0, 1])
  inverse = jnp.argsort(order)
  moved = Choices(
    task.Candidates(
      seen.support.candidates.features[:, order], seen.support.candidates.mask[:, order]
    ),
    inverse[seen.support.choice],
    seen.support.mask,
  )
  query = seen.query.candidates
  query = task.Candidates(query.features[:, order], query.mask[:, order])
  permuted = seen._replace(support=moved, query=seen.query._replace(candidates=query))
  same(
    predictions(it.learner, it.trained, permuted),
    predictions(it.learner, it.trained, seen)[:, order],
    'permuting candidates does not permute probabilities',
  )


def check_flipped_labels_flip_the_taste(it: Subject) -> None:
  """14: with every support label flipped, predictions move the other way."""
  if not it.excused.adapts:
    return

  def shift(seen):
    flipped = seen.support._replace(choice=1 - seen.support.choice)
    none = task.with_shots(seen.support, 0)
    plain, other, neutral = (
      predictions(it.learner, it.trained, seen._replace(support=support))[:, 0]
      for support in (seen.support, flipped, none)
    )
    return jnp.exp(plain) - jnp.exp(neutral), jnp.exp(other) - jnp.exp(neutral)

  plain, other = jax.jit(jax.vmap(shift))(it.tasks)
  agreement = float(jnp.sum(plain * other))
  assert agreement < 0, f'flipping the support moves predictions the same way ({agreement:.3g})'


CHECKS: tuple[Callable[[Subject], None], ...] = (
  check_state_shapes_do_not_depend_on_data,
  check_probabilities_sum_to_one,
  check_padding_changes_nothing,
  check_order_changes_nothing,
  check_empty_support_is_finite,
  check_masked_nan_reaches_nothing,
  check_jit_and_vmap_agree,
  check_gradient_reaches_parameters,
  check_finite_differences,
  check_training_learns,
  check_same_key_same_bits,
  check_candidates_permute,
  check_flipped_labels_flip_the_taste,
)


def check(learner: MetaLearner, excused: Exceptions = Exceptions()) -> None:  # noqa: B008
  """Runs every check on a learner built for 4 features (and 64 known users).

  Args:
    learner: built with num_features=4.
    excused: what it is excused from.

  Raises:
    AssertionError: naming the check that failed, and by how much.
  """
  it = subject(learner, excused)
  for claim in CHECKS:
    try:
      claim(it)
    except AssertionError as error:
      raise AssertionError(f'{claim.__name__}: {error}') from error
