import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_profiles import MODEL, C, D, K, history, profile, same

from metapers.core import array_files
from metapers.serving import profiles
from metapers.serving.profiles import History, Profile


def rows(full, ids):
  index = [int(np.flatnonzero(full.ids == each)[0]) for each in ids]
  return History(*(array[index] for array in full))


@settings(max_examples=50)
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


def test_users_of_a_batch_do_not_mix():
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


@pytest.mark.parametrize(
  ('ids', 'got'),
  [
    (np.array([-7]), r'got -7 at \[0\]'),
    (np.array([2**63], np.uint64), 'got 9223372036854775808'),
    (np.array([0.0]), 'got float64'),
    (np.array([1, 2]), r'got int64\[2\]'),
  ],
)
def test_what_is_not_an_id_is_refused(ids, got):
  with pytest.raises(ValueError, match=f'whole numbers from 0 up.*{got}'):
    profiles.check_ids(ids, (1,))


def test_ids_end():
  last = history([[0, 5], [3, 2**63 - 2]])
  assert profiles.next_ids(last, 1).tolist() == [[6], [2**63 - 1]]
  with pytest.raises(ValueError, match='user 1: no id follows 9223372036854775806'):
    profiles.next_ids(last, 2)


def test_errors_name_the_user_of_a_batch():
  many = history([[1, 2], [3, 4]])
  with pytest.raises(ValueError, match=r'user 1: there is no comparison 2 .*kept are \[3, 4\]'):
    profiles.without(many, np.asarray(2))
  with pytest.raises(ValueError, match='user 1: comparison 4 is there already'):
    profiles.append(many, history([[4], [4]]))


def test_of_some_of_a_batch_nothing_is_forgotten():
  many = history([[1, 2], [3, 4]])
  same(profiles.without(many, np.array([-1, -1])), many)
  assert profiles.newest(profiles.without(many, np.array([-1, 3])), 2).ids.tolist() == [
    [1, 2],
    [4, 0],
  ]
  with pytest.raises(ValueError, match='no comparison -1'):
    profiles.without(history([1, 2]), np.asarray(-1))


@pytest.mark.parametrize('ids', [np.array([0, 1, 2]), np.array([0.0, 1.0]), np.array([[0, 1]])])
def test_what_to_forget_is_one_id_of_each(ids):
  with pytest.raises(ValueError, match=r'expected one id, .* or \[2\] of them, -1 for nothing'):
    profiles.without(history([[0, 1], [0, 1]]), ids)
  with pytest.raises(ValueError, match='expected one id, a whole number; got'):
    profiles.without(history([0, 1]), ids)


def test_one_user_is_taken_out_of_many():
  many, alone = profile((3,)), profile()
  found = profiles.one_of(many, 1)
  same((found.context, found.user_state), (alone.context, alone.user_state))
  assert found.history.ids.tolist() == alone.history.ids.tolist()


def test_no_user_is_taken_out_of_one_or_beyond_the_last():
  same(profiles.one_of(profile((3,)), np.int64(-1)).user_state, profile().user_state)
  with pytest.raises(ValueError, match='of one user already'):
    profiles.one_of(profile(), 0)
  with pytest.raises(ValueError, match='no user 3 among 3'):
    profiles.one_of(profile((3,)), 3)


@pytest.mark.parametrize('wrong', [np.nan, -0.5, np.inf, 2e300])
def test_a_weight_that_cannot_be_is_refused(wrong):
  weight = np.array([1.0, wrong, 2.0])
  with pytest.raises(
    ValueError, match=rf'weight of comparison \[1\] is {re.escape(str(wrong))}; expected how'
  ):
    profiles.check_weights(weight, np.ones(3, bool))
  profiles.check_weights(weight, np.array([True, False, True]))
  with pytest.raises(ValueError, match=r'weight must be \[2\] numbers.*got float64\[3\]'):
    profiles.check_weights(weight, np.ones(2, bool))


STATE = {'mean': np.zeros(4, np.float32), 'empty': np.zeros((0, 2))}
LIKE = Profile(history([]), np.zeros(C, np.float32), STATE, MODEL)


@pytest.mark.parametrize('users', [(), (3,)])
def test_a_profile_survives_its_file_bit_for_bit(tmp_path, users):
  path = profiles.write_profile(profile(users), tmp_path / 'ada')
  assert path.read_bytes() == profiles.to_bytes(profile(users))
  same(profiles.from_bytes(path.read_bytes(), LIKE), profile(users))


def changed(**changes):
  return array_files.packed(array_files.unpacked('', profiles.to_bytes(profile())) | changes)


