"""Local folders of a data set: numbered parts are joined, copies are refused."""

import pandas as pd
import pytest

from metapers.data import hub


def save(folder, name, start):
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  frame = pd.DataFrame({'x': [f'{start}', f'{start + 1}']})
  if path.suffix == '.parquet':
    frame.to_parquet(path)
  else:
    frame.to_json(path, orient='records', lines=True)


def test_numbered_parts_are_joined_in_their_order(tmp_path):
  save(tmp_path, 'train-00001-of-00002.parquet', 2)
  save(tmp_path, 'train-00000-of-00002.parquet', 0)
  assert hub.read_local(tmp_path, 'train')['x'].tolist() == ['0', '1', '2', '3']


@pytest.mark.parametrize(
  ('names', 'starts'),
  [
    (('train.parquet', 'train.jsonl'), (0, 0)),
    (('a/train.parquet', 'b/train.parquet'), (0, 2)),
    (('train (1).parquet', 'train.parquet'), (0, 2)),
    (('train-0.parquet', 'train-1.parquet'), (0, 0)),
  ],
)
def test_copies_of_a_split_are_refused_by_name(tmp_path, names, starts):
  for name, start in zip(names, starts, strict=True):
    save(tmp_path, name, start)
  with pytest.raises(ValueError) as raised:
    hub.read_local(tmp_path, 'train')
  assert all(name in str(raised.value) for name in names)
