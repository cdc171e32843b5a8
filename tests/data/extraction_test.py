"""Parts are made once, joined only if they agree, and hold nothing that was not scored."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metapers.data import (
  extracted,
  extraction,
  feature_store,
  reward_models,
  shards,
  sources,
  syntax,
  texts,
)
from metapers.data.extraction import Extraction
from metapers.data.reward_models import RewardModel, Scored
from metapers.data.sources import Source

FRAME = pd.DataFrame(
  {
    'prompt': [f'prompt {i}' for i in range(7)],
    'response_1': ['a', 'b', '', 'd', 'e', 'f', 'g'],
    'response_2': ['aa', texts.ERROR_TEXT, ' \n', 'dd', 'ee', 'ff', 'g'],
    'response_1_model': ['m'] * 7,
    'response_2_model': ['m', 'n'] * 3 + ['n'],
  }
)
READ = texts.from_frame(FRAME)


def lengths(prompts, responses):
  scores = np.array([len(response) for response in responses], np.float32)
  features = np.stack([scores, -scores], -1).astype(np.float16)
  return Scored(scores, features, sum(scores > 1), 'one')


def made(folder, names=('length',), score=lengths, **recipe):
  job = shards.claim_job(folder, {'model': 'length', **recipe})
  pieces = extraction.divide(names, 7, 3)
  for piece in pieces:
    shards.save_part(job, piece.name, extraction.make_part(score, READ, piece))
  return job, pieces


def test_texts_keep_their_models_and_say_what_is_left_out():
  assert READ.response_models == ('m', 'n')
  assert READ.response_model.tolist()[:2] == [[0, 0], [0, 1]]
  assert texts.left_out(READ) == (1, 2, 1, 0)


def test_only_readable_responses_are_scored(tmp_path):
  job, pieces = made(tmp_path / 'job')
  whole = extracted.join(job, pieces, READ)
  expected = np.array([[1, 2], [1, np.nan], [np.nan, np.nan], [1, 2], [1, 2], [1, 2], [1, 1]])
  np.testing.assert_array_equal(whole.scores['length'], expected.astype(np.float32))
  np.testing.assert_array_equal(whole.features[..., 0], np.nan_to_num(expected))
  assert (whole.num_truncated, whole.versions) == ({'length': 4}, {'length': 'one'})


def test_scores_that_are_not_finite_are_missing(tmp_path):
  def broken(prompts, responses):
    return Scored(np.full(len(responses), np.inf), None, 0, 'one')

  job, pieces = made(tmp_path / 'job', score=broken)
  assert np.isnan(extracted.join(job, pieces, READ).scores['length']).all()


def test_parts_have_the_same_bytes_whenever_they_are_made(tmp_path):
  first, pieces = made(tmp_path / 'first')
  second, _ = made(tmp_path / 'second')
  for piece in pieces:
    one, other = (shards.part_path(job, piece.name).read_bytes() for job in (first, second))
    assert one == other


def test_shares_divide_the_work():
  pieces = extraction.divide(('a', 'b'), 10, 3)
  parts = [extraction.share(pieces, f'{i}/3') for i in range(3)]
  assert sorted(piece for part in parts for piece in part) == sorted(pieces)
  assert sum(piece.stop - piece.start for piece in pieces) == 20


@pytest.mark.parametrize('text', ['', '3', '3/3', '-1/2', 'a/b', '0/0'])
def test_an_invalid_share_is_refused(text):
  with pytest.raises(ValueError, match='shard must be written i/n'):
    extraction.share([], text)


def test_merging_joins_what_several_machines_made(tmp_path):
  whole, pieces = made(tmp_path / 'whole')
  halves = []
  for i in range(2):
    halves.append(shards.claim_job(tmp_path / f'half {i}', whole.recipe))
    for piece in extraction.share(pieces, f'{i}/2'):
      shards.save_part(halves[i], piece.name, extraction.make_part(lengths, READ, piece))
  names = [piece.name for piece in pieces]
  with pytest.raises(ValueError, match='1 of 3 parts are in no folder, the first is length/000003'):
    shards.merge_parts(halves[0], [], names)
  shards.merge_parts(halves[0], [tmp_path / 'half 1'], names)
  for name in names:
    one, other = (shards.part_path(job, name).read_bytes() for job in (whole, halves[0]))
    assert one == other


def test_parts_made_otherwise_are_refused(tmp_path):
  job, pieces = made(tmp_path / 'job')
  other, _ = made(tmp_path / 'other', dtype='bfloat16')
  with pytest.raises(ValueError, match="dtype: 'bfloat16' there, None now"):
    shards.merge_parts(job, [other.folder], [piece.name for piece in pieces])
  with pytest.raises(ValueError, match='parts made otherwise'):
    shards.claim_job(job.folder, {'model': 'another'})
  with pytest.raises(ValueError, match='holds no parts'):
    shards.merge_parts(job, [tmp_path / 'nowhere'], [])


def test_parts_whose_texts_were_cut_by_another_rule_are_refused(tmp_path, monkeypatch):
  wanted = Extraction(Source(READ, {}, '', ''), [RewardModel('any', 'any')])
  job = shards.claim_job(tmp_path / 'job', extraction.recipe(wanted))
  shards.save_part(job, 'any/000000', {'num_truncated': np.array(0)})
  monkeypatch.setattr('metapers.data.reward_models.CUT', 'the end')
  with pytest.raises(ValueError, match=r'cut: .* there, .the end. now'):
    shards.claim_job(job.folder, extraction.recipe(wanted))
  plain = Extraction(Source(READ, {}, '', ''), constructed=['length'])
  assert 'cut' not in extraction.recipe(plain)  # reads texts whole


def test_parts_of_another_version_are_not_joined(tmp_path):
  job, pieces = made(tmp_path / 'job')
  part = shards.load_part(job, pieces[1].name) | {'version': np.array('two')}
  shards.save_part(job, pieces[1].name, part)
  with pytest.raises(ValueError, match='was made by two of length, others by one'):
    extracted.join(job, pieces, READ)


def test_features_of_two_models_stand_side_by_side_in_the_order_of_pieces(tmp_path):
  def three(prompts, responses):
    return lengths(prompts, responses)._replace(
      features=np.full((len(responses), 3), 7, np.float16)
    )

  job, pieces = made(tmp_path / 'job', names=('wide', 'length'))
  for piece in pieces[:3]:
    shards.save_part(job, piece.name, extraction.make_part(three, READ, piece))
  whole = extracted.join(job, pieces, READ)
  assert whole.features.shape == (7, 2, 5)
  np.testing.assert_array_equal(whole.features[..., 2], 7 * texts.readable(READ))
  np.testing.assert_array_equal(whole.features[..., 3], np.nan_to_num(whole.scores['length']))


def test_syntactic_features_stand_behind_those_of_an_encoder(tmp_path, monkeypatch):
  def encode(prompts, responses):
    return Scored(None, np.full((len(responses), 2), 5, np.float16), 0, 'one')

  usual = extraction.scorers_of
  monkeypatch.setattr(extraction, 'check_models', lambda wanted, pieces: None)
  monkeypatch.setattr(
    extraction,
    'scorers_of',
    lambda wanted, name, *rest: [encode] if name == 'encoder' else usual(wanted, name, *rest),
  )
  wanted = extracting(VARIED, models=[ENCODER], syntax=True, prompts_per_shard=2)
  assert extracted.extract(wanted, tmp_path / 'store')
  table = feature_store.open_store(tmp_path / 'store')
  expected = np.log1p(syntax.features(['dd', 'ee'])).astype(np.float16)
  np.testing.assert_array_equal(table.features[[3, 4], 1, 2:], expected)
  np.testing.assert_array_equal(table.features[[3, 4], 1, :2], 5)
  assert not np.any(table.features[2])  # of no text
  manifest = json.loads((tmp_path / 'store/manifest.json').read_text())
  assert (manifest['extractor'], manifest['revision']) == ('nowhere and syntax', 'one')


def test_parts_made_before_there_was_syntax_go_on():
  assert 'syntax' not in extraction.recipe(extracting({}))
  assert extraction.recipe(extracting({}, syntax=True))['syntax']


def test_one_encoder_makes_features(tmp_path):
  wanted = extracting(VARIED, models=[ENCODER, ENCODER._replace(name='other')])
  with pytest.raises(ValueError, match='made by one encoder; given are encoder and other'):
    extracted.extract(wanted, tmp_path / 'store')


def test_a_damaged_part_is_named(tmp_path):
  job, pieces = made(tmp_path / 'job')
  path = shards.part_path(job, pieces[0].name)
  path.write_bytes(path.read_bytes()[:50])
  with pytest.raises(ValueError, match=r'000000\.npz is damaged .* delete it and go on'):
    extracted.join(job, pieces, READ)


def test_a_full_disk_leaves_no_half_part(tmp_path, monkeypatch):
  job = shards.claim_job(tmp_path / 'job', {})

  def full(handle):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr('os.fsync', full)
  with pytest.raises(OSError, match='No space left'):
    shards.save_part(job, 'length/000000', {'x': np.zeros(3)})
  assert not [path for path in job.folder.rglob('*') if path.is_file() and path.name != 'job.json']


def test_a_folder_of_something_else_is_left_alone(tmp_path):
  (tmp_path / 'letter.txt').write_text('dear')
  with pytest.raises(ValueError, match=r'is not empty and holds no job\.json'):
    shards.claim_job(tmp_path, {})
  (tmp_path / 'job.json').write_text('{')
  with pytest.raises(ValueError, match='is not JSON'):
    shards.claim_job(tmp_path, {})


@settings(max_examples=40)
@given(st.lists(st.text(max_size=4), min_size=2, max_size=4))
def test_any_text_is_read_as_it_is(responses):
  frame = pd.DataFrame({'prompt': ['p', 'q', 'r'], 'responses': [responses] * 3})
  read = texts.from_frame(frame)
  assert read.responses.tolist() == [responses] * 3
  assert texts.readable(read)[0].tolist() == [bool(text.strip()) for text in responses]


@pytest.mark.parametrize(
  ('columns', 'message'),
  [
    ({'question': ['q']}, 'a column prompt is needed'),
    ({'prompt': ['q'], 'response_1': ['a']}, 'expected the columns prompt and response_1'),
    ({'prompt': ['q'], 'response_1': ['a'], 'response_3': ['b']}, 'expected the columns'),
    ({'prompt': ['q', 'r'], 'responses': [['a'], ['b', 'c']]}, 'the same number of entries'),
  ],
)
def test_tables_of_another_form_are_refused(columns, message):
  with pytest.raises(ValueError, match=message):
    texts.from_frame(pd.DataFrame(columns))


def test_the_recipe_is_plain_json(tmp_path):
  job, _ = made(tmp_path / 'job', seeds=(1, 2))
  assert json.loads((job.folder / 'job.json').read_text()) == job.recipe


SAME = {'flat': np.full((7, 2), 0.1, np.float32), 'fine': np.arange(14.0).reshape(7, 2)}
VARIED = {'fine': SAME['fine']}
ENCODER = RewardModel('encoder', 'nowhere', pooling='mean')


def extracting(scores, **fields):
  return Extraction(Source(READ, scores, 'made up', ''), **fields)


@pytest.mark.parametrize(
  ('wanted', 'name', 'message'),
  [
    (extracting(SAME), 'store', 'reward model flat gives every train response the same score'),
    (extracting({}), 'store', 'nothing scores these texts'),
    (extracting({}, models=[ENCODER]), 'store', 'nothing scores these texts'),
    (extracting({}, constructed=['length']), 'f.npy', 'no features can be made: no encoder'),
    (extracting({}, models=[ENCODER]), 'f.npy', r'items \[2\] have no text'),
    (extracting({}, constructed=['charm']), 'store', 'unknown constructed rewards charm'),
  ],
)
def test_what_would_be_no_store_is_refused_before_anything_is_made(tmp_path, wanted, name, message):
  if name == 'f.npy' and wanted.constructed:
    wanted = wanted._replace(source=wanted.source._replace(texts=ALL_READABLE))
  with pytest.raises(ValueError, match=message):
    extracted.extract(wanted, tmp_path / name)
  assert not list(tmp_path.iterdir())


ALL_READABLE = texts.from_frame(
  FRAME.assign(response_1=list('abcdefg'), response_2=[f'{letter}!' for letter in 'abcdefg'])
)


def test_a_reward_that_is_constant_is_named_before_others_are_made(tmp_path):
  wanted = extracting({}, constructed=['questions', 'length'])
  with pytest.raises(ValueError, match='reward model questions gives every train response'):
    extracted.extract(wanted, tmp_path / 'store')
  assert not list(tmp_path.glob('store.parts/length/*'))


def test_constructed_rewards_are_made_before_models_are_run():
  model = RewardModel('model', 'nowhere')
  wanted = extracting({}, models=[model], constructed=['length'])
  pieces = extraction.pieces_of(wanted)
  first, second = extraction.by_model(wanted, pieces)
  assert ({piece.model for piece in first}, {piece.model for piece in second}) == (
    {'length'},
    {'model'},
  )


@pytest.mark.parametrize(
  ('fields', 'package'),
  [({'models': [ENCODER]}, 'torch'), ({'constructed': ['length']}, 'textstat')],
)
def test_a_missing_extra_is_named_before_anything_is_made(tmp_path, monkeypatch, fields, package):
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(ValueError, match=rf"{package} is needed: pip install 'metapers\[extract\]'"):
    extracted.extract(extracting(VARIED, **fields), tmp_path / 'store')
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'fields',
  [
    {'constructed': ['length', 'lists']},
    {'models': [RewardModel('length', 'any')]},
    {'constructed': ['length'], 'models': [RewardModel('any', 'any', pooling='mean')]},
  ],
)
def test_scores_that_are_known_are_not_made_anew(tmp_path, fields):
  wanted = extracting(VARIED, **fields)
  known = {'length': np.arange(14, dtype=np.float32).reshape(7, 2), 'any': np.eye(7)[:, :2]}
  with pytest.raises(ValueError, match='scores length are known already'):
    extracted.extract(
      wanted._replace(source=wanted.source._replace(scores=known)), tmp_path / 'store'
    )
  assert not list(tmp_path.iterdir())


def test_the_tokenizers_of_models_to_be_run_are_read_at_first(tmp_path):
  models = [RewardModel(name, str(tmp_path / 'nowhere')) for name in ('first', 'second')]
  wanted = extracting({}, models=models)
  pieces = [piece for piece in extraction.pieces_of(wanted) if piece.model == 'second']
  with pytest.raises(ValueError, match='second: cannot load the tokenizer'):
    extraction.check_models(wanted, pieces)


def test_how_models_are_read_is_kept_without_the_places_of_their_folders(tmp_path):
  usual = {'sign': 1.0, 'pooling': 'score', 'key_mapping': None, 'ignored': [], 'label': ''}
  usual |= {'max_length': 0}
  models = [
    RewardModel('own', str(tmp_path), template='plain', sign=-1.0, key_mapping={'a': 'b'}),
    RewardModel('elsewhere', '/gone/model', tokenizer=str(tmp_path)),
    RewardModel('hub', 'org/model', 'abc', tokenizer='org/other', ignored=('x',)),
  ]
  wanted = extracting({}, models=models)
  about = extracted.provenance_of(wanted, extracted.Extracted({}, None, {}, {}), 'a.command')
  command, _, how = about.made_by.partition(' ')
  assert json.loads(how)['cut'] == reward_models.CUT
  assert command == 'a.command' and json.loads(how)['models'] == {
    'own': usual | {'tokenizer': '', 'template': 'plain', 'sign': -1.0, 'key_mapping': {'a': 'b'}},
    'elsewhere': usual | {'template': 'chat'},
    'hub': usual
    | {'model': 'org/model', 'tokenizer': 'org/other', 'template': 'chat', 'ignored': ['x']},
  }


def test_half_a_surrogate_pair_is_refused_where_it_is_read():
  frame = pd.DataFrame(
    {'prompt': ['p', 'q', 'r'], 'responses': [['a', 'b'], ['c', '\ud800'], ['d', 'e']]}
  )
  with pytest.raises(ValueError, match=r'row 1, response 2: .*half of a surrogate pair'):
    texts.from_frame(frame)


def test_scores_that_are_all_known_make_a_store_without_any_work(tmp_path):
  rng = np.random.default_rng(0)
  rows = {f'response_{i}': [f'{n} {i}' for n in range(20)] for i in (1, 2)}
  rows |= {f'response_{i}_known': rng.normal(size=20) for i in (1, 2)}
  frame = pd.DataFrame({'prompt': [f'{n}' for n in range(20)], **rows})
  wanted = Extraction(sources.read_texts(frame)._replace(name='known'))
  assert extracted.extract(wanted, tmp_path / 'store')
  assert feature_store.open_store(tmp_path / 'store').reward_models == ('known',)
  assert [path.name for path in tmp_path.iterdir()] == ['store']


def test_what_scores_is_refused_where_features_alone_are_made(tmp_path):
  source = Source(ALL_READABLE, {}, 'made up', '')
  wanted = Extraction(source, models=[ENCODER], constructed=['length'])
  with pytest.raises(ValueError, match=r'f\.npy holds features alone, and length would score'):
    extracted.extract(wanted, tmp_path / 'f.npy')
  assert not list(tmp_path.iterdir())
