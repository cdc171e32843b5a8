"""The claims of the contract about shapes, masks, weights and transformations; see `contract`."""

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import choice_model, task
from metapers.core.task import Candidates, Choices, Task
from metapers.core.types import Params
from metapers.testing.subject import (
  Subject,
  all_finite,
  assert_near,
  assert_same,
  first,
  quick_jit,
  same_bits,
  take_comparisons,
)

PADDED = 13  # comparisons of a support that is padded
HALF = 4  # comparisons of the 8 of a support that some checks keep


def state_shapes_do_not_depend_on_data(it: Subject) -> None:
  """1: user states of any support, of N = 0 as well, have the same structure, shapes and dtypes."""
  episode = first(it.tasks)
  padded = task.pad_to(episode.support, PADDED)
  empty = jax.tree.map(lambda x: x[:0], episode.support)
  *shapes, of_nothing = [
    jax.eval_shape(it.learner.adapt, it.start, support, episode.context, jax.random.key(0))
    for support in (episode.support, padded, empty)
  ]
  for (path, leaf), longer in zip(jax.tree.leaves_with_path(shapes[0]), jax.tree.leaves(shapes[1])):
    assert leaf.shape == longer.shape, (
      f'user_state{jax.tree_util.keystr(path)} is {leaf.shape}, and {longer.shape} when the '
      f'support is padded to {PADDED}: sum over N, or keep a fixed capacity'
    )
  assert shapes[0] == shapes[1] == of_nothing, f'user states differ in form: {shapes}, {of_nothing}'


def probabilities_sum_to_one(it: Subject) -> None:
  """2: exp(predict) sums to 1 over real candidates and is 0 on masked ones, for K = 2 and 3."""
  for tasks in (it.tasks, it.wide):
    candidates = tasks.query.candidates
    mask = candidates.mask.copy()
    mask[:, 0, -1] = False
    candidates = candidates._replace(mask=mask)
    masked = tasks._replace(query=tasks.query._replace(candidates=candidates))
    p = np.exp(it.predictions(it.trained, masked))
    assert np.allclose(p.sum(-1), 1, atol=1e-5), f'probabilities sum to {p.sum(-1)}'
    assert not p[:, 0, -1].any(), f'a masked candidate has probability {p[:, 0, -1].max()}'


def padding_changes_nothing(it: Subject) -> None:
  """3: appending masked comparisons leaves predictions as they are."""
  padded = it.tasks._replace(support=jax.tree.map(pad, it.tasks.support))
  actual, expected = (it.predictions(it.trained, tasks) for tasks in (padded, it.tasks))
  assert_same(actual, expected, 'padding the support changes predictions')


