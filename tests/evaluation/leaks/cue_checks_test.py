"""Cues that reveal the chosen candidate are found where planted; shared preference is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import task
from metapers.core.task import Candidates
from metapers.evaluation.leaks import cue_checks
from metapers.evaluation.leaks.cue_checks import Offers
from metapers.populations import choice_rules

KNOWN, UNKNOWN = True, False


def names_of(num_features):
  return tuple(map(str, range(num_features)))


def offers(*, num_features=6, num_candidates=2, preference=UNKNOWN, count=600, seed=0):
  """Random choices of random candidates."""
  rng = np.random.default_rng(seed)
  features = rng.standard_normal((count, num_candidates, num_features)).astype(np.float32)
  choice = rng.integers(num_candidates, size=count)
  mask = np.ones(features.shape[:2], bool)
  as_mean_user = rng.random(count) < 0.8 if preference else None
  return Offers(features, mask, choice, as_mean_user, names_of(num_features))


def mark(shown, values, *, chosen, feature=2):
  """Writes values into one feature of all chosen candidates, or of all others."""
  places = np.arange(shown.mask.shape[1]) == shown.choice[:, None]
  features = shown.features.copy()
  features[..., feature] = np.where(places == chosen, values, features[..., feature])
  return shown._replace(features=features)


@pytest.mark.parametrize('num_candidates', [2, 4])
@pytest.mark.parametrize('seed', range(5))
def test_random_choices_have_no_cue(num_candidates, seed):
  shown = offers(num_candidates=num_candidates, seed=seed)
  assert cue_checks.position('test', shown) == []
  assert cue_checks.form('test', shown) == []


@pytest.mark.parametrize('preference', [KNOWN, UNKNOWN])
@pytest.mark.parametrize(
  ('value', 'cue'),
  [
    (9.0, 'the value of feature 2'),
    (0.0, 'a zero in feature 2'),
    (1.0, 'a whole number in feature 2'),
    (np.nan, 'a missing value in feature 2'),
    (np.inf, 'a missing value in feature 2'),
  ],
)
def test_a_marked_feature_is_found(value, cue, preference):
  for chosen in (True, False):
    found = cue_checks.form('test', mark(offers(preference=preference), value, chosen=chosen))
    assert any(leak.message.startswith(f'{cue} reveals the chosen') for leak in found)


def test_a_mark_in_some_comparisons_is_found():
  shown = offers()
  values = np.where(np.arange(600)[:, None] % 5 == 0, 0.0, shown.features[..., 2])
  assert cue_checks.form('test', mark(shown, values, chosen=False))


def test_the_shape_of_a_vector_is_found_wherever_its_zeros_are():
  shown = offers()
  features = shown.features.copy()
  places = np.random.default_rng(1).integers(6, size=600)
  features[np.arange(600), 1 - shown.choice, places] = 0
  found = cue_checks.form('test', shown._replace(features=features))
  assert any(leak.message.startswith('the number of zeros') for leak in found)


@pytest.mark.parametrize('num_features', [24, 900])
def test_a_direction_that_no_single_feature_shows_is_found(num_features):
  shown = offers(num_features=num_features)
  direction = np.random.default_rng(1).choice([-1.0, 1.0], num_features)
  places = np.arange(2) == shown.choice[:, None]
  shift = np.where(places[..., None], 1.5, 0) * direction
  [leak] = cue_checks.form('test', shown._replace(features=shown.features + shift))
  assert leak.message.startswith('a linear function')


def test_what_the_mean_preference_explains_is_no_cue_unless_one_threshold_separates_all():
  rng = np.random.default_rng(0)
  shown = offers()._replace(as_mean_user=np.ones(600, bool))
  level = 3 * rng.standard_normal((600, 1))  # of the prompt
  utility = level + np.where(np.arange(2) == shown.choice[:, None], 1, -1)
  features = np.where(np.arange(6) == 2, utility[..., None], shown.features)
  assert cue_checks.form('test', shown._replace(features=features)) == []
  assert cue_checks.form('test', shown._replace(features=features, as_mean_user=None))
  assert cue_checks.form('test', shown._replace(features=np.sign(features - level[..., None])))


@pytest.mark.parametrize('num_candidates', [2, 3])
def test_a_place_that_is_chosen_more_often_is_found(num_candidates):
  shown = offers(num_candidates=num_candidates, count=3000)
  pushed = np.where(np.random.default_rng(1).random(3000) < 0.2, 0, shown.choice)
  assert cue_checks.position('test', shown) == []
  assert cue_checks.position('test', shown._replace(choice=pushed))[0].message.startswith('place 0')


def test_places_are_compared_with_how_often_they_are_real():
  rng = np.random.default_rng(0)
  shown = offers(num_candidates=3, count=3000)
  mask = shown.mask & ((rng.random(3000) < 0.5)[:, None] | (np.arange(3) < 2))
  fair = rng.integers(mask.sum(-1))
  assert cue_checks.position('test', shown._replace(mask=mask, choice=fair)) == []
  found = cue_checks.position(
    'test', shown._replace(mask=mask, choice=np.where(mask[:, 2], 2, fair))
  )
  assert found[0].message.startswith('place 0') and len(found) == 3


def test_best_and_worst_stand_in_random_order():
  slate, every = jnp.arange(8.0), jnp.ones(8, bool)

  def shown(key):
    rule = {'pair_rule': 'extreme', 'num_candidates': 2}
    return choice_rules.draw_shown(key, slate[:, None], slate, every, **rule)[0][:2]

  drawn = jax.jit(jax.vmap(shown))(jax.random.split(jax.random.key(0), 20_000))
  features = np.asarray(drawn, np.float32)[..., None]
  pairs = Offers(features, np.ones((20_000, 2), bool), features[..., 0].argmax(1), None, ('0',))
  assert cue_checks.position('test', pairs) == []


def test_several_arrays_of_features_become_one_vector_of_named_columns():
  tokens, scores = jnp.arange(12).reshape(1, 3, 2, 2), jnp.full((1, 3, 2), 0.5)
  candidates = Candidates({'tokens': tokens, 'score': scores}, jnp.ones((1, 3, 2), bool))
  choice, mask = jnp.zeros((1, 3), int), jnp.array([[True, False, True]])
  shown = cue_checks.offers(task.choices(candidates, choice, mask))
  assert shown.names == ('0 of score', '0 of tokens', '1 of tokens')
  np.testing.assert_array_equal(shown.features[1], [[0.5, 8, 9], [0.5, 10, 11]])
  one = candidates._replace(features=scores[..., None])
  assert cue_checks.offers(task.choices(one, choice, mask)).names == ('0',)
