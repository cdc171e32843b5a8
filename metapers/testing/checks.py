"""The claims of the contract about shapes, masks and transformations; see `contract`."""

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import choice_model, task
from metapers.core.task import Candidates, Choices
from metapers.testing.subject import Subject, all_finite, first, predictions, same


def state_shapes_do_not_depend_on_data(it: Subject) -> None:
  """1: user states of any support have the same structure, shapes and dtypes."""
  seen = first(it.tasks)
  supports = (seen.support, task.with_shots(seen.support, 0), task.pad_to(seen.support, 11))
  shapes = [
    jax.eval_shape(it.learner.adapt, it.start, support, seen.context, jax.random.key(0))
    for support in supports
  ]
  named = jax.tree.leaves_with_path(shapes[0])
  for (path, leaf), longer in zip(named, jax.tree.leaves(shapes[2])):
    assert leaf.shape == longer.shape, (
      f'user_state{jax.tree_util.keystr(path)} is {leaf.shape}, and {longer.shape} when the '
      'support is padded to 11: sum over N, or keep a fixed capacity'
    )
  assert shapes[0] == shapes[1] == shapes[2], f'user states differ in form: {shapes}'


def probabilities_sum_to_one(it: Subject) -> None:
  """2: exp(predict) sums to 1 over real candidates and is 0 on masked ones, for K = 2 and 3."""
  for tasks in (it.tasks, it.wide):
    seen = first(tasks)
    mask = seen.query.candidates.mask.at[0, -1].set(False)
    candidates = seen.query.candidates._replace(mask=mask)
    seen = seen._replace(query=seen.query._replace(candidates=candidates))
    p = np.exp(it.predictions(it.trained, seen))
    assert np.allclose(p.sum(-1), 1, atol=1e-5), f'probabilities sum to {p.sum(-1)}'
    assert p[0, -1] == 0, f'a masked candidate has probability {p[0, -1]}'


def padding_changes_nothing(it: Subject) -> None:
  """3: appending masked comparisons leaves predictions as they are."""
  seen = first(it.tasks)
  padded = seen._replace(support=task.pad_to(seen.support, 13))
  actual, expected = it.predictions(it.trained, padded), it.predictions(it.trained, seen)
  same(actual, expected, 'padding the support changes predictions')


def order_changes_nothing(it: Subject) -> None:
  """4: the support is a set."""
  if it.excused.order_matters:
    return
  seen = first(it.tasks)
  order = jax.random.permutation(jax.random.key(4), seen.support.choice.size)
  shuffled = seen._replace(support=task.take(seen.support, order))
  actual, expected = it.predictions(it.trained, shuffled), it.predictions(it.trained, seen)
  same(actual, expected, 'the order of the support changes predictions')


def empty_support_is_finite(it: Subject) -> None:
  """5: no comparison at all gives finite predictions and a finite gradient."""
  seen = first(it.tasks)
  seen = seen._replace(support=task.with_shots(seen.support, 0))
  assert all_finite(it.predictions(it.trained, seen)), 'zero-shot predictions are not finite'
  assert all_finite(it.value_and_grad(it.trained, seen)), 'zero-shot loss or gradient not finite'


def spoil(choices: Choices) -> Choices:
  """Puts NaN and an impossible choice into every masked entry."""
  mask = choices.candidates.mask & choices.mask[:, None]
  features = jnp.where(mask[..., None], choices.candidates.features, jnp.nan)
  choice = jnp.where(choices.mask, choices.choice, 10**6)
  return choices._replace(
    candidates=choices.candidates._replace(features=features),
    choice=choice,
    weight=jnp.where(choices.mask, choices.weight, jnp.nan),
  )


def masked_nan_reaches_nothing(it: Subject) -> None:
  """6: whatever stands in masked entries reaches neither value nor gradient."""
  seen = first(it.tasks)
  parts = task.with_shots(seen.support, 4), task.with_shots(seen.query, 9)
  half = seen._replace(support=parts[0], query=parts[1])
  spoiled = seen._replace(support=spoil(parts[0]), query=spoil(parts[1]))
  clean, dirty = (it.value_and_grad(it.trained, given) for given in (half, spoiled))
  assert all_finite(dirty), 'NaN in masked entries reaches the loss or its gradient'
  difference = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), clean, dirty)
  worst = max(map(float, jax.tree.leaves(difference)))
  assert worst < 1e-5, f'masked entries change the loss or its gradient by {worst:.2g}'


def jit_and_vmap_change_nothing(it: Subject) -> None:
  """7: without jit the same, and vmap over users equals a loop."""
  few = task.take(it.tasks, jnp.arange(3))
  batched = jax.vmap(it.predictions, (None, 0))(it.trained, few)
  for i in range(3):
    alone = it.predictions(it.trained, task.take(few, jnp.asarray(i)))
    same(batched[i], alone, 'vmap over users differs from a loop', tolerance=1e-3)
  eager = predictions(it.learner, it.trained, first(few))
  same(eager, batched[0], 'jit differs from no jit', tolerance=1e-3)


def candidates_permute(it: Subject) -> None:
  """13: permuting the candidates permutes the probabilities; in the support, changes nothing."""
  seen = first(it.wide)
  order = jnp.array([2, 0, 1])
  support, query = (
    part._replace(candidates=Candidates(*(x[:, order] for x in part.candidates)))
    for part in (seen.support, seen.query)
  )
  support = support._replace(choice=jnp.argsort(order)[support.choice])
  actual = it.predictions(it.trained, seen._replace(support=support, query=query))
  expected = it.predictions(it.trained, seen)[:, order]
  same(actual, expected, 'permuting candidates does not permute probabilities')


def samples_agree_with_predictions(it: Subject) -> None:
  """15: `sample` gives finite utilities [S, N, K] whose mean probabilities are near `predict`'s."""
  seen = first(it.tasks)
  state = it.learner.adapt(it.trained, seen.support, seen.context, jax.random.key(1))
  drawn = it.learner.sample(it.trained, state, seen.query.candidates)
  mask = seen.query.candidates.mask
  assert drawn.ndim == 3 and drawn.shape[1:] == mask.shape, (
    f'sample gives {drawn.shape}; expected [S, N, K] with [N, K] = {mask.shape}'
  )
  assert all_finite(drawn), 'sampled utilities are not finite'
  mean = jnp.exp(choice_model.mean_probability(drawn, mask))
  gap = float(jnp.mean(jnp.abs(mean - jnp.exp(it.predictions(it.trained, seen)))))
  assert gap < 0.1, f'the draws mean {gap:.2g} more or less than predict'
