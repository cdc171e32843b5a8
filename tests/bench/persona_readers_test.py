"""Models that read personas: what they are asked, and that nothing is asked twice."""

import numpy as np
import pytest
import torch
import transformers
from fake_endpoint import answer

from metapers.analysis import persona_users
from metapers.bench.studies import persona_readers
from metapers.bench.studies.persona_readers import Asked, Cell
from metapers.data import reward_models, reward_scorer
from metapers.llm import chat_tokens
from metapers.testing import tiny_models

torch.set_num_threads(1)
MASK = np.array([[True, True, True], [True, False, True]])
RESPONSES = np.array([['w1 w2', 'w3', 'w4 w5 w6'], ['w7', '', 'w8 w9']], object)
ASKED = Asked(('', 'w10 w11', 'w12'), ['w20 w21', 'w22'], RESPONSES, MASK, 5)
CHAT = (
  "{% for turn in messages %}<bos> {{ turn['role'] }} {{ turn['content'] }} <eos>{% endfor %}"
  '{% if add_generation_prompt %}<bos> assistant {% endif %}'
)


def of(form, asked=ASKED):
  return persona_readers.reader(form)[1](asked)


@pytest.mark.parametrize('form', ['decoder', 'decoder=', 'oracle=x', 'endpoint=model'])
def test_readers_of_another_form_are_refused(form):
  with pytest.raises(ValueError, match='a reader of personas is given as decoder=FOLDER'):
    persona_readers.reader(form)


def test_a_reward_model_scores_responses_to_a_prompt_with_the_persona_before_it(tmp_path):
  folder = tiny_models.save_model(tmp_path / 'llama', 'llama')
  made = of(f'reward_model={folder}')
  found = persona_readers.collect(made, ASKED, tmp_path / 'journal.jsonl')
  alone = reward_scorer.Scorer(reward_models.RewardModel('x', folder), reward_models.Options())
  for voter, prompt, response in np.ndindex(found.shape):
    if not MASK[prompt, response]:
      assert np.isnan(found[voter, prompt, response])
      continue
    told = persona_users.told(ASKED.personas[voter], ASKED.prompts[prompt])
    expected = alone([told], [RESPONSES[prompt, response]]).scores[0]
    assert found[voter, prompt, response] == pytest.approx(expected, abs=1e-4)
  assert list(made.utilities(found)) == ['personas by the reward model llama']


@pytest.fixture(scope='module')
def decoder_folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('models') / 'tiny'
  torch.manual_seed(0)
  config = transformers.AutoConfig.for_model(
    'llama', vocab_size=256, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
    num_attention_heads=2, max_position_embeddings=512,
  )  # fmt: skip
  transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
  tokenizer = tiny_models.tokenizer()
  tokenizer.chat_template = CHAT
  tokenizer.save_pretrained(folder)
  return folder


def test_a_decoder_gives_the_likelihood_that_transformers_gives(decoder_folder, tmp_path):
  made = of(f'decoder={decoder_folder}')
  found = persona_readers.collect(made, ASKED, tmp_path / 'journal.jsonl')
  model = transformers.AutoModelForCausalLM.from_pretrained(decoder_folder)
  chat = chat_tokens.of(transformers.AutoTokenizer.from_pretrained(decoder_folder))
  for voter, prompt, response in [(0, 0, 0), (1, 0, 2), (2, 1, 2)]:
    start, text = chat.prompt(ASKED.told(voter, prompt)), chat.response(RESPONSES[prompt, response])
    with torch.inference_mode():
      log_p = model(torch.tensor([[*start, *text]])).logits[0].log_softmax(-1)
    places = range(len(start) - 1, len(start) + len(text) - 1)
    expected = sum(float(log_p[place, token]) for place, token in zip(places, text))
    assert found[voter, prompt, response] == pytest.approx(expected, abs=1e-3)
  utilities = made.utilities(found)
  own = f'personas by the decoder tiny, {persona_users.PER_TOKEN}'
  assert utilities[own][1, 0, 2] == pytest.approx(found[1, 0, 2] / 4)  # three words and the end


def letter_before(text, response):
  lines = text.split('\n')
  return lines[lines.index(response) - 1].strip('[]')


@pytest.fixture
def endpoint(serve):
  """Whom w10 describes likes w3 and w7 best; whoever else says nothing that is a letter."""

  def behave(number, body):
    del number
    text = body['messages'][0]['content']
    liked = 'w3' if 'w20' in text else 'w7'
    told = f'{letter_before(text, liked)}.' if 'w10' in text else 'none of them'
    return 200, {}, answer(told)

  return serve(behave)


def form_of(endpoint):
  return f'endpoint=some-model@{endpoint.url}'


def test_a_chat_model_names_a_response_whatever_its_place(endpoint, tmp_path):
  made = of(form_of(endpoint))
  found = persona_readers.collect(made, ASKED, tmp_path / 'journal.jsonl')
  assert found[1, 0].tolist() == [0, 1, 0] and found[1, 1, [0, 2]].tolist() == [1, 0]
  assert np.isnan(found[[0, 2]]).all()
  assert len(endpoint.bodies) == 6 and sum('w10 w11' in str(body) for body in endpoint.bodies) == 2
  again = persona_readers.collect(made, ASKED, tmp_path / 'journal.jsonl')
  np.testing.assert_array_equal(again, found)
  assert len(endpoint.bodies) == 6 + 4  # what had no answer is asked again, and nothing else


def test_answers_are_found_again_by_what_was_asked(endpoint, tmp_path):
  path = tmp_path / 'journal.jsonl'
  persona_readers.collect(of(form_of(endpoint)), ASKED, path)
  other = ASKED._replace(personas=('w10 w11',), prompts=['w20 w21', 'w23'])
  found = persona_readers.collect(of(form_of(endpoint), other), other, path)
  assert found[0, 0].tolist() == [0, 1, 0]
  assert len(endpoint.bodies) == 6 + 1  # the second prompt is another one


def test_a_journal_of_another_reader_is_refused(endpoint, tmp_path):
  path = tmp_path / 'journal.jsonl'
  persona_readers.collect(of(form_of(endpoint)), ASKED, path)
  with pytest.raises(ValueError, match='asked for otherwise'):
    persona_readers.collect(of(form_of(endpoint).replace('some', 'other')), ASKED, path)


def test_orders_differ_by_persona_and_are_the_same_again():
  wide = Asked(('', 'a', 'b'), ['p'], np.full((1, 8), 'x', object), np.ones((1, 8), bool))
  orders = [persona_readers.order_of(wide, Cell(voter, 0)).tolist() for voter in (0, 1, 2, 1)]
  assert orders[1] == orders[3] and len(set(map(tuple, orders))) == 3


@pytest.mark.parametrize(
  ('text', 'place'),
  [('B', 1), ('[C]', 2), ('(a) A', 0), ('I like B most.', 1), ('D', None), ('A or B', 0),
   ('either B or C', None), ('', None)],
)  # fmt: skip
def test_letters_are_read_out_of_answers(text, place):
  assert persona_readers.letter_of(text, 3) == place
