"""JSON and npz files: what is written is read, and what is damaged is refused in one way."""

import errno
import io
import itertools
import os
import pathlib
import pickle
import struct
import tracemalloc
import zipfile

import jax.numpy as jnp
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis.extra import numpy as st_numpy

from metapers.core import array_files, fields, files


class Sized(pydantic.BaseModel):
  size: fields.Size


ARRAYS = {'a': np.arange(3, dtype=np.float32), 'file': np.ones((2, 0)), 'x.y': np.array(['é', ''])}


DECLARED = {x: {'shape': list(a.shape), 'dtype': str(a.dtype)} for x, a in ARRAYS.items()}


def test_arrays_of_any_name_survive_a_file_bit_for_bit(tmp_path):
  path = array_files.write_npz(tmp_path / 'new' / 'a.npz', ARRAYS)
  assert path.read_bytes() == array_files.packed(ARRAYS)
  compressed = array_files.unpacked(
    'this', array_files.packed(ARRAYS, is_compressed=True), DECLARED
  )
  for found in (array_files.read_npz(path), compressed, np.load(path)):
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
      np.testing.assert_array_equal(found[name], array, strict=True)


@given(st_numpy.arrays(st_numpy.scalar_dtypes(), st_numpy.array_shapes(min_dims=0, min_side=0)))
def test_an_array_of_any_dtype_and_shape_survives(array):
  found = array_files.unpacked('this', array_files.packed({'x': array}))['x']
  assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_the_same_arrays_give_the_same_bytes(monkeypatch):
  first = array_files.packed(ARRAYS)
  monkeypatch.setattr('time.time', lambda: 2e9)
  assert array_files.packed(ARRAYS) == first


def test_pickles_are_neither_written_nor_read():
  evil = {'evil': np.array([{}], object)}
  with pytest.raises(ValueError, match='allow_pickle'):
    array_files.packed(evil)
  buffer = io.BytesIO()
  np.savez(buffer, evil=evil['evil'])
  with pytest.raises(ValueError, match='cannot be read'):
    array_files.unpacked('this', buffer.getvalue())


def saved(array):
  buffer = io.BytesIO()
  np.save(buffer, array)
  return buffer.getvalue()


def zipped(kind, **members):
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', kind) as file:
    for name, content in members.items():
      file.writestr(name, content)
  return buffer.getvalue()


@pytest.mark.parametrize(
  'content',
  [
    b'',
    b'Dear Ada,',
    b'x' + array_files.packed(ARRAYS)[1:],
    saved(np.ones(3)),
    zipped(zipfile.ZIP_STORED, letter=b'Dear Ada,'),
  ],
  ids=['empty', 'text', 'first byte', 'npy', 'zip'],
)
def test_bytes_that_are_no_npz_are_refused_in_one_way(content):
  with pytest.raises(ValueError, match='mine cannot be read') as caught:
    array_files.unpacked('mine', content)
  assert 'allow_pickle' not in str(caught.value)


