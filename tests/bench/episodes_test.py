"""Files of episodes: the same bytes each time, and nothing that was altered is read."""

import json
import time
import zipfile

import jax
import numpy as np
import pytest

from metapers.bench import episodes
from metapers.core import task
from metapers.core.task import Candidates, Task, Truth

ABOUT = {
  'protocol': 'calm', 'source': 'drawn', 'licence': 'none', 'identity': {}, 'conditions': []
}  # fmt: skip
CALM = {
  'name': 'calm', 'title': 'Calm', 'labels': {'noise': 0.0}, 'shots': [0], 'rival': None,
  'num_resamples': 10, 'references': [],
}  # fmt: skip
T, N, K, D, B, M, R = 4, 3, 2, 5, 3, 2, 6


def made(seed=0):
  """Tasks and truth of T users, with NaN where there is nothing."""
  rng = np.random.default_rng(seed)

  def choices():
    features = rng.normal(size=(T, N, K, D)).astype(np.float32)
    mask = rng.random((T, N)) < 0.7
    shown = np.broadcast_to(mask[..., None], (T, N, K))
    features[~shown] = np.nan
    choice = rng.integers(0, K, (T, N)).astype(np.int32)
    weight = rng.choice([0.5, 1, 2], (T, N)).astype(np.float32)
    given = (Candidates(features, shown), choice, mask, weight)
    return task.choices(*jax.tree.map(jax.numpy.asarray, given))

  support, query = choices(), choices()
  rewards = rng.normal(size=(2, T, N, K, B)).astype(np.float32)
  slate = rng.normal(size=(T, M, R, D)).astype(np.float32)
  ids = np.arange(T * N, dtype=np.int32).reshape(T, N)
  truth = Truth(
    rng.dirichlet(np.ones(B), T).astype(np.float32),
    *(rewards[0], np.asarray(support.candidates.mask), ids),
    *(rewards[1], np.asarray(query.candidates.mask), ids + 1),
    Candidates(slate, rng.random((T, M, R)) < 0.8),
    rng.normal(size=(T, M, R, B)).astype(np.float32),
    np.arange(T * M, dtype=np.int32).reshape(T, M),
    np.zeros((T, M, R), np.int32),
  )
  tasks = Task(support, query, np.full(T, 7, np.int32), np.zeros((T, 0), np.float32))
  return jax.tree.map(jax.numpy.asarray, (tasks, truth))


def write(folder, **options):
  tasks, truth = made()
  with episodes.writing_episodes(folder, **options) as draft:
    draft.add('calm/test.npz', episodes.visible_arrays(tasks, truth.slate, has_labels=False))
    draft.add('truth/calm.npz', episodes.hidden_arrays(tasks, truth))
    draft.about.update(ABOUT)
  return folder


@pytest.fixture
def folder(tmp_path):
  return write(tmp_path / 'episodes')


def test_what_is_rebuilt_is_what_was_written(folder):
  tasks, truth = made()
  manifest = episodes.read_episodes_manifest(folder)
  visible = episodes.load_arrays(folder, manifest, 'calm/test.npz')
  found = episodes.rebuild(visible, episodes.load_arrays(folder, manifest, 'truth/calm.npz'))
  for part in ('support', 'query'):
    was, now = getattr(tasks, part), getattr(found[0], part)
    np.testing.assert_array_equal(was.candidates.mask, now.candidates.mask)
    real = np.asarray(was.candidates.mask)
    np.testing.assert_array_equal(was.candidates.features[real], now.candidates.features[real])
    np.testing.assert_array_equal(was.choice[was.mask], now.choice[was.mask])
    np.testing.assert_array_equal(was.weight[was.mask], now.weight[was.mask])
  np.testing.assert_array_equal(tasks.user, found[0].user)
  for name in set(Truth._fields) - {'slate'}:
    np.testing.assert_array_equal(getattr(truth, name), getattr(found[1], name), err_msg=name)


