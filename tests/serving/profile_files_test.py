"""Files of profiles."""

import numpy as np
import pytest
from made_profiles import MODEL, D, K, history, profile, same

from metapers.core import files
from metapers.serving import profile_files
from metapers.serving.profiles import History, Profile

LIKE = Profile(history([]), {'mean': np.zeros(4, np.float32), 'empty': np.zeros((0, 2))}, MODEL)


@pytest.mark.parametrize('people', [(), (3,)])
def test_a_profile_survives_its_file_bit_for_bit(tmp_path, people):
  path = profile_files.save(profile(people), tmp_path / 'ada')
  assert path.read_bytes() == profile_files.to_bytes(profile(people))
  same(profile_files.from_bytes(path.read_bytes(), LIKE), profile(people))


def changed(**changes):
  return files.packed(files.unpacked('', profile_files.to_bytes(profile())) | changes)


def test_a_profile_of_another_model_is_refused():
  with pytest.raises(ValueError, match='adapt anew'):
    profile_files.from_bytes(profile_files.to_bytes(profile()), LIKE._replace(model='0' * 64))


def test_a_profile_of_another_version_is_refused(monkeypatch):
  monkeypatch.setattr(profile_files, 'VERSION', 1)
  content = profile_files.to_bytes(profile())
  monkeypatch.undo()
  with pytest.raises(ValueError, match='version 1; this code reads 2'):
    profile_files.from_bytes(content, LIKE)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'cannot be read'),
    (profile_files.to_bytes(profile())[:-200], 'cannot be read'),
    (files.packed({'a': np.zeros(1)}), 'this is no metapers-profile'),
    (changed(ids=np.zeros((5, 2), np.int64)), 'choice of the profile is int32'),
    (changed(features=np.zeros((5, K, D + 1), np.float16)), 'features of the profile'),
    (changed(choice=np.zeros(5)), 'choice of the profile is float64'),
    (changed(**{'state.mean': np.zeros(5, np.float32)}), 'do not fit'),
    (changed(**{'state.mean': np.zeros(4, np.float32)}), 'another sha256'),
    (changed(features=np.zeros((5, K, D), np.float16)), 'another sha256'),
    (changed(ids=np.arange(1, 6)), 'another sha256'),
    (b'Dear Ada,', 'cannot be read'),
  ],
)  # fmt: skip
def test_a_file_that_is_no_profile_is_refused(content, message):
  with pytest.raises(ValueError, match=message):
    profile_files.from_bytes(content, LIKE)


def edited(part, place, value, people=()):
  """Writes a profile with one entry changed, as one edited in memory: its sha256 is right."""
  made = profile(people)
  arrays = {**made.history._asdict(), 'state.mean': made.user_state['mean']}
  arrays = {name: array.copy() for name, array in arrays.items()}
  arrays[part][place] = value
  state = made.user_state | {'mean': arrays.pop('state.mean')}
  return profile_files.to_bytes(Profile(History(**arrays), state, MODEL))


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (edited('state.mean', 2, np.nan), r'state.mean is not finite at \[2\]'),
    (edited('features', (1, 0, 2), np.inf), r'features is not finite at \[1, 0, 2\]'),
    (edited('choice', 3, 7), r'comparison \[3\] chose 7 of candidates shown'),
    (edited('choice', 3, -1), r'comparison \[3\] chose -1'),
    (edited('shown', (4, slice(None)), [True, False]), r'comparison \[4\] chose'),
    (edited('ids', 1, 4), 'comparison 4 is there already'),
    (edited('ids', (2, 1), 4, (3,)), 'person 2: comparison 4 is there already'),
    (edited('ids', 1, -4), r'got -4 at \[1\]'),
    (edited('shown', 1, False), 'something stands where no comparison is'),
    (profile_files.to_bytes(profile((0,))), r'of \[0\] people'),
    (profile_files.to_bytes(profile((2, 2))), r'of \[2, 2\] people'),
  ],
)
def test_what_no_model_has_made_is_refused(content, message):
  with pytest.raises(ValueError, match=message):
    profile_files.from_bytes(content, LIKE)