def pad(x: np.ndarray) -> np.ndarray:
  """Returns a part of supports [T, N, ...] with zeros up to N = `PADDED` comparisons."""
  return np.pad(x, [(0, 0), (0, PADDED - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])


def order_changes_nothing(it: Subject) -> None:
  """4: the support is a set."""
  if it.excused.order_matters:
    return
  size = it.tasks.support.choice.shape[-1]
  order = np.random.default_rng(4).permutation(size).tolist()
  shuffled = it.tasks._replace(support=take_comparisons(it.tasks.support, order, size))
  actual, expected = (it.predictions(it.trained, tasks) for tasks in (shuffled, it.tasks))
  assert_same(actual, expected, 'the order of the support changes predictions')


def empty_support_is_finite(it: Subject) -> None:
  """5: no comparison at all gives finite predictions and a finite gradient."""
  tasks = it.tasks._replace(support=task.with_shots(it.tasks.support, 0))
  assert all_finite(it.predictions(it.trained, tasks)), 'zero-shot predictions are not finite'
  assert all_finite(it.value_and_grad(it.trained, tasks)), 'zero-shot loss or gradient not finite'


def spoil(choices: Choices) -> Choices:
  """Returns the comparisons with NaN and an impossible choice in every masked entry."""
  mask = np.asarray(choices.candidates.mask & choices.mask[..., None])
  features = np.where(mask[..., None], choices.candidates.features, np.float32(np.nan))
  return choices._replace(
    candidates=choices.candidates._replace(features=features),
    choice=np.where(choices.mask, choices.choice, np.int32(10**6)),
    weight=np.where(choices.mask, choices.weight, np.float32(np.nan)),
  )


def masked_nan_reaches_nothing(it: Subject) -> None:
  """6: whatever stands in masked entries reaches neither value nor gradient."""
  parts = task.with_shots(it.tasks.support, HALF), task.with_shots(it.tasks.query, 9)
  clean, dirty = (
    it.value_and_grad(it.trained, it.tasks._replace(support=support, query=query))
    for support, query in (parts, map(spoil, parts))
  )
  assert all_finite(dirty), 'NaN in masked entries reaches the loss or its gradient'
  assert_near(dirty, clean, 'masked entries change the loss or its gradient')


def jit_and_vmap_change_nothing(it: Subject) -> None:
  """7: jit with vmap over users gives what one user alone gets without jit."""
  batched = it.predictions(it.trained, it.tasks)[0]
  assert_same(batched, it.alone()[1], 'jit or vmap over users changes predictions', tolerance=1e-3)


def candidates_permute(it: Subject) -> None:
  """13: permuting the candidates permutes the probabilities; in the support, changes nothing."""
  order = np.array([2, 0, 1])
  support, query = (
    part._replace(candidates=Candidates(*(x[:, :, order] for x in part.candidates)))
    for part in (it.wide.support, it.wide.query)
  )
  support = support._replace(choice=np.argsort(order)[support.choice].astype(np.int32))
  actual = it.predictions(it.trained, it.wide._replace(support=support, query=query))
  expected = np.asarray(it.predictions(it.trained, it.wide))[:, :, order]
  assert_same(actual, expected, 'permuting candidates does not permute probabilities')


def samples_agree_with_predictions(it: Subject) -> None:
  """15: `sample` gives finite utilities [S, N, K] whose mean probabilities are near `predict`'s."""
  state, log_p = it.alone()
  candidates = first(it.tasks).query.candidates
  drawn, mask = it.learner.sample(it.trained, state, candidates), candidates.mask
  assert drawn.ndim == 3 and drawn.shape[1:] == mask.shape, (
    f'sample gives {drawn.shape}; expected [S, N, K] with [N, K] = {mask.shape}'
  )
  assert all_finite(drawn), 'sampled utilities are not finite'
  mean = np.exp(choice_model.mean_probability(drawn, mask))
  gap = float(np.mean(np.abs(mean - np.exp(log_p))))
  assert gap < 0.1, (
    f'probabilities of the draws differ by {gap:.2g} on average from those predicted'
  )


def weight_two_is_the_comparison_twice(it: Subject) -> None:
  """16: a comparison of weight 2 equals two of weight 1, in predictions, loss and gradient."""
  if it.excused.weight:
    weighted = with_weights(it.tasks, {0: 2.0, 1: 2.0}, num_real=HALF)
    repeated = repeat_comparisons(it.tasks)
    assert_agree(it, weighted, repeated, 'weight 2 is not the comparison twice')


def weight_zero_is_a_masked_comparison(it: Subject) -> None:
  """17: a comparison of weight 0 equals a masked one; none that weighs leaves all finite."""
  if not it.excused.weight:
    return
  weightless = with_weights(it.tasks, dict.fromkeys(range(HALF, 16), 0.0), num_real=16)
  masked = with_weights(it.tasks, {}, num_real=HALF)
  assert_agree(it, weightless, masked, 'weight 0 is not a masked comparison')
  nothing = with_weights(it.tasks, dict.fromkeys(range(16), 0.0), num_real=16)
  assert all_finite(it.predictions(it.trained, nothing)), 'weights of 0 give non-finite predictions'
  found = it.value_and_grad(it.trained, nothing)
  assert all_finite(found), 'weights of 0 give a non-finite loss or gradient'


def context_is_accepted(it: Subject) -> None:
  """18: contexts of the width that the learner was built for leave predictions finite."""
  contexts = np.zeros_like(it.tasks.context), 3 * it.tasks.context
  for context in contexts:
    found = it.predictions(it.trained, it.tasks._replace(context=context))
    assert all_finite(found), f'contexts {context[0]} give non-finite predictions'


def start_and_prepare_keep_forms(it: Subject) -> None:
  """19: `start` and `prepare` change neither the structure of parameters nor shapes nor dtypes."""
  forms = [jax.tree.map(form, params) for params in (it.initial, it.start, it.trained)]
  for name, before, after in zip(('start', 'prepare'), forms, forms[1:]):
    assert jax.tree.structure(before) == jax.tree.structure(after), (
      f'{name} turns {jax.tree.structure(before)} into {jax.tree.structure(after)}'
    )
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after)):
      where = jax.tree_util.keystr(path)
      assert old == new, f'{name} turns params{where} from {old} into {new}'


