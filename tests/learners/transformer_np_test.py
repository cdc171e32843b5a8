import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers import learners
from metapers.core import task
from metapers.populations import toy

SMALL = {
  'num_features': 3, 'width': 4, 'hidden': 4, 'num_layers': 1, 'num_heads': 2, 'num_slots': 3,
}  # fmt: skip


@pytest.fixture(scope='module', params=[True, False], ids=['odd', 'beside'])
def subject(request):
  learner = learners.make('transformer_np', **SMALL, odd=request.param)
  params = learner.init(jax.random.key(0))
  adapt = jax.jit(lambda support: learner.adapt(params, support, None, jax.random.key(1)))
  score = jax.jit(lambda state, candidates: learner.score(params, state, candidates))
  population = toy.two_types(num_features=3, num_support=4, num_query=5, num_candidates=3)
  return adapt, score, population.episode_of((), jnp.asarray(0), 'train')[0]


def test_the_state_is_slots_whatever_the_support(subject):
  adapt, _, given = subject
  longer = task.pad_to(given.support, 9)
  np.testing.assert_allclose(adapt(given.support), adapt(longer), rtol=1e-4, atol=1e-5)
  assert adapt(given.support).shape == (3, 4)


def test_weight_two_is_two_copies_among_three_candidates(subject):
  adapt, _, given = subject
  weighted = given.support._replace(weight=jnp.array([2.0, 1.0, 0.0, 0.0]))
  copies = task.take(given.support, jnp.array([0, 1, 0]))
  np.testing.assert_allclose(adapt(weighted), adapt(copies), rtol=1e-4, atol=1e-5)
  once = task.take(given.support, jnp.array([0, 1, 2]))._replace(weight=jnp.array([1.0, 1, 0]))
  assert not np.allclose(adapt(weighted), adapt(once), atol=1e-4)


def test_what_is_masked_changes_nothing(subject):
  adapt, score, given = subject
  kept = task.with_shots(given.support, 2)
  features = kept.candidates.features
  other = kept._replace(
    candidates=kept.candidates._replace(features=features.at[2:].set(jnp.nan)),
    choice=kept.choice.at[2:].set(0),
    weight=kept.weight.at[2:].set(5.0),
  )
  np.testing.assert_array_equal(adapt(kept), adapt(other))
  scores = score(adapt(kept), given.query.candidates)
  hidden = given.query.candidates
  hidden = hidden._replace(
    features=hidden.features.at[:, 2].set(jnp.nan), mask=hidden.mask.at[:, 2].set(False)
  )
  np.testing.assert_allclose(score(adapt(kept), hidden)[:, :2], scores[:, :2], rtol=1e-5)


def test_candidates_are_scored_one_by_one(subject):
  adapt, score, given = subject
  state, candidates = adapt(given.support), given.query.candidates
  together = score(state, candidates)
  alone = jnp.concatenate([score(state, task.take(candidates, jnp.array([n]))) for n in range(5)])
  assert together.shape == (5, 3)
  np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_an_empty_support_is_the_neutral_token(subject):
  adapt, _, given = subject
  nothing = task.with_shots(given.support, 0)
  assert np.isfinite(adapt(nothing)).all()
  assert not np.allclose(adapt(nothing), adapt(given.support), atol=1e-3)