@pytest.mark.parametrize('kind', [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_npz_is_refused_in_one_way(kind):
  array = np.random.default_rng(0).normal(size=40_000)  # more than zipfile checks at once
  content = zipped(kind, **{'a.npy': saved(array)})
  refused = 0
  for place in [*range(170), *range(len(content) - 80, len(content))]:
    for bit in range(8):
      damaged = bytearray(content)
      damaged[place] ^= 1 << bit
      try:
        found = array_files.unpacked('this', bytes(damaged))  # some bytes mean nothing
      except ValueError as error:
        assert 'this cannot be read' in str(error)
        refused += 1
      else:
        np.testing.assert_array_equal(next(iter(found.values()), array), array)
  assert refused > 1000


def test_an_object_survives_a_json_file(tmp_path):
  value = {'name': 'é', 'list': [1, 0.1, None, True], 'inner': {'x': []}}
  path = files.write_json(tmp_path / 'new' / 'a.json', value)
  assert files.read_json(path) == value
  assert path.read_text(encoding='utf-8').endswith('}\n')


def written(path, text):
  with files.writing_folder(path) as place:
    (place / 'a').write_text(text)


def kept(path):
  return (path / 'a').read_text(), sorted(x.name for x in path.parent.iterdir())


def stopping(monkeypatch, error, *, after):
  """Lets some renames happen, and then none: to the end for a kill, else once."""
  rename, done = pathlib.Path.rename, []

  def stop(path, target):
    done.append(path)
    if len(done) > after and (error is SystemExit or len(done) == after + 1):
      raise error
    return rename(path, target)

  monkeypatch.setattr(pathlib.Path, 'rename', stop)


def test_a_folder_keeps_its_name_when_the_new_one_cannot_take_it(tmp_path, monkeypatch):
  written(tmp_path / 'mine', 'old')
  with monkeypatch.context() as patch, pytest.raises(OSError, match='full'):
    stopping(patch, OSError('full'), after=1)
    written(tmp_path / 'mine', 'new')
  assert kept(tmp_path / 'mine') == ('old', ['mine'])


def test_a_folder_whose_writer_was_killed_between_renames_comes_back(tmp_path, monkeypatch):
  path = tmp_path / 'mine'
  written(path, 'old')
  written(tmp_path / 'mine.too', 'other')
  with monkeypatch.context() as patch, pytest.raises(SystemExit):
    stopping(patch, SystemExit, after=1)
    written(path, 'new')
  assert not path.exists()
  with pytest.raises(ZeroDivisionError), files.writing_folder(tmp_path / 'mine.too.2'):
    raise ZeroDivisionError
  with pytest.raises(ZeroDivisionError), files.writing_folder(tmp_path / 'min'):
    raise ZeroDivisionError
  assert not path.exists()  # others leave it alone
  with pytest.raises(ZeroDivisionError), files.writing_folder(path):
    raise ZeroDivisionError
  assert kept(path) == ('old', ['mine', 'mine.too'])


def test_what_a_killed_writer_left_beside_the_new_folder_is_removed(tmp_path):
  path, left = tmp_path / 'mine', tmp_path / '.mine.abcd0123.old'
  written(path, 'old')
  written(left, 'older')
  written(tmp_path / '.mine.too.abcd0123.old', 'of another')
  written(path, 'new')
  assert kept(path) == ('new', ['.mine.too.abcd0123.old', 'mine'])


def test_a_new_name_reaches_the_disk(tmp_path, monkeypatch):
  flushed, to_disk = [], files._to_disk
  monkeypatch.setattr(files, '_to_disk', lambda path: (flushed.append(path), to_disk(path)))
  files.write_atomically(tmp_path / 'a', 'text')
  assert flushed[-1] == tmp_path
  for _ in range(2):
    flushed.clear()
    written(tmp_path / 'mine', 'text')
    assert flushed[-1] == tmp_path


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'is not JSON'),
    (b'{"a": 1', 'is not JSON'),
    (b'{"a": 1} {}', 'is not JSON'),
    (b'{"a": "\xff"}', 'is not JSON'),
    (b'{"a": ' + b'9' * 10_000 + b'}', 'is not JSON'),
    (b'{"a": ' * 200_000, 'is not JSON'),
    (b'[' * 200_000 + b']' * 200_000, 'is not JSON'),
    (b'{"a": ' + b'[' * 150 + b']' * 150 + b'}', 'is not JSON that anyone needs'),
    (b'[1, 2]', r'must hold a JSON object, got a list'),
    (b'null', 'must hold a JSON object, got a NoneType'),
  ],
  ids=['empty', 'cut', 'two', 'not UTF-8', 'digits', 'deep', 'deep list', 'nested', 'list', 'null'],
)
def test_what_is_no_json_object_is_refused_with_its_path(tmp_path, content, message):
  (tmp_path / 'a.json').write_bytes(content)
  with pytest.raises(ValueError, match=rf'/a\.json {message}'):
    files.read_json(tmp_path / 'a.json')
  with pytest.raises(ValueError, match=f'^mine {message}'):
    files.parse_json(content, 'mine')
  with pytest.raises(ValueError, match=rf'/a\.json {message}'):
    files.read_manifest(tmp_path / 'a.json', 'form', 1, {})


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(ValueError, match=r'a\.json is missing'):
    files.read_json(tmp_path / 'a.json')
  with pytest.raises(ValueError, match=r'a\.npz is missing'):
    array_files.read_npz(tmp_path / 'a.npz')
  with pytest.raises(ValueError, match=r'holds no run: it has no a\.json; give another folder'):
    files.read_json(tmp_path / 'a.json', 'run')


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'format': 'other'}, "is no form: its format is 'other'"),
    ({'version': 2}, 'has version 2; this code reads 1'),
    ({'names': [{'size': -1}]}, r"field 'names.0.size' must be greater than or equal to 0, got -1"),
    ({'names': [{}]}, r"field 'names.0.size' is missing"),
    ({'names': 'one'}, "field 'names' must be a valid array, got 'one'"),
  ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path, changes, message):
  manifest = {'format': 'form', 'version': 1, 'names': []}
  path = files.write_json(tmp_path / 'manifest.json', manifest)
  kinds = {'names': list[Sized]}
  assert files.read_manifest(path, 'form', 1, kinds) == (manifest, path.read_bytes())
  files.write_json(path, manifest | changes)
  with pytest.raises(ValueError, match=message):
    files.read_manifest(path, 'form', 1, kinds)


