import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_profiles import history, profile, same

from metapers.serving import profiles
from metapers.serving.profiles import History


def rows(full, ids):
  index = [int(np.flatnonzero(full.ids == each)[0]) for each in ids]
  return History(*(array[index] for array in full))


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


@pytest.mark.parametrize(
  ('ids', 'got'),
  [
    (np.array([-7]), r'got -7 at \[0\]'),
    (np.array([2**63], np.uint64), 'got 9223372036854775808'),
    (np.array([0.0]), 'got float64'),
    (np.array([1, 2]), r'got int64\[2\]'),
  ],
)
def test_ids_that_are_none_are_refused(ids, got):
  with pytest.raises(ValueError, match=f'whole numbers from 0 up.*{got}'):
    profiles.check_ids(ids, (1,))


def test_ids_end():
  last = history([[0, 5], [3, 2**63 - 2]])
  assert profiles.next_ids(last, 1).tolist() == [[6], [2**63 - 1]]
  with pytest.raises(ValueError, match='person 1: no id follows 9223372036854775806'):
    profiles.next_ids(last, 2)


def test_errors_name_the_person_of_a_batch():
  many = history([[1, 2], [3, 4]])
  with pytest.raises(ValueError, match=r'person 1: there is no comparison 2 .*kept are \[3, 4\]'):
    profiles.without(many, np.asarray(2))
  with pytest.raises(ValueError, match='person 1: comparison 4 is there already'):
    profiles.append(many, history([[4], [4]]))


def test_of_some_of_a_batch_nothing_is_forgotten():
  many = history([[1, 2], [3, 4]])
  same(profiles.without(many, np.array([-1, -1])), many)
  assert profiles.without(many, np.array([-1, 3])).ids.tolist() == [[1, 2], [4, 0]]
  with pytest.raises(ValueError, match='no comparison -1'):
    profiles.without(history([1, 2]), np.asarray(-1))


@pytest.mark.parametrize('ids', [np.array([0, 1, 2]), np.array([0.0, 1.0]), np.array([[0, 1]])])
def test_what_to_forget_is_one_id_of_each(ids):
  with pytest.raises(ValueError, match=r'expected one id, .* or \[2\] of them, -1 for nothing'):
    profiles.without(history([[0, 1], [0, 1]]), ids)
  with pytest.raises(ValueError, match='expected one id, a whole number; got'):
    profiles.without(history([0, 1]), ids)


def test_one_person_is_taken_out_of_many():
  same(profiles.person(profile((3,)), 1).user_state, profile().user_state)


def test_nobody_is_taken_out_of_one_person_or_beyond_the_last():
  same(profiles.person(profile((3,)), np.int64(-1)).user_state, profile().user_state)
  with pytest.raises(ValueError, match='of one person already'):
    profiles.person(profile(), 0)
  with pytest.raises(ValueError, match='no person 3 among 3'):
    profiles.person(profile((3,)), 3)
