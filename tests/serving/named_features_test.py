"""Features with names are matched by name, in any order, from people's tables to a served model."""

import functools

import jax
import numpy as np
import pandas as pd
import pytest

from metapers.core import population
from metapers.data import comparisons
from metapers.io import leaves
from metapers.learners import make
from metapers.populations import people
from metapers.serving import exports
from metapers.serving.personalizer import Comparisons, Personalizer, pairs

NAMES = ('age', 'price', 'size')
ROWS = pd.DataFrame(np.random.default_rng(0).normal(size=(6, 3)), columns=list(NAMES))
TURNED = ROWS[['size', 'age', 'price']]


@functools.cache
def served(names=NAMES):
  params = leaves.named(make('latent_np', num_features=3).init(jax.random.key(0)))
  given = exports.Export('latent_np', {'num_features': 3}, params, 2, population.unscaled(3), names)
  return Personalizer(given)


@pytest.mark.parametrize('frame', [ROWS, TURNED])
def test_columns_in_any_order_give_what_an_array_in_order_gives(frame):
  array, model = ROWS.to_numpy(), served()
  by_array = model.adapt(pairs(array[:3], array[3:]))
  by_name = model.adapt(pairs(frame[:3], TURNED[3:]))
  np.testing.assert_array_equal(by_name.history.features, by_array.history.features)
  for call in (
    lambda x: model.score(by_array, x),
    lambda x: model.best_of(by_array, x),
    lambda x: model.probability(by_array, x[:3], x[3:]),
    lambda x: model.uncertainty(by_array, x[:3], x[3:]),
  ):
    np.testing.assert_array_equal(call(frame), call(array))


def test_a_row_of_a_frame_keeps_its_names():
  model = served()
  one = model.adapt(pairs(ROWS.to_numpy()[0], ROWS.to_numpy()[1]))
  assert model.score(one, TURNED.iloc[2]) == model.score(one, ROWS.to_numpy()[2])


@pytest.mark.parametrize(
  ('frame', 'message'),
  [
    (ROWS.drop(columns='age'), r"missing \['age'\], not known or repeated \[\]"),
    (ROWS.assign(colour=1.0), r"missing \[\], not known or repeated \['colour'\]"),
    (ROWS.rename(columns={'age': 'Age'}), r"missing \['age'\], not known or repeated \['Age'\]"),
  ],
)
def test_other_names_are_refused(frame, message):
  model = served()
  profile = model.adapt()
  with pytest.raises(ValueError, match=message):
    model.score(profile, frame)
  with pytest.raises(ValueError, match=message):
    model.update(profile, pairs(frame[:3], frame[3:]))


def test_names_need_a_model_that_has_them():
  with pytest.raises(ValueError, match='there are none to match them with'):
    served(()).adapt(pairs(ROWS[:3], ROWS[3:]))
  with pytest.raises(ValueError, match='matched by name'):
    pairs(ROWS[:3], ROWS[3:].drop(columns='age'))


def test_a_model_of_people_knows_their_columns_and_on_how_many_it_was_trained(tmp_path):
  rng = np.random.default_rng(0)
  items = ROWS.assign(item_id=list('abcdef'), text='x')[['text', *NAMES, 'item_id']]
  items.to_csv(tmp_path / 'items.csv', index=False)
  picks = [rng.permutation(list('abcdef'))[:2] for _ in range(120)]
  rows = pd.DataFrame(picks, columns=['chosen', 'rejected']).assign(user_id=np.arange(120) % 12)
  rows.to_csv(tmp_path / 'comparisons.csv', index=False)
  histories = comparisons.load_comparisons(str(tmp_path))
  made = people.people(histories, num_support=4, num_query=5)
  assert histories.feature_names == made.spec.feature_names == NAMES
  params = make('latent_np', num_features=3).init(jax.random.key(0))
  export = exports.export_of('latent_np', {}, params, made, about='')
  num = made.spec.num_users
  assert 0 < num < 12 and f', {num} of its 12 people' in exports.trained_in_words(export)


@pytest.mark.parametrize('size', [2, 3])
def test_a_choice_between_equals_is_refused(size):
  model = served()
  features = np.repeat(ROWS.to_numpy()[:4, None], size, 1)
  features[:3, 1:] += 1.0
  shown = np.ones((4, size), bool)
  with pytest.raises(ValueError, match=r'comparison \[3\] was chosen among candidates'):
    model.adapt(Comparisons(features[:, :2], np.zeros(4, int), shown=shown[:, :2]))
  shown[3] = False
  model.adapt(Comparisons(features[:, :2], np.zeros(4, int), shown=shown[:, :2]))