def test_files_and_folders_heed_the_umask(tmp_path):
  before = os.umask(0o077)
  try:
    files.write_atomically(tmp_path / 'a', 'text')
    written(tmp_path / 'mine', 'text')
  finally:
    os.umask(before)
  modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ('a', 'mine')]
  assert modes == [0o600, 0o700]


def npy(shape, dtype='<f4', body=b'', version=1):
  header = repr({'descr': dtype, 'fortran_order': False, 'shape': shape}).encode() + b'\n'
  return b'\x93NUMPY' + bytes([version, 0]) + struct.pack('<H', len(header)) + header + body


HOSTILE = {
  'too long': npy((10**12,)),
  'overflowing': npy((2**40, 2**40)),
  'negative': npy((-1, -1), body=bytes(4)),
  'true': npy((True,), body=bytes(4)),
  'without bytes': npy((10**12,), '<U0'),
  'of nothing': npy((10**18,), '|V0'),
  'struct': npy((1,), [('x', '<f4')], bytes(4)),
  'rows': npy((1,), ('<f4', (2,)), bytes(8)),
  'objects': npy((1,), '|O', pickle.dumps([1])),
  'more follows': npy((1,), body=bytes(8)),
  'a nest': npy('(' * 3000),
  'other version': npy((1,), body=bytes(4), version=9),
  'no header': b'\x93NUMPY\x02\x00' + b'\xff' * 4,
  'empty': b'',
}


@pytest.mark.parametrize('content', HOSTILE.values(), ids=HOSTILE)
def test_a_header_is_not_believed(tmp_path, content):
  with pytest.raises(ValueError, match='mine cannot be read'):
    array_files.unpacked('mine', zipped(zipfile.ZIP_STORED, **{'a.npy': content}))
  (tmp_path / 'a.npy').write_bytes(content)
  with pytest.raises(ValueError, match=r'a\.npy is not a readable \.npy file'):
    array_files.read_npy(tmp_path / 'a.npy')