def test_a_profile_of_another_model_is_refused():
  with pytest.raises(ValueError, match='adapt anew'):
    profiles.from_bytes(profiles.to_bytes(profile()), LIKE._replace(model='0' * 64))


def test_a_profile_of_another_version_is_refused(monkeypatch):
  monkeypatch.setattr(profiles, 'VERSION', 2)
  content = profiles.to_bytes(profile())
  monkeypatch.undo()
  with pytest.raises(ValueError, match='version 2; this code reads 3'):
    profiles.from_bytes(content, LIKE)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'cannot be read'),
    (profiles.to_bytes(profile())[:-200], 'cannot be read'),
    (array_files.packed({'a': np.zeros(1)}), 'this is no metapers-profile'),
    (changed(ids=np.zeros((5, 2), np.int64)), 'choice of the profile is int32'),
    (changed(features=np.zeros((5, K, D + 1), np.float16)), 'features of the profile'),
    (changed(choice=np.zeros(5)), 'choice of the profile is float64'),
    (changed(weight=np.ones(5)), 'weight of the profile is float64'),
    (changed(context=np.zeros(C + 1, np.float32)), r'context of the profile is float32\[3\]'),
    (changed(context=np.zeros((5, C), np.float32)), r'context of the profile is float32\[5, 2\]'),
    (changed(context=np.zeros(C, np.float32)), 'another sha256'),
    (changed(weight=np.full(5, 7, np.float32)), 'another sha256'),
    (changed(**{'state.mean': np.zeros(5, np.float32)}), 'do not fit'),
    (changed(**{'state.mean': np.zeros(4, np.float32)}), 'another sha256'),
    (changed(features=np.zeros((5, K, D), np.float16)), 'another sha256'),
    (changed(ids=np.arange(1, 6)), 'another sha256'),
    (b'Dear Ada,', 'cannot be read'),
  ],
)  # fmt: skip
def test_a_file_that_is_no_profile_is_refused(content, message):
  with pytest.raises(ValueError, match=message):
    profiles.from_bytes(content, LIKE)


def edited(part, place, value, users=()):
  """Writes a profile with one entry changed, as one edited in memory: its sha256 is right."""
  made = profile(users)
  arrays = {
    **made.history._asdict(),
    'context': made.context,
    'state.mean': made.user_state['mean'],
  }
  arrays = {name: array.copy() for name, array in arrays.items()}
  arrays[part][place] = value
  state = made.user_state | {'mean': arrays.pop('state.mean')}
  context = arrays.pop('context')
  return profiles.to_bytes(Profile(History(**arrays), context, state, MODEL))


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (edited('state.mean', 2, np.nan), r'state.mean is not finite at \[2\]'),
    (edited('features', (1, 0, 2), np.inf), r'features is not finite at \[1, 0, 2\]'),
    (edited('choice', 3, 7), r'comparison \[3\] chose 7 of candidates shown'),
    (edited('choice', 3, -1), r'comparison \[3\] chose -1'),
    (edited('shown', (4, slice(None)), [True, False]), r'comparison \[4\] chose'),
    (edited('context', 1, np.nan), r'context is not finite at \[1\]'),
    (edited('weight', 1, np.inf), r'weight is not finite at \[1\]'),
    (edited('weight', 1, -2), r'weight of comparison \[1\] is -2.0'),
    (edited('ids', 1, 4), 'comparison 4 is there already'),
    (edited('ids', (2, 1), 4, (3,)), 'user 2: comparison 4 is there already'),
    (edited('ids', 1, -4), r'got -4 at \[1\]'),
    (edited('shown', 1, False), 'something stands where no comparison is'),
    (profiles.to_bytes(profile((0,))), r'of \[0\] users'),
    (profiles.to_bytes(profile((2, 2))), r'of \[2, 2\] users'),
  ],
)
def test_what_no_model_has_made_is_refused(content, message):
  with pytest.raises(ValueError, match=message):
    profiles.from_bytes(content, LIKE)


def test_a_profile_file_is_named_and_holds_nothing_else(tmp_path):
  one = profile()
  arrays = array_files.unpacked('this', profiles.to_bytes(one))
  (tmp_path / 'a').write_bytes(array_files.packed({**arrays, 'more': np.zeros(3)}))
  with pytest.raises(ValueError, match=r"/a: the profile holds \['more'\] besides"):
    profiles.read_profile(tmp_path / 'a', one)
  with pytest.raises(ValueError, match='is a folder'):
    profiles.read_profile(tmp_path, one)
