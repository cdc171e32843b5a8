"""Cues that tell the chosen candidate are found where planted; shared taste is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.evaluation.leaks import cue_checks, text_checks
from metapers.evaluation.leaks.cue_checks import Offers
from metapers.populations import choice_rules

KNOWN, UNKNOWN = True, False


def offers(*, num_features=6, num_candidates=2, taste=UNKNOWN, count=600, seed=0):
  """Random choices of random candidates."""
  rng = np.random.default_rng(seed)
  features = rng.standard_normal((count, num_candidates, num_features)).astype(np.float32)
  choice = rng.integers(num_candidates, size=count)
  mask = np.ones(features.shape[:2], bool)
  return Offers(features, mask, choice, rng.random(count) < 0.8 if taste else None)


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


@pytest.mark.parametrize('taste', [KNOWN, UNKNOWN])
@pytest.mark.parametrize(
  ('value', 'told'),
  [
    (9.0, 'the value of feature 2'),
    (0.0, 'a zero in feature 2'),
    (1.0, 'a whole number in feature 2'),
    (np.nan, 'a missing value in feature 2'),
    (np.inf, 'a missing value in feature 2'),
  ],
)
def test_a_marked_feature_is_found(value, told, taste):
  for chosen in (True, False):
    found = cue_checks.form('test', mark(offers(taste=taste), value, chosen=chosen))
    assert any(leak.told.startswith(f'{told} tells the chosen') for leak in found)


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
  assert any(leak.told.startswith('the number of zeros') for leak in found)


@pytest.mark.parametrize('num_features', [24, 900])
def test_a_direction_that_no_single_feature_shows_is_found(num_features):
  shown = offers(num_features=num_features)
  direction = np.random.default_rng(1).choice([-1.0, 1.0], num_features)
  places = np.arange(2) == shown.choice[:, None]
  shift = np.where(places[..., None], 1.5, 0) * direction
  [leak] = cue_checks.form('test', shown._replace(features=shown.features + shift))
  assert leak.told.startswith('a linear function')


def test_a_feature_that_the_mean_taste_explains_is_no_cue_unless_one_threshold_parts_all():
  rng = np.random.default_rng(0)
  shown = offers()._replace(taste=np.ones(600, bool))
  level = 3 * rng.standard_normal((600, 1))  # of the prompt
  taste = level + np.where(np.arange(2) == shown.choice[:, None], 1, -1)
  features = np.where(np.arange(6) == 2, taste[..., None], shown.features)
  assert cue_checks.form('test', shown._replace(features=features)) == []
  assert cue_checks.form('test', shown._replace(features=features, taste=None))
  assert cue_checks.form('test', shown._replace(features=np.sign(features - level[..., None])))


@pytest.mark.parametrize('num_candidates', [2, 3])
def test_a_place_that_is_chosen_more_often_is_found(num_candidates):
  shown = offers(num_candidates=num_candidates, count=3000)
  pushed = np.where(np.random.default_rng(1).random(3000) < 0.2, 0, shown.choice)
  assert cue_checks.position('test', shown) == []
  assert cue_checks.position('test', shown._replace(choice=pushed))[0].told.startswith('place 0')


def test_places_are_compared_with_how_often_they_are_real():
  rng = np.random.default_rng(0)
  shown = offers(num_candidates=3, count=3000)
  mask = shown.mask & ((rng.random(3000) < 0.5)[:, None] | (np.arange(3) < 2))
  fair = rng.integers(mask.sum(-1))
  assert cue_checks.position('test', shown._replace(mask=mask, choice=fair)) == []
  told = cue_checks.position(
    'test', shown._replace(mask=mask, choice=np.where(mask[:, 2], 2, fair))
  )
  assert told[0].told.startswith('place 0') and len(told) == 3


def test_best_and_worst_stand_in_random_order():
  slate, every = jnp.arange(8.0), jnp.ones(8, bool)

  def shown(key):
    rule = {'pair_rule': 'extreme', 'num_candidates': 2}
    return choice_rules.draw_shown(key, slate[:, None], slate, every, **rule)[0][:2]

  drawn = jax.jit(jax.vmap(shown))(jax.random.split(jax.random.key(0), 20_000))
  features = np.asarray(drawn, np.float32)[..., None]
  pairs = Offers(features, np.ones((20_000, 2), bool), features[..., 0].argmax(1), None)
  assert cue_checks.position('test', pairs) == []


PLAIN = [f'A reply of its own, number {n}, with {"so " * (n % 7)}many words.' for n in range(60)]
OTHER = [f'Another reply, number {n}, that is {"very " * (n % 5)}short.' for n in range(60)]


def test_texts_written_alike_have_no_cue():
  assert text_checks.texts_tell(PLAIN, OTHER[::-1], ['Why?'] * 60) == []


@pytest.mark.parametrize(
  ('spoil', 'told'),
  [
    (lambda text: str([text, 'another']), 'marks of a list'),
    (lambda text: f'user: why?\n\nassistant: {[text, text]}', 'marks of a list'),
    (lambda text: f'"{text}"', 'a quote or bracket at the start'),
    (lambda text: text[: len(text) // 2 * 2], 'an odd number of characters'),
    (lambda text: f'{text}</s>', 'marks of a chat template'),
    (lambda text: f' {text}', 'white space at the start'),
    (lambda text: f'Why? {text}', 'the prompt'),
  ],
)
def test_a_form_of_one_side_is_found(spoil, told):
  odd = [text if len(text) % 2 else text + '.' for text in OTHER]
  found = text_checks.texts_tell(odd, [spoil(text) for text in PLAIN], ['Why?'] * 60)
  assert any(leak.told.startswith(told) for leak in found)
  assert any(
    leak.told.startswith(told)
    for leak in text_checks.texts_tell([spoil(text) for text in PLAIN], odd, ['Why?'] * 60)
  )


def test_texts_must_come_in_pairs():
  with pytest.raises(ValueError, match='2 chosen texts, 1 rejected ones and 2 prompts'):
    text_checks.texts_tell(['a', 'b'], ['c'])
