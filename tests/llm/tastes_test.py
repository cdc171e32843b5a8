"""Users with weights of axes, and train tasks that deal their comparisons out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core.population import SEEN
from metapers.llm import tastes, text_users

USERS = tastes.tastes(
  num_users=40, num_pairs=12, num_held_out=30, num_support=4, num_query=6, seed=0
)


def test_choices_follow_the_weights_and_styles_are_those_of_the_words():
  support = USERS['train'].support
  np.testing.assert_array_equal(tastes.styles_of(support.responses), support.styles)
  gap = jnp.einsum('ua,unka->unk', USERS['train'].weights, support.styles)
  chance = np.asarray(jax.nn.softmax(gap))[..., 1]
  chosen = np.asarray(support.choice)
  assert abs(np.mean(chosen - chance)) < 0.05
  assert np.mean(chosen[chance > 0.8]) > 0.85 and np.mean(chosen[chance < 0.2]) < 0.15
  worth = tastes.utilities(USERS['train'].weights, support.responses)
  np.testing.assert_allclose(worth, gap, atol=1e-4)


def test_questions_of_splits_are_apart():
  asked = {name: set(np.ravel(given.query.prompts)) for name, given in USERS.items()}
  trained = set(np.ravel(USERS['train'].support.prompts))
  assert not trained & asked['test'] and not asked['validation'] & asked['test']
  assert asked['train'] == set() and USERS[SEEN].support.choice.shape == (40, 4)


def featurise(prompts, responses):
  return tastes.styles_of(responses)[..., :2]


def population(num_support=4, num_query=8):
  splits = {
    name: tastes.split_of(given, featurise, np.arange(len(given.weights)))
    for name, given in USERS.items()
  }
  return splits, text_users.text_users(
    splits, num_support=num_support, num_query=num_query, source='x'
  )


def test_a_train_task_deals_out_different_comparisons_of_one_user():
  splits, made = population()
  keys = jax.random.split(jax.random.key(0), 20)
  drawn, _ = jax.vmap(lambda key: made.sample_episode(made.arrays, key, 'train'))(keys)
  assert drawn.support.choice.shape == (20, 4) and drawn.query.choice.shape == (20, 8)
  both = jnp.concatenate([drawn.support.candidates.features, drawn.query.candidates.features], 1)
  known = splits['train'].tasks.support.candidates.features
  for features, user in zip(np.asarray(both), np.asarray(drawn.user)):
    own = np.asarray(known[user]).reshape(12, -1)
    assert sorted(map(tuple, features.reshape(12, -1))) == sorted(map(tuple, own))
  assert made.spec.num_features == 2 and made.spec.num_support == 4


def test_sizes_that_do_not_fit_are_refused():
  for sizes in ({'num_support': 3}, {'num_query': 9}):
    with pytest.raises(ValueError, match='num_support must be'):
      population(**sizes)
  with pytest.raises(ValueError, match='num_users'):
    tastes.tastes(num_users=0, num_pairs=1)
