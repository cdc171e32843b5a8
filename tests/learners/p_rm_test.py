import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from metapers import learners
from metapers.core import choice_model
from metapers.populations import toy

D, U, KEY = 3, 5, jax.random.key(0)
LINEAR = {'num_features': D, 'num_users': U, 'hidden': (), 'width': 2}


def episode(user=0):
  population = toy.two_types(num_features=D, num_support=5, num_query=6)
  given, _ = population.episode_of((), jnp.asarray(user), 'train')
  return given._replace(user=jnp.asarray(user, jnp.int32))


def made(**options):
  learner = learners.make('p_rm', **LINEAR | options)
  return learner, learner.init(KEY)


def value_and_gradient(learner, params, given):
  return jax.value_and_grad(lambda p: learner.loss(p, given, KEY)[0])(params)


def test_without_the_individual_loss_it_is_a_pooled_model():
  learner, params = made(alpha=0.0)
  pooled = learners.make('pooled', num_features=D, hidden=())
  weights = params['reward']['linear']['kernel'] @ params['users']['generic']
  given = episode()
  whole = given._replace(query=jax.tree.map(lambda a, b: jnp.concatenate([a, b]), *given[:2]))
  expected = pooled.loss({'linear': {'kernel': weights[:, None]}}, whole, KEY)[0]
  value, gradient = value_and_gradient(learner, params, given)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  assert not gradient['users']['offsets'].any()


@pytest.mark.parametrize('alpha', [0.0, 0.3, 1.0])
def test_while_offsets_are_zero_the_two_losses_are_one(alpha):
  learner, params = made(alpha=alpha)
  np.testing.assert_allclose(
    value_and_gradient(learner, params, episode())[0],
    value_and_gradient(*made(alpha=0.5), episode())[0],
    rtol=1e-6,
  )


def test_only_the_row_of_the_user_moves_and_none_of_an_unknown_one():
  learner, params = made()
  moved = value_and_gradient(learner, params, episode(3))[1]['users']['offsets']
  assert moved[3].any() and not moved[jnp.array([0, 1, 2, 4])].any()
  assert not value_and_gradient(learner, params, episode(U))[1]['users']['offsets'].any()


@pytest.mark.parametrize('alpha', [0.0, 0.3, 1.0])
def test_offsets_are_shrunk_by_the_share_of_a_comparison_in_the_individual_loss(alpha):
  def moved(shrinkage):
    learner, params = made(alpha=alpha, shrinkage=shrinkage)
    params['users']['offsets'] = jnp.ones((U, 2))
    return value_and_gradient(learner, params, episode(3))[1]['users']['offsets'][3]

  np.testing.assert_allclose(moved(4.0) - moved(1.0), alpha * 3 / (5 + 6), atol=1e-6)


def test_offsets_are_shrunk_by_weights_of_less_than_one_comparison_all_the_same():
  given = episode(3)
  support, query = (x._replace(weight=jnp.full_like(x.weight, 0.05)) for x in given[:2])

  def penalty(episode):
    learner, params = made(alpha=1.0, shrinkage=2.0)
    params['users']['offsets'] = jnp.ones((U, 2))
    value, metrics = learner.loss(params, episode, KEY)
    return value - metrics['nll']

  found = penalty(given._replace(support=support, query=query))
  np.testing.assert_allclose(found, 0.5 * 2 * 2 / (0.05 * (5 + 6)), rtol=1e-4)


@pytest.mark.parametrize('user_model', ['individual', 'cluster'])
def test_units_that_are_free_do_not_change_the_refit(user_model):
  learner, params = made(user_model=user_model, num_clusters=3)
  users = params['users']
  if user_model == 'individual':  # 4 φ and a quarter of all embeddings are the same model
    users = users | {'offsets': jax.random.normal(jax.random.key(1), (U, 2))}
  else:
    users = users | {'clusters': 4 * users['clusters']}
  reward = jax.tree.map(lambda x: 4 * x, params['reward'])
  apart = jax.tree.map(lambda x: x / 4, users)
  if user_model == 'cluster':
    apart = users | {'clusters': users['clusters'] / 4}
  given = episode()
  found, expected = (
    learner.score(p, learner.adapt(p, given.support, jnp.zeros(0), KEY), given.query.candidates)
    for p in (
      params | {'reward': reward, 'users': apart},
      params | {'users': users},
    )
  )  # fmt: skip
  np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_new_user_is_taken_to_differ_as_the_known_ones_do():
  learner, params = made()
  support = episode().support

  def distance(spread):
    users = params['users'] | {'offsets': jnp.full((U, 2), spread)}
    state = learner.adapt(params | {'users': users}, support, jnp.zeros(0), KEY)
    return float(jnp.linalg.norm(state - params['users']['generic']))

  assert distance(0.0) < 1e-4 < 0.1 * distance(0.1) < 0.1 * distance(2.0)