def test_real_people_have_no_truth_but_their_choices_and_weights():
  tasks, _ = made()
  hidden = episodes.hidden_arrays(tasks, None)
  assert set(hidden) == {'query_choice', 'query_weight'}
  visible = episodes.visible_arrays(tasks, has_labels=False)
  assert not any(name.startswith('slate') for name in visible)
  found, truth = episodes.rebuild(visible, hidden)
  assert truth is None
  np.testing.assert_array_equal(found.query.mask, tasks.query.mask)


def test_answers_and_what_is_masked_are_not_shown():
  tasks, truth = made()
  visible = episodes.visible_arrays(tasks, truth.slate, has_labels=False)
  labels = {'query_choice', 'query_weight'}
  assert not set(visible) & {*labels, *episodes.HIDDEN}
  assert 'support_weight' in visible
  for part in ('support', 'query', 'slate'):
    assert not visible[f'{part}_features'][~visible[f'{part}_shown']].any()
  assert labels <= set(episodes.visible_arrays(tasks, has_labels=True))


def test_features_and_contexts_that_are_several_arrays_are_refused():
  tasks, _ = made()
  support = tasks.support.candidates
  several = {'tokens': support.features, 'scores': support.features}
  tokens = tasks.support._replace(candidates=support._replace(features=several))
  with pytest.raises(ValueError, match=r'features that are one array, got .*\(tokens, scores\)'):
    episodes.visible_arrays(tasks._replace(support=tokens), has_labels=True)
  with pytest.raises(ValueError, match=r'context that are one array, got several \(age\)'):
    episodes.visible_arrays(tasks._replace(context={'age': tasks.context}), has_labels=True)


@pytest.mark.parametrize('is_compressed', [False, True])
def test_the_same_arrays_give_the_same_bytes(tmp_path, monkeypatch, is_compressed):
  first = write(tmp_path / 'first', is_compressed=is_compressed)
  later = time.time() + 1e6
  monkeypatch.setattr(time, 'time', lambda: later)
  second = write(tmp_path / 'second', is_compressed=is_compressed)
  assert episodes.fingerprint(first) == episodes.fingerprint(second)
  with zipfile.ZipFile(first / 'calm' / 'test.npz') as archive:
    assert {entry.date_time[0] for entry in archive.infolist()} == {1980}


def test_the_manifest_describes_every_array(folder):
  arrays = episodes.read_episodes_manifest(folder)['files']['calm/test.npz']['arrays']
  entry = arrays['support_features']
  assert entry['shape'] == [T, N, K, D]
  assert entry['dtype'] == 'float32'
  assert entry['dimensions'] == 'T N K D'


def test_a_changed_bit_is_noticed(folder):
  path = folder / 'calm' / 'test.npz'
  content = bytearray(path.read_bytes())
  content[-500] ^= 1
  path.write_bytes(bytes(content))
  with pytest.raises(
    ValueError, match=r'calm/test\.npz is not the file that manifest\.json describes'
  ):
    episodes.load_arrays(folder, episodes.read_episodes_manifest(folder), 'calm/test.npz')


def test_the_truth_may_be_kept_elsewhere(folder, tmp_path):
  (folder / 'truth').rename(tmp_path / 'safe')
  manifest = episodes.read_episodes_manifest(folder)
  with pytest.raises(ValueError, match=r'truth/calm\.npz is missing; give --truth=FOLDER'):
    episodes.load_arrays(folder, manifest, 'truth/calm.npz')
  found = episodes.load_arrays(folder, manifest, 'truth/calm.npz', truth=str(tmp_path / 'safe'))
  assert found['weights'].shape == (T, B)


def test_only_files_of_the_manifest_are_read(folder):
  manifest = episodes.read_episodes_manifest(folder)
  with pytest.raises(ValueError, match=r"knows no file 'storm/test\.npz'"):
    episodes.load_arrays(folder, manifest, 'storm/test.npz')


