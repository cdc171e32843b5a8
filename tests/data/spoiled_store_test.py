"""Feature stores on disk: what is written comes back, and what does not fit is refused."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_stores import PROVENANCE, TABLE, texts_of

from metapers.data import feature_store


def test_a_link_out_of_the_store_is_refused(store, tmp_path):
  shutil.move(store / 'features.npy', tmp_path / 'elsewhere.npy')
  (store / 'features.npy').symlink_to(tmp_path / 'elsewhere.npy')
  with pytest.raises(ValueError, match='leads out of the store'):
    feature_store.open_store(store)


def test_pickled_arrays_are_never_loaded(store):
  np.save(store / 'features.npy', np.array([[[{}]]], object), allow_pickle=True)
  with pytest.raises(ValueError, match=r'features\.npy is not a readable'):
    feature_store.open_store(store, verify=False)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'no manifest\.json'):
    feature_store.open_store(tmp_path)
  (tmp_path / 'manifest.json').write_text('{')
  with pytest.raises(ValueError, match='not JSON'):
    feature_store.open_store(tmp_path)


def test_unreadable_texts_are_refused(tmp_path):
  path = feature_store.write_store(tmp_path / 's', TABLE, PROVENANCE, texts=texts_of(TABLE))
  (path / 'texts.parquet').write_bytes(b'nothing')
  with pytest.raises(ValueError, match=r'texts\.parquet'):
    feature_store.open_store(path, verify=False)


@pytest.mark.parametrize(
  'responses', [['one text'] * 30, [None] * 30, [['a'] * 7] * 30, [['a']] * 29 + [['a', 'b']]]
)
def test_texts_of_another_form_are_refused(tmp_path, responses):
  with pytest.raises(ValueError, match='texts'):
    feature_store.write_store(
      tmp_path / 's', TABLE, PROVENANCE, texts=pa.table({'responses': responses})
    )


def test_features_that_are_not_finite_are_refused_unless_masked(tmp_path):
  features, rewards, mask = TABLE.features.copy(), TABLE.rewards.copy(), TABLE.mask.copy()
  features[3, 2, 1] = np.inf
  with pytest.raises(ValueError, match='response 2 of prompt 3 are not finite'):
    feature_store.write_store(tmp_path / 's', TABLE._replace(features=features), PROVENANCE)
  rewards[3, 2], mask[3, 2] = np.nan, False
  table = TABLE._replace(features=features, rewards=rewards, mask=mask)
  assert not feature_store.open_store(
    feature_store.write_store(tmp_path / 's', table, PROVENANCE)
  ).mask[3, 2]


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'features': TABLE.features[:-1]}, 'features has shape'),
    ({'features': TABLE.features.astype(float)}, 'features must have 3 dimensions'),
    ({'rewards': TABLE.rewards.astype(float)}, 'rewards must have 3 dimensions and be float32'),
    ({'reward_models': TABLE.reward_models[:-1]}, 'reward_models names 9'),
    ({'rewards': TABLE.rewards[..., :0]}, 'rewards are empty'),
    ({'prompt_split': np.full(30, 2)}, 'no usable response to a train prompt'),
  ],
)
def test_a_table_that_does_not_fit_itself_is_not_written(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    feature_store.write_store(tmp_path / 's', TABLE._replace(**change), PROVENANCE)
  assert not list(tmp_path.iterdir())


JSON = st.recursive(
  st.none() | st.booleans() | st.integers(-3, 99) | st.floats() | st.text(max_size=3),
  lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
  max_leaves=4,
)


def draw_place(data, tree):
  """Walks down a JSON tree to a container and a key in it."""
  keys = sorted(tree) if isinstance(tree, dict) else range(len(tree))
  key = data.draw(st.sampled_from(keys))
  inner = tree[key]
  if isinstance(inner, dict | list) and inner and data.draw(st.booleans()):
    return draw_place(data, inner)
  return tree, key


@settings(
  max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_damage_to_a_manifest_is_told_as_a_value_error(store, data):
  path = store / 'manifest.json'
  original = path.read_text()
  damaged = json.loads(original)
  place, key = draw_place(data, damaged)
  place[key] = data.draw(JSON)
  path.write_text(json.dumps(damaged))
  try:
    feature_store.open_store(store)
  except ValueError:
    pass
  finally:
    path.write_text(original)
