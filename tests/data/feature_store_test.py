"""Feature stores on disk: what is written comes back, and what does not fit is refused."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metapers.data import feature_store, reward_table, synthetic
from metapers.data.manifest import Provenance

PROVENANCE = Provenance('synthetic, for a test', 'by hand', 'Apache-2.0', 'tanh', '1')
TABLE = synthetic.synthetic_store(num_prompts=30)


def texts_of(table, repeats=()):
  rows = [[f'text {p} {r}' for r in range(8)] for p in range(len(table.rewards))]
  for prompt, response, earlier in repeats:
    rows[prompt][response] = rows[prompt][earlier]
  return pa.table({'prompt': [f'prompt {p}' for p in range(len(rows))], 'responses': rows})


def edit_manifest(folder, edit):
  path = folder / 'manifest.json'
  content = json.loads(path.read_text())
  edit(content)
  path.write_text(json.dumps(content))


@pytest.fixture
def store(tmp_path):
  return feature_store.write_store(tmp_path / 'store', TABLE, PROVENANCE)


def test_what_is_written_comes_back(store):
  table = feature_store.open_store(store)
  for name in ('rewards', 'features', 'mask', 'response_model', 'mean', 'std', 'prompt_split'):
    np.testing.assert_array_equal(getattr(table, name), getattr(TABLE, name), err_msg=name)
  assert table.reward_models == TABLE.reward_models
  assert table.response_models == TABLE.response_models
  assert table.source == PROVENANCE.source


def test_arrays_are_memory_mapped_and_read_only(store):
  table = feature_store.open_store(store)
  assert isinstance(table.rewards, np.memmap) and isinstance(table.features, np.memmap)
  assert not table.features.flags.writeable


def test_every_part_is_optional_but_scores_and_models(tmp_path):
  path = feature_store.write_store(tmp_path / 's', TABLE._replace(features=None), PROVENANCE)
  assert feature_store.open_store(path).features is None


def test_half_precision_features_texts_and_prompt_features_are_kept(tmp_path):
  table = TABLE._replace(features=TABLE.features.astype(np.float16))
  path = feature_store.write_store(
    tmp_path / 's',
    table,
    PROVENANCE,
    prompt_features=np.zeros((30, 5), np.float16),
    texts=texts_of(table),
  )
  assert feature_store.open_store(path).features.dtype == np.float16
  assert set(json.loads((path / 'manifest.json').read_text())['files']) == {
    'rewards', 'response_model', 'features', 'prompt_features', 'texts',
  }  # fmt: skip


def test_the_manifest_hash_changes_with_the_data(tmp_path):
  first, again, other = (
    feature_store.open_store(feature_store.write_store(tmp_path / str(i), table, PROVENANCE))
    for i, table in enumerate([TABLE, TABLE, TABLE._replace(features=-TABLE.features)])
  )
  assert first.manifest_hash == again.manifest_hash != other.manifest_hash


def test_a_store_is_replaced_only_on_request(store):
  with pytest.raises(ValueError, match=r'exists.*overwrite'):
    feature_store.write_store(store, TABLE, PROVENANCE)
  feature_store.write_store(store, TABLE._replace(features=None), PROVENANCE, overwrite=True)
  assert feature_store.open_store(store).features is None
  assert [path.name for path in store.parent.iterdir()] == ['store']


def test_a_folder_that_is_no_store_is_never_replaced(tmp_path):
  (tmp_path / 'thesis.tex').touch()
  with pytest.raises(ValueError, match='is not a feature store'):
    feature_store.write_store(tmp_path, TABLE, PROVENANCE, overwrite=True)
  assert (tmp_path / 'thesis.tex').exists()


def test_a_failed_write_leaves_the_old_store_and_nothing_else(store, monkeypatch):
  def fail(*args, **kwargs):
    raise OSError('disk full')

  monkeypatch.setattr(np, 'save', fail)
  with pytest.raises(OSError, match='disk full'):
    feature_store.write_store(store, TABLE, PROVENANCE, overwrite=True)
  monkeypatch.undo()
  np.testing.assert_array_equal(feature_store.open_store(store).rewards, TABLE.rewards)
  assert [path.name for path in store.parent.iterdir()] == ['store']


def test_missing_scores_are_masked_and_counted(tmp_path):
  rewards = TABLE.rewards.copy()
  rewards[0, 3, 2] = np.nan
  rewards[5, :, 1] = np.nan
  mask = ~np.isnan(rewards).any(-1)
  table = TABLE._replace(rewards=rewards, mask=mask)
  opened = feature_store.open_store(feature_store.write_store(tmp_path / 's', table, PROVENANCE))
  np.testing.assert_array_equal(opened.mask, mask)
  assert reward_table.count_masked(opened) == (9, 0, 240)
  assert np.all(np.isfinite(opened.mean))


def test_repeated_scores_and_repeated_texts_are_masked_and_the_first_is_kept(tmp_path):
  rewards, mask = TABLE.rewards.copy(), TABLE.mask.copy()
  rewards[1, 6] = rewards[1, 2]
  mask[1, 6] = mask[2, 7] = False
  table = TABLE._replace(rewards=rewards, mask=mask)
  path = feature_store.write_store(
    tmp_path / 's', table, PROVENANCE, texts=texts_of(table, [(2, 7, 0)])
  )
  opened = feature_store.open_store(path)
  np.testing.assert_array_equal(opened.mask, mask)
  assert reward_table.count_masked(opened) == (0, 2, 240)


def test_a_mask_that_a_reader_could_not_know_is_refused(tmp_path):
  mask = TABLE.mask.copy()
  mask[4, 4] = False
  with pytest.raises(ValueError, match=r'masks 1 responses.*NaN'):
    feature_store.write_store(tmp_path / 's', TABLE._replace(mask=mask), PROVENANCE)


@pytest.mark.parametrize('name', ['rewards.npy', 'features.npy', 'response_model.npy'])
def test_a_flipped_byte_is_found_and_both_hashes_are_named(store, name):
  content = bytearray((store / name).read_bytes())
  content[-1] ^= 1
  (store / name).write_bytes(content)
  with pytest.raises(ValueError, match=rf'{name}.*sha256 [0-9a-f]{{64}}, manifest [0-9a-f]{{64}}'):
    feature_store.open_store(store)


def test_hashes_are_skipped_on_request(store):
  content = bytearray((store / 'features.npy').read_bytes())
  content[-1] ^= 1
  (store / 'features.npy').write_bytes(content)
  assert feature_store.open_store(store, verify=False).features is not None


@pytest.mark.parametrize('verify', [True, False])
@pytest.mark.parametrize('name', ['rewards.npy', 'features.npy'])
def test_a_truncated_or_missing_file_is_refused(store, name, verify):
  (store / name).write_bytes((store / name).read_bytes()[:200])
  with pytest.raises(ValueError, match=name):
    feature_store.open_store(store, verify=verify)
  (store / name).unlink()
  with pytest.raises(ValueError, match=rf'{name}.*missing'):
    feature_store.open_store(store, verify=verify)


def swap_names(content):
  names = content['reward_models']
  names[0], names[1] = names[1], names[0]


EDITS = {
  'another shape': (lambda c: c['files']['features'].update(shape=[30, 8, 63]), 'features.npy'),
  'another dtype': (lambda c: c['files']['rewards'].update(dtype='float64'), 'rewards.npy'),
  'a reward model too few': (lambda c: c['reward_models'].pop(), 'names 9, rewards have 10'),
  'reward models in another order': (swap_names, 'train_mean of'),
  'a repeated reward model': (
    lambda c: c['reward_models'].__setitem__(0, c['reward_models'][1]),
    'must be different',
  ),
  'an unknown reward model': (lambda c: c['reward_models'].__setitem__(0, 'x'), 'train_mean names'),
  'another mean': (lambda c: c['train_mean'].update(beaver_7b=0.0), 'train_mean of .beaver_7b'),
  'a response model too few': (lambda c: c['response_models'].pop(), 'response_model holds 0..7'),
  'a prompt without split': (lambda c: c['prompt_split'].pop(), 'prompt_split has 29'),
  'an unknown split': (lambda c: c['prompt_split'].__setitem__(0, 3), 'prompt_split must hold'),
  'a file outside': (lambda c: c['files'].update({'../rewards': {}}), 'unknown or missing'),
  'no scores': (lambda c: c['files'].pop('rewards'), 'unknown or missing: rewards'),
  'another format': (lambda c: c.update(format='zip'), 'is no metapers-feature-store'),
  'a later version': (lambda c: c.update(version=2), 'version 2'),
  'a missing field': (lambda c: c.pop('licence'), "lacks the field 'licence'"),
}


@pytest.mark.parametrize('name', EDITS)
def test_a_manifest_that_does_not_fit_is_refused(store, name):
  edit, message = EDITS[name]
  edit_manifest(store, edit)
  with pytest.raises(ValueError, match=message):
    feature_store.open_store(store)


def test_lengths_of_texts_are_counted_in_words(tmp_path):
  rows = [[' '.join('x' * (p + r)) for r in range(8)] for p in range(30)]
  rows[0][2] = None
  texts = pa.table({'responses': rows, 'subset': [None, *'ab' * 14, 'c']})
  path = feature_store.write_store(tmp_path / 's', TABLE, PROVENANCE, texts=texts)
  lengths, subset = feature_store.text_lengths(path)
  expected = np.add.outer(np.arange(30), np.arange(8)).astype(np.float32)
  expected[0, 2] = 0
  np.testing.assert_array_equal(lengths, expected)
  assert lengths.dtype == np.float32
  assert subset.tolist() == ['', *'ab' * 14, 'c']
  some, _ = feature_store.text_lengths(path, (8, 1))
  np.testing.assert_array_equal(some, expected[:, [7, 0]])
  with pytest.raises(ValueError, match=r'numbers from 1 to 8, got \[0, 9\]'):
    feature_store.text_lengths(path, (0, 9))


def test_lengths_are_none_without_texts(store):
  assert feature_store.text_lengths(store) is None
  assert feature_store.text_lengths('synthetic') is None


def test_a_link_out_of_the_store_is_refused(store, tmp_path):
  shutil.move(store / 'features.npy', tmp_path / 'elsewhere.npy')
  (store / 'features.npy').symlink_to(tmp_path / 'elsewhere.npy')
  with pytest.raises(ValueError, match='leads out of '):
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


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_a_manifest_is_a_value_error(store, data):
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