def test_what_inflates_is_refused_before_it_takes_memory():
  bombs = [
    zipped(zipfile.ZIP_DEFLATED, **{'a.npy': npy((size,)) + bytes(2**27)}) for size in (4, 2**25)
  ]
  declared = {'a': {'shape': [4], 'dtype': 'float32'}}
  tracemalloc.start()
  for bomb, expected in itertools.product(bombs, (None, declared)):
    with pytest.raises(ValueError, match='mine cannot be read'):
      array_files.unpacked('mine', bomb, expected)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 2**24


@pytest.mark.parametrize(
  'changes',
  [{'a': {'shape': [4], 'dtype': 'float32'}}, {'a': {'shape': [3], 'dtype': '>f4'}}, {'b': {}}],
)
def test_other_arrays_than_declared_are_refused(changes):
  with pytest.raises(ValueError, match='mine cannot be read'):
    array_files.unpacked('mine', array_files.packed(ARRAYS), DECLARED | changes)


@pytest.mark.parametrize('kind', ['a folder', 'a pipe', 'a device', 'nothing'])
def test_only_files_that_end_are_read(tmp_path, kind):
  path = tmp_path / 'a'
  make = {'a folder': path.mkdir, 'a pipe': lambda: os.mkfifo(path)}
  make.get(kind, lambda: None)()
  path = pathlib.Path('/dev/zero') if kind == 'a device' else path
  for read in (files.read_bytes, files.read_json, array_files.read_npz, array_files.read_npy):
    with pytest.raises(ValueError, match='missing' if kind == 'nothing' else 'give a file'):
      read(path)


def test_a_name_of_a_manifest_stays_in_the_folder(tmp_path):
  (tmp_path / 'in').mkdir()
  for path in (tmp_path / 'out', tmp_path / 'in' / 'a'):
    path.write_bytes(b'')
  (tmp_path / 'in' / 'near').symlink_to('a')
  (tmp_path / 'in' / 'far').symlink_to(tmp_path / 'out')
  for name in ('a', 'near'):
    assert files.within(tmp_path / 'in', name) == tmp_path / 'in' / name
  for name in ('../out', str(tmp_path / 'out'), 'b/../../out', '..\\out', ''):
    with pytest.raises(ValueError, match='outside of the folder'):
      files.within(tmp_path / 'in', name)
  with pytest.raises(ValueError, match='far leads out of'):
    files.within(tmp_path / 'in', 'far')
  with pytest.raises(ValueError, match='none is missing'):
    files.within(tmp_path / 'in', 'none')


def test_a_full_disk_is_known_by_whatever_tells_of_it():
  full = [
    OSError(errno.ENOSPC, 'x'),
    OSError(errno.EDQUOT, 'x'),
    ValueError("RESOURCE_EXHAUSTED: No space left on device [os_error_code='28']"),
  ]
  later = RuntimeError('later')
  later.__context__ = full[0]
  assert all(map(files.is_disk_full, [*full, later]))
  assert not any(map(files.is_disk_full, [OSError(errno.ENOENT, 'x'), ValueError('space'), None]))


def test_only_what_is_known_is_replaced(tmp_path):
  names, folder = ('about.json', 'arrays.npz'), tmp_path / 'made'
  files.check_replaceable(folder, names)
  folder.mkdir()
  files.check_replaceable(folder, names)
  (folder / 'arrays.npz').touch()
  with pytest.raises(ValueError, match=r'holds no about\.json'):
    files.check_replaceable(folder, names)
  (folder / 'about.json').touch()
  files.check_replaceable(folder, names)
  (folder / 'letter.txt').touch()
  with pytest.raises(ValueError, match=r'holds letter\.txt, which would be lost'):
    files.check_replaceable(folder, names)
  with pytest.raises(ValueError, match=r'holds letter\.txt'):
    files.check_replaceable(folder / 'letter.txt', names)


def test_numbers_that_numpy_has_no_name_for_are_refused():
  with pytest.raises(ValueError, match='arrays b are of a dtype that no npz file has'):
    array_files.packed({'a': np.zeros(2), 'b': np.zeros(2, jnp.bfloat16)})
