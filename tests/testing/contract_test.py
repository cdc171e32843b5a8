"""Each claim of the contract is broken by some learner, and the contract names it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import meta_learner, task
from metapers.testing import checks, contract, learning_checks

D = 4
UNTRAINED = contract.Exceptions(trained=False)


def contrasts(comparisons):
  """Returns chosen minus other features [N, D] of comparisons of two, zeros where masked."""
  sign = jnp.where(task.chosen_mask(comparisons), 1.0, -1.0)[..., None]
  real = comparisons.candidates.mask & comparisons.mask[:, None]
  return jnp.sum(jnp.where(real[..., None], sign * comparisons.candidates.features, 0), 1)


def init(key):
  return {'direction': 0.1 * jax.random.normal(key, (D,))}


def adapt(params, support, context, key):
  del params, context, key
  return support.weight @ contrasts(support)


def score(params, user_state, candidates):
  return candidates.features @ (params['direction'] + user_state)


def update(params, user_state, comparison, context, key):
  return user_state + adapt(params, comparison, context, key)


def made(**parts):
  """Returns a learner that keeps the contract without training, but for the parts given."""
  return meta_learner.from_adapt_score(**({'init': init, 'adapt': adapt, 'score': score} | parts))


def subject(learner, excused=UNTRAINED, **kwargs):
  return contract.subject(learner, excused, **kwargs)


def test_a_learner_with_nothing_to_train_passes_and_every_claim_prints_a_line(capsys):
  contract.check(made(update=update), UNTRAINED)
  out, err = capsys.readouterr()
  lines = out.splitlines()
  assert f'0/{len(contract.CHECKS)}' in err  # of a bar
  assert len(lines) == 1 + len(contract.CHECKS)
  assert all(line.endswith(' s') for line in lines)
  assert lines[1].startswith('state shapes do not depend on data')


def test_a_claim_that_fails_is_named_and_nothing_is_printed_without_progress(capsys):
  ignorant = made(adapt=lambda params, support, context, key: jnp.zeros(D))
  with pytest.raises(AssertionError, match='training learns: 8 shots give accuracy'):
    contract.check(ignorant, UNTRAINED, progress=False)
  assert capsys.readouterr() == ('', '')


def adapt_without_weights(params, support, context, key):
  return jnp.sum(contrasts(support), 0)


def adapt_counting_real_comparisons(params, support, context, key):
  return adapt(params, support, context, key) / (1 + jnp.sum(support.mask))


@pytest.mark.parametrize('broken', [adapt_without_weights, adapt_counting_real_comparisons])
def test_weights_must_be_honoured_or_excused(broken):
  it = subject(made(adapt=broken))
  with pytest.raises(AssertionError, match='weight 2 is not the comparison twice'):
    checks.weight_two_is_the_comparison_twice(it)
  with pytest.raises(AssertionError, match='weight 0 is not a masked comparison'):
    checks.weight_zero_is_a_masked_comparison(it)
  excused = it._replace(excused=UNTRAINED._replace(weight=False))
  checks.weight_two_is_the_comparison_twice(excused)
  checks.weight_zero_is_a_masked_comparison(excused)


def test_a_loss_must_honour_weights():
  def loss(params, episode, key):
    state = adapt(params, episode.support, episode.context, key)
    scores = score(params, state, episode.query.candidates)
    chosen = jnp.take_along_axis(scores, episode.query.choice[:, None], -1)
    return -jnp.sum(jnp.where(episode.query.mask, chosen[:, 0], 0)), {}

  with pytest.raises(AssertionError, match=r"weight 2 is not the comparison twice: \['loss'\]"):
    checks.weight_two_is_the_comparison_twice(subject(made(loss=loss)))


def test_weights_of_zero_must_leave_gradients_finite():
  def divided(params, support, context, key):
    return params['direction'] * adapt(params, support, context, key) / jnp.sum(support.weight)

  it = subject(made(adapt=divided), contract.Exceptions(num_steps=0))
  with pytest.raises(AssertionError, match='weights of 0 give non-finite'):
    checks.weight_zero_is_a_masked_comparison(it)


def test_update_must_equal_adapt():
  def forgetful(params, user_state, comparison, context, key):
    return 0.9 * user_state + adapt(params, comparison, context, key)

  with pytest.raises(AssertionError, match=r'update is not adapt: user_state.* differ by'):
    checks.update_equals_adapt(subject(made(update=forgetful)))


def test_update_by_a_masked_comparison_must_change_nothing():
  def drifting(params, user_state, comparison, context, key):
    return user_state + 1e-7

  careless = made(update=update)._replace(update=drifting)
  with pytest.raises(AssertionError, match='by a masked comparison changes the user state'):
    checks.update_equals_adapt(subject(careless))


def longer(params, histories, key):
  return {'direction': jnp.append(params['direction'], 0.0)}


def halved(params, histories, key):
  return {'direction': params['direction'].astype(jnp.bfloat16)}


def renamed(params, histories, key):
  return {'course': params['direction']}


@pytest.mark.parametrize('part', ['start', 'prepare'])
@pytest.mark.parametrize(
  ('step', 'message'),
  [
    (longer, r'\[.direction.\] from float32\[4\] into float32\[5\]'),
    (halved, r'\[.direction.\] from float32\[4\] into bfloat16\[4\]'),
    (renamed, 'into .*course'),
  ],
)
def test_start_and_prepare_must_keep_forms(part, step, message):
  with pytest.raises(AssertionError, match=f'{part} turns .*{message}'):
    checks.start_and_prepare_keep_forms(subject(made(**{part: step})))


def test_prepare_is_given_all_that_the_known_users_did():
  found = {}

  def prepare(params, histories, key):
    found['support'] = histories.support.choice.shape
    found['query'] = histories.query.choice.shape
    found['context'] = histories.context.shape
    return params

  subject(made(prepare=prepare), num_context=3)
  assert found == {'support': (64, 24), 'query': (64, 0), 'context': (64, 3)}


def test_a_learner_of_contexts_is_checked_with_contexts_of_its_width():
  def adapt_with_context(params, support, context, key):
    return adapt(params, support, context, key) + 0 * jnp.sum(context.reshape(3))

  it = subject(made(adapt=adapt_with_context), num_context=3)
  checks.context_is_accepted(it)
  assert it.tasks.context.shape == (64, 3)
  assert np.std(it.tasks.context) > 0.5

  def overflowing(params, support, context, key):
    return adapt(params, support, context, key) * jnp.sum(context / context)

  with pytest.raises(AssertionError, match=r'contexts .* give non-finite predictions'):
    checks.context_is_accepted(subject(made(adapt=overflowing), num_context=3))


def test_randomness_of_the_host_is_found():
  rng = np.random.default_rng()

  def restless(params, support, context, key):
    return adapt(params, support, context, key) + rng.normal()

  def hidden(params, support, context, key):
    state = adapt(params, support, context, key)
    held = np.full(state.shape, rng.normal(), np.float32)  # a constant of the inner program
    return jax.jit(lambda state: state + held)(state)

  for adapted in (restless, hidden):
    with pytest.raises(AssertionError, match='adapt draws numbers that do not come from its key'):
      learning_checks.same_key_gives_same_bits(subject(made(adapt=adapted)))


def test_coupled_losses_are_what_is_trained_and_differentiated():
  def batch_loss(params, tasks, keys):
    losses = jax.vmap(made().loss, (None, 0, 0))(params, tasks, keys)[0]
    return jnp.full_like(losses, jnp.max(losses)), {}

  worst, mean = (
    functools.partial(subject, made(**parts), contract.Exceptions(num_steps=0))()
    for parts in ({'batch_loss': batch_loss}, {})
  )
  assert (
    worst.value_and_grad(worst.start, worst.tasks)[0]
    > mean.value_and_grad(mean.start, mean.tasks)[0]
  )