@pytest.mark.parametrize(
  'name', ['../x.npz', 'calm/../../x.npz', '/tmp/x.npz', 'C:/x.npz', '..\\x']
)
def test_no_file_lies_outside_of_the_folder(folder, name):
  manifest = episodes.read_episodes_manifest(folder)
  manifest['files'][name] = manifest['files']['calm/test.npz']
  with pytest.raises(ValueError, match='outside of the folder'):
    episodes.load_arrays(folder, manifest, name)
  (folder / 'manifest.json').write_text(json.dumps(manifest))
  with pytest.raises(ValueError, match='outside of the folder'):
    episodes.read_episodes_manifest(folder)
  with (
    pytest.raises(ValueError, match='outside of the folder'),
    episodes.writing_episodes(folder.parent / 'other') as draft,
  ):
    draft.add(name, {'user': np.arange(3)})


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'version': 1}, 'has version 1; this code reads 2'),
    ({'format': 'other'}, 'is no metapers-episodes'),
    ({'licence': None}, "field 'licence' must be a valid string, got None"),
    ({'files': []}, "field 'files' must be an object"),
  ],
)
def test_manifests_of_something_else_are_refused(folder, change, message):
  path = folder / 'manifest.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(ValueError, match=message):
    episodes.read_episodes_manifest(folder)


def test_folders_without_episodes_are_refused(folder, tmp_path):
  with pytest.raises(ValueError, match='holds no metapers-episodes'):
    episodes.read_episodes_manifest(tmp_path)
  (folder / 'manifest.json').write_text('{')
  with pytest.raises(ValueError, match='is not JSON'):
    episodes.read_episodes_manifest(folder)


def test_a_failed_export_leaves_nothing(tmp_path):
  with pytest.raises(RuntimeError), episodes.writing_episodes(tmp_path / 'episodes') as draft:
    draft.add('calm/test.npz', {'user': np.arange(3)})
    raise RuntimeError
  assert not list(tmp_path.iterdir())


def test_what_exists_is_not_overwritten(folder):
  with pytest.raises(ValueError, match='exists; give a name that is free'):
    write(folder)


@pytest.mark.parametrize(
  ('entry', 'message'),
  [
    ({}, "sha256' is missing"),
    ([1], 'must be an object, got \\[1\\]'),
    ({'sha256': '', 'arrays': {'user': {'shape': [-1], 'dtype': 'int32'}}}, 'shape.0. must be'),
  ],
)
def test_entries_of_files_are_checked(folder, entry, message):
  path = folder / 'manifest.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | {'files': {'a.npz': entry}}))
  with pytest.raises(ValueError, match=message):
    episodes.read_episodes_manifest(folder)


@pytest.mark.parametrize(
  'condition', ['calm', {}, {'name': [1]}, {**CALM, 'shots': []}, {**CALM, 'num_resamples': 10**9}]
)
def test_conditions_are_checked(folder, condition):
  path = folder / 'manifest.json'
  written = json.loads(path.read_text())
  path.write_text(json.dumps(written | {'conditions': [CALM]}))
  assert episodes.read_episodes_manifest(folder)['conditions'] == [CALM]
  path.write_text(json.dumps(written | {'conditions': [condition]}))
  with pytest.raises(ValueError, match=r"field 'conditions\.0"):
    episodes.read_episodes_manifest(folder)


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path):
  path = folder / 'calm' / 'test.npz'
  path.rename(tmp_path / 'elsewhere.npz')
  path.symlink_to(tmp_path / 'elsewhere.npz')
  with pytest.raises(ValueError, match='leads out of'):
    episodes.load_arrays(folder, episodes.read_episodes_manifest(folder), 'calm/test.npz')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'query_weight': None}, 'lack the arrays query_weight'),
    ({'query_choice': np.full((T, N), 99, np.int32)}, 'chose 99'),
    ({'query_choice': np.full((T, N), np.nan, np.float32)}, 'query_choice of these episodes is'),
    ({'query_mask': np.ones((7, 3), bool)}, 'query_mask of these episodes is'),
    ({'query_mask': np.full((T, N), 'a')}, 'query_mask of these episodes is'),
    ({'query_weight': np.full((T, N), -1, np.float32)}, r'weight -1\.0'),
  ],
)
def test_arrays_that_make_no_episodes_are_refused(change, message):
  tasks, truth = made()
  hidden = episodes.hidden_arrays(tasks, truth)
  given = {**episodes.visible_arrays(tasks, truth.slate, has_labels=False), **hidden, **change}
  with pytest.raises(ValueError, match=message):
    episodes.rebuild({name: array for name, array in given.items() if array is not None}, {})
