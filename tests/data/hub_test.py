"""Local folders of a data set: numbered parts are joined, copies are refused."""

import huggingface_hub
import pandas as pd
import pytest

from metapers.data import hub, reward_models, reward_scorer


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


def test_a_hub_that_is_away_is_asked_once_and_the_ways_out_are_named(tmp_path, monkeypatch):
  asked = []

  def away(*given, **options):
    asked.append(given)
    raise ConnectionError('no route')

  monkeypatch.setattr(huggingface_hub, 'model_info', away)
  hub.require_model(str(tmp_path))
  model = reward_models.RewardModel('encoder', 'nobody/nothing', template='plain', pooling='mean')
  with pytest.raises(ValueError, match=r'no route\. .*encoder\.model=FOLDER.*config\.syntax=True'):
    reward_scorer.read_tokenizer(model, reward_models.Options())
  with pytest.raises(ValueError, match='no route') as raised:
    reward_scorer.read_tokenizer(model._replace(pooling='score'), reward_models.Options())
  assert 'encoder' not in str(raised.value).partition('no route')[2]
  assert asked == [('nobody/nothing',)] * 2
