import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metapers.io import exports, profiles
from metapers.io.profiles import History, Profile

K, D = 2, 3
MODEL = 'f' * 64


def history(ids, seed=0):
  rng = np.random.default_rng(seed)
  size = np.shape(ids)
  features = rng.normal(size=(*size, K, D)).astype(np.float16)
  choice = rng.integers(0, K, size).astype(np.int32)
  return History(np.asarray(ids, np.int64), choice, features, np.ones((*size, K), bool))


def rows(full, ids):
  index = [int(np.flatnonzero(full.ids == each)[0]) for each in ids]
  return History(*(array[index] for array in full))


def same(first, second):
  jax.tree.map(np.testing.assert_array_equal, first, second)


LIKE = Profile(history([]), {'mean': np.zeros(4, np.float32), 'empty': np.zeros((0, 2))}, MODEL)


def profile(people=()):
  state = {'mean': np.ones((*people, 4), np.float32), 'empty': np.zeros((*people, 0, 2))}
  return Profile(history(np.broadcast_to(np.arange(5), (*people, 5))), state, MODEL)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=30), st.integers(1, 6))
def test_a_history_depends_only_on_what_is_kept(clicks, capacity):
  everything, kept = history(np.arange(10)), []
  found = profiles.newest(history([]), capacity)
  for add, comparison in clicks:
    if add and comparison not in kept:
      kept = [*kept, comparison][-capacity:]
      found = profiles.append(found, rows(everything, [comparison]))
    elif comparison in kept:
      kept.remove(comparison)
      found = profiles.without(found, np.asarray(comparison))
    found = profiles.newest(found, capacity)
  same(found, profiles.newest(rows(everything, kept), capacity))


def test_people_of_a_batch_do_not_mix():
  many = history([[1, 2, 3], [4, 5, 6]])
  many.shown[0, 1] = False
  kept = profiles.newest(profiles.without(many, np.array([3, 4])), 2)
  assert kept.ids.tolist() == [[1, 0], [5, 6]]
  for index in range(2):
    alone = History(*(array[index] for array in many))
    same(profiles.newest(profiles.without(alone, np.asarray([3, 4][index])), 2),
         History(*(array[index] for array in kept)))  # fmt: skip


def test_the_oldest_go_first():
  assert profiles.newest(history(np.arange(7)), 3).ids.tolist() == [4, 5, 6]


def test_ids_count_on_from_the_largest():
  many = history([[7, 2], [0, 0]])
  many.shown[1] = False
  assert profiles.next_ids(many, 2).tolist() == [[8, 9], [0, 1]]
  assert profiles.next_ids(history([]), 2).tolist() == [0, 1]


def test_an_id_that_is_there_already_is_refused():
  with pytest.raises(ValueError, match='comparison 1 is there already'):
    profiles.append(history([0, 1]), history([1]))
  with pytest.raises(ValueError, match='comparison 4 is there already'):
    profiles.append(history([]), history([4, 4]))


def test_padding_is_no_id():
  padded = profiles.newest(history([3]), 4)
  assert profiles.append(padded, history([0])).ids.shape == (5,)
  with pytest.raises(ValueError, match=r'no comparison 0 to forget; kept are \[3\]'):
    profiles.without(padded, np.asarray(0))
  with pytest.raises(ValueError, match='kept are none'):
    profiles.without(history([]), np.asarray(0))


@pytest.mark.parametrize('ids', [np.array([-1]), np.array([0.0]), np.array([1, 2])])
def test_ids_that_are_none_are_refused(ids):
  with pytest.raises(ValueError, match='whole numbers from 0 up'):
    profiles.check_ids(ids, (1,))


@pytest.mark.parametrize('people', [(), (3,)])
def test_a_profile_survives_its_file_bit_for_bit(tmp_path, people):
  path = profiles.save(profile(people), tmp_path / 'ada')
  assert path.read_bytes() == profiles.to_bytes(profile(people))
  same(profiles.from_bytes(path.read_bytes(), LIKE), profile(people))


def test_one_person_is_taken_out_of_many():
  same(profiles.person(profile((3,)), 1).user_state, profile().user_state)


def changed(**changes):
  return exports.packed(exports.unpacked('', profiles.to_bytes(profile())) | changes)


def test_a_profile_of_another_model_is_refused():
  with pytest.raises(ValueError, match='adapt anew'):
    profiles.from_bytes(profiles.to_bytes(profile()), LIKE._replace(model='0' * 64))


def test_a_profile_of_another_version_is_refused(monkeypatch):
  monkeypatch.setattr(profiles, 'VERSION', 2)
  content = profiles.to_bytes(profile())
  monkeypatch.undo()
  with pytest.raises(ValueError, match='version 2; this code reads 1'):
    profiles.from_bytes(content, LIKE)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'cannot be read'),
    (profiles.to_bytes(profile())[:-200], 'cannot be read'),
    (exports.packed({'a': np.zeros(1)}), 'this is no profile'),
    (changed(ids=np.zeros((5, 2), np.int64)), 'choice of the profile is int32'),
    (changed(features=np.zeros((5, K, D + 1), np.float16)), 'features of the profile'),
    (changed(choice=np.zeros(5)), 'choice of the profile is float64'),
    (changed(**{'state.mean': np.zeros(5, np.float32)}), 'do not fit'),
  ],
)  # fmt: skip
def test_a_file_that_is_no_profile_is_refused(content, message):
  with pytest.raises(ValueError, match=message):
    profiles.from_bytes(content, LIKE)