def test_a_new_user_is_the_mode_of_their_posterior():
  learner, params = made(shrinkage=0.7)
  params['users']['offsets'] = jnp.asarray(np.resize([2.0, -2.0], (U, 2)), jnp.float32)
  support = episode().support
  state = learner.adapt(params, support, jnp.zeros(0), KEY)
  features = np.asarray(support.candidates.features @ params['reward']['linear']['kernel'], float)
  generic = np.asarray(params['users']['generic'], float)

  def energy(offset):
    scores = features @ (generic + offset)
    chosen = np.take_along_axis(scores, np.asarray(support.choice)[:, None], 1)[:, 0]
    return np.sum(np.logaddexp.reduce(scores, 1) - chosen) + 0.35 / 4 * offset @ offset

  expected = generic + scipy.optimize.minimize(energy, np.zeros(2), tol=1e-10).x
  np.testing.assert_allclose(state, expected, atol=1e-4)


@pytest.mark.parametrize('user_model', ['individual', 'cluster', 'uniform'])
def test_without_evidence_or_steps_a_new_user_is_the_generic_one(user_model):
  support = episode().support
  nothing = support._replace(mask=jnp.zeros(5, bool))
  learner, params = made(user_model=user_model)
  without = learner.adapt(params, nothing, jnp.zeros(0), KEY)
  unfitted, _ = made(user_model=user_model, inner_steps=0)
  as_published = unfitted.adapt(params, support, jnp.zeros(0), KEY)
  np.testing.assert_allclose(without, as_published, atol=1e-6)


def test_clusters_are_mixed_and_one_is_uniform():
  learner, params = made(user_model='cluster', num_clusters=2)
  state = learner.adapt(params, episode().support, jnp.zeros(0), KEY)
  shares = np.linalg.solve(params['users']['clusters'].T, state)
  np.testing.assert_allclose(shares.sum(), 1, rtol=1e-4)
  assert (shares > 0).all() and abs(
    shares[0] - jax.nn.softmax(params['users']['logits'][-1])[0]
  ) > 0.01
  learner, params = made(user_model='cluster', num_clusters=1)
  state = learner.adapt(params, episode().support, jnp.zeros(0), KEY)
  np.testing.assert_allclose(state, params['users']['clusters'][0], rtol=1e-6)


def test_the_text_of_a_user_counts_in_both_losses():
  given = episode(U)._replace(context=jnp.array([1.0, -2.0]))  # unknown: both losses are generic
  learner, params = made(num_context=2)
  text = jnp.array([[0.5, 0.1], [0.2, -0.3]])
  moved = params | {'text': text}
  by_hand = params | {
    'users': params['users'] | {'generic': params['users']['generic'] + given.context @ text}
  }
  np.testing.assert_allclose(
    value_and_gradient(learner, moved, given)[0],
    value_and_gradient(learner, by_hand, given)[0],
    rtol=1e-6,
  )
  scores = learner.score(
    moved, learner.adapt(moved, given.support, given.context, KEY), given.query.candidates
  )
  assert np.isfinite(choice_model.log_probs(scores, given.query.candidates.mask)).all()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'alpha': 1.1}, r'alpha must be in \[0, 1\], got 1.1'),
    ({'user_model': 'group'}, "one of individual, cluster, uniform, got 'group'"),
    ({'num_users': 0}, 'this population has none'),
    ({'inner_steps': -1}, 'inner_steps must be at least 0'),
    ({'shrinkage': 0.0}, 'shrinkage'),
  ],
)
def test_impossible_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    made(**options)


def test_text_that_is_not_used_is_not_read():
  sizes = {'num_features': 4, 'num_users': 3}
  learner = learners.make('p_rm', **sizes, num_context=5, use_text=False)
  params = learner.init(jax.random.key(0))
  assert 'text' not in params
  same = learners.make('p_rm', **sizes).init(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, params, same)
