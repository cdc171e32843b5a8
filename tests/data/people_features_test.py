"""Texts that people chose among become features of their items, read by default."""

import json

import numpy as np
import pandas as pd
import pytest
from absl import logging

from metapers.data import comparisons, extracted, sources
from metapers.data.extraction import Extraction
from metapers.data.reward_models import Options, RewardModel
from metapers.data.reward_scorer import Scorer
from metapers.testing import tiny_models

TEXTS = [f'w{n} w{n + 1} w{2 * n}' for n in range(8)]


@pytest.fixture
def folder(tmp_path):
  items = pd.DataFrame({'item_id': [f'0{n}' for n in range(8)], 'text': TEXTS})
  items.to_csv(tmp_path / 'items.csv', index=False)
  rows = [('ann', '01', '02'), ('ann', '03', '04'), ('bob', '05', '06'), ('bob', '07', '00')]
  frame = pd.DataFrame(rows, columns=['user_id', 'chosen', 'rejected'])
  frame.to_csv(tmp_path / 'comparisons.csv', index=False)
  return tmp_path


def encoder(tmp_path, template='plain'):
  model = tiny_models.save_model(tmp_path / 'model', 'deberta-v2')
  return RewardModel('encoder', model, template=template, pooling='mean')


def extract(folder, template='plain'):
  wanted = Extraction(sources.read_items(folder), (encoder(folder, template),), prompts_per_shard=3)
  assert extracted.extract(wanted, folder / 'features.npy')


def change_items(folder, change):
  items = pd.read_csv(folder / 'items.csv', dtype=str)
  change(items).to_csv(folder / 'items.csv', index=False)


def test_texts_that_are_not_read_are_said(folder, monkeypatch):
  said = []
  monkeypatch.setattr(logging, 'warning', lambda form, *values: said.append(form % values))
  found = comparisons.load_comparisons(str(folder))
  assert found.identity
  assert len(said) == 1 and 'extract_people.py' in said[0] and str(folder) in said[0]


def test_features_made_of_texts_are_those_of_the_encoder_and_read_by_default(folder, tmp_path):
  model = encoder(tmp_path)
  wanted = Extraction(sources.read_items(folder), (model,), prompts_per_shard=3)
  assert extracted.extract(wanted, folder / 'features.npy')
  found = comparisons.load_comparisons(str(folder))
  expected = Scorer(model, Options())([''] * 8, TEXTS).features
  assert not found.identity and found.features.shape == (8, 32)
  np.testing.assert_allclose(found.features, expected, atol=2e-3)
  assert 'encoder' in (folder / 'features.json').read_text()


@pytest.mark.parametrize(
  ('change', 'column'),
  [
    (lambda items: items[::-1], 'item_id and text'),
    (lambda items: items.replace(TEXTS[3], 'w1'), 'text'),
    (lambda items: items.assign(item_id=items['item_id'][::-1].to_numpy()), 'item_id'),
  ],
  ids=['reordered', 'edited', 'renamed'],
)
def test_features_of_other_items_are_refused(folder, change, column):
  extract(folder)
  before = comparisons.load_comparisons(str(folder))
  change_items(folder, change)
  remedy = r'remove features\.npy and features\.npy\.parts, and extract them anew'
  with pytest.raises(ValueError, match=rf'features\.npy .* whose {column} .*{remedy}'):
    comparisons.load_comparisons(str(folder))
  about = json.loads((folder / 'features.json').read_text())
  del about['items']  # as it was before items were recorded
  (folder / 'features.json').write_text(json.dumps(about))
  found = comparisons.load_comparisons(str(folder))
  np.testing.assert_array_equal(found.features, before.features)


@pytest.mark.parametrize('template', ['plain', 'user_assistant'])
def test_the_context_of_items_must_be_that_which_the_encoder_read(folder, template):
  change_items(folder, lambda items: items.assign(context='w9'))
  extract(folder, template)
  comparisons.load_comparisons(str(folder))
  change_items(folder, lambda items: items.assign(context='w8'))
  if template == 'plain':  # which reads none
    comparisons.load_comparisons(str(folder))
  else:
    with pytest.raises(ValueError, match='whose context '):
      comparisons.load_comparisons(str(folder))


def test_two_kinds_of_features_must_be_chosen_among(folder):
  np.save(folder / 'features.npy', np.ones((8, 2), np.float32))
  items = pd.read_csv(folder / 'items.csv', dtype=str).assign(price=1.5)
  items.to_csv(folder / 'items.csv', index=False)
  with pytest.raises(ValueError, match=r"features='features\.npy', or as columns"):
    comparisons.load_comparisons(str(folder))
  assert comparisons.load_comparisons(str(folder), features=('price',)).features.shape == (8, 1)


def test_without_text_or_encoder_there_are_no_features(folder):
  wanted = Extraction(sources.read_items(folder), constructed=('length',))
  with pytest.raises(ValueError, match='no encoder was given'):
    extracted.extract(wanted, folder / 'features.npy')
  items = pd.read_csv(folder / 'items.csv', dtype=str)
  items.drop(columns='text').to_csv(folder / 'items.csv', index=False)
  with pytest.raises(ValueError, match=r"lacks the columns \['text'\]"):
    sources.read_source('people', path=str(folder))


@pytest.mark.parametrize(
  'values',
  [
    np.zeros((8, 1), [('x', '<f4')]),
    np.full((8, 1), 'a'),
    np.ones((8, 1), complex),
    np.array([[{}]] * 8),
    np.ones(8),
  ],
  ids=['struct', 'text', 'complex', 'objects', 'one row'],
)
def test_features_that_are_no_numbers_are_refused(folder, values):
  np.save(folder / 'features.npy', values)
  with pytest.raises(ValueError, match=r'features\.npy'):
    comparisons.load_comparisons(str(folder))