def form(x: jax.Array) -> str:
  """Returns shape and dtype of a leaf, such as 'float32[3,4]'."""
  return f'{jnp.result_type(x)}{list(jnp.shape(x))}'


def update_equals_adapt(it: Subject) -> None:
  """20: where given, `update` by one comparison after another equals `adapt` to all of them."""
  if it.learner.update is None:
    return
  episode, key = first(it.tasks), jax.random.key(1)
  update, adapt = quick_jit(it.learner.update), quick_jit(it.learner.adapt)
  state = adapt(it.trained, task.with_shots(episode.support, 0), episode.context, key)
  for n in range(episode.support.choice.size):
    comparison = jax.tree.map(lambda x, n=n: x[n : n + 1], episode.support)
    state = update(it.trained, state, comparison, episode.context, key)
    masked = spoil(task.with_shots(comparison, 0))
    unchanged = update(it.trained, state, masked, episode.context, key)
    assert same_bits(state, unchanged), 'update by a masked comparison changes the user state'
  expected = adapt(it.trained, episode.support, episode.context, key)
  assert_near(state, expected, 'update is not adapt: user_state')


def with_weights(tasks: Task, weights: dict[int, float], *, num_real: int) -> Task:
  """Returns the tasks with other weights of some comparisons, of which the first are real."""

  def reweighted(choices):
    values = [weights.get(n, 1.0) for n in range(choices.choice.shape[-1])]
    weight = np.broadcast_to(np.asarray(values, np.float32), choices.weight.shape)
    return task.with_shots(choices, num_real)._replace(weight=weight)

  return tasks._replace(support=reweighted(tasks.support), query=reweighted(tasks.query))


def repeat_comparisons(tasks: Task) -> Task:
  """Returns the tasks with the first `HALF` comparisons, the first two of them twice, real."""

  def repeated(choices):
    size = choices.choice.shape[-1]
    index = [*range(HALF), 0, 1] + [0] * (size - HALF - 2)
    return take_comparisons(choices, index, HALF + 2)

  return tasks._replace(support=repeated(tasks.support), query=repeated(tasks.query))


def assert_agree(it: Subject, actual: Task, expected: Task, claim: str) -> None:
  """Asserts that two batches of tasks give the same predictions (of `it.tasks`), loss and gradient.

  Raises:
    AssertionError: naming the claim and what differs.
  """
  shown, wanted = (
    it.predictions(it.trained, it.tasks._replace(support=tasks.support))
    for tasks in (actual, expected)
  )
  assert_same(shown, wanted, claim)
  value, other = (loss_and_gradient(it, tasks) for tasks in (actual, expected))
  assert_near(value, other, claim, tolerance=1e-3)


def loss_and_gradient(it: Subject, tasks: Task) -> Params:
  """Returns the mean loss and its gradient by name, in units of the gradient's largest value."""
  value, gradient = it.value_and_grad(it.trained, tasks)
  gradient = jax.device_get(gradient)
  largest = max((np.max(np.abs(x)) for x in jax.tree.leaves(gradient)), default=1.0)
  return {'loss': value, 'gradient': jax.tree.map(lambda x: x / max(largest, 1e-6), gradient)}
