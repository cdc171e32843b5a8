"""New texts get the features that they would have had among a folder's items."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from metapers import features_of
from metapers.data import extracted, people_tables, sources, text_features
from metapers.data.extraction import Extraction
from metapers.data.reward_models import RewardModel
from metapers.testing import tiny_models

TEXTS = [f'w{n} w{n + 1} w{2 * n}' for n in range(8)]
PROMPTS = [f'w{9 - n}' for n in range(8)]


@pytest.fixture
def make(tmp_path):
  """Makes a folder of items, with features by an encoder, by the syntax or by both."""

  def make(*, encoder=True, syntax=False, template='plain'):
    folder = tmp_path / 'mine'
    folder.mkdir()
    items = pd.DataFrame({'item_id': range(8), 'context': PROMPTS, 'text': TEXTS})
    items.to_csv(folder / 'items.csv', index=False)
    rows = [(user, n, n) for user in 'ab' for n in range(4)]
    frame = pd.DataFrame(rows, columns=['user_id', 'item_id', 'rating'])
    frame.to_csv(folder / 'ratings.csv', index=False)
    models = []
    if encoder:
      path = tiny_models.save_model(tmp_path / 'model', 'deberta-v2')
      models = [RewardModel('encoder', path, template=template, pooling='mean')]
    wanted = Extraction(sources.read_items(folder), models, syntax=syntax, prompts_per_shard=3)
    assert extracted.extract(wanted, folder / 'features.npy')
    return folder

  yield make
  text_features._scorers.cache_clear()


@pytest.mark.parametrize('given', [{}, {'syntax': True}, {'encoder': False, 'syntax': True}])
def test_features_are_those_of_the_same_texts_as_items(make, given):
  folder = make(**given)
  kept = np.load(folder / 'features.npy').astype(np.float32)
  found = features_of(folder, [TEXTS[5], TEXTS[2]])
  assert found.dtype == np.float32 and found.shape == (2, kept.shape[1])
  np.testing.assert_allclose(found, kept[[5, 2]], atol=2e-3)
  new = features_of(folder, ('w7 w3 is new',))
  assert np.abs(new - kept).max(1).min() > 0.01


def test_prompts_are_read_where_the_encoder_read_them(make):
  folder = make(template='user_assistant')
  kept = np.load(folder / 'features.npy')
  found = features_of(folder, TEXTS[:2], prompts=PROMPTS[:2])
  np.testing.assert_allclose(found, kept[:2], atol=2e-3)
  with pytest.raises(ValueError, match='read prompts, too: give prompts='):
    features_of(folder, TEXTS[:2])


def test_an_encoder_that_has_moved_is_given_and_another_one_refused(make, tmp_path):
  folder = make()
  shutil.move(tmp_path / 'model', tmp_path / 'moved')
  with pytest.raises(ValueError, match='cannot load the tokenizer'):
    features_of(folder, TEXTS)
  found = features_of(folder, TEXTS, encoder=tmp_path / 'moved')
  np.testing.assert_allclose(found, np.load(folder / 'features.npy'), atol=2e-3)
  other = tiny_models.save_model(tmp_path / 'other', 'deberta-v2')
  config = json.loads((tmp_path / 'other/config.json').read_text())
  (tmp_path / 'other/config.json').write_text(json.dumps(config | {'changed': 1}))
  with pytest.raises(ValueError, match=r'encoder is sha256 .* were made by sha256 .*encoder='):
    features_of(folder, TEXTS, encoder=other)


def test_what_cannot_be_done_is_refused(make):
  folder = make(encoder=False, syntax=True)
  for given, message in (
    ('one text', 'give a list of texts, one at least'),
    ([], 'give a list of texts'),
    (['a', ' '], r'texts \[1\] are empty'),
    ([7], 'row 0, text: expected text or messages, got int'),
  ):
    with pytest.raises(ValueError, match=message):
      features_of(folder, given)
  with pytest.raises(ValueError, match='as many prompts as texts, 1'):
    features_of(folder, ['a'], prompts=['b', 'c'])
  with pytest.raises(ValueError, match='syntactic features alone'):
    features_of(folder, ['a'], encoder='somewhere')
  np.save(folder / 'features.npy', np.ones((8, 3), np.float32))
  with pytest.raises(ValueError, match=r'has 3 columns, not those .*extract_people\.py'):
    features_of(folder, ['a'])
  about = json.loads((folder / 'features.json').read_text())
  del about['features_made_by']  # as before it was recorded
  (folder / 'features.json').write_text(json.dumps(about))
  with pytest.raises(ValueError, match='does not say by what'):
    features_of(folder, ['a'])
  items = people_tables.read_items(folder)  # which are read as ever
  assert people_tables.read_features(None, items, folder).values.shape == (8, 3)
  (folder / 'features.json').unlink()
  with pytest.raises(ValueError, match=r'holds no features\.npy with features\.json'):
    features_of(folder, ['a'])
