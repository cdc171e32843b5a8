"""Answers in a study of in-context learning: written once, scored by users' own weights."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.analysis import slates
from metapers.bench.language import in_context as studies
from metapers.bench.language import in_context_answers as answers
from metapers.bench.language.in_context import ZERO, Row, Sizes
from metapers.bench.language.in_context_answers import Prices
from metapers.data import synthetic
from metapers.io import chat, responses
from metapers.io.responses import Wanted
from metapers.llm import decoder, generate, prompting
from metapers.llm.chat_tokens import ChatTokens
from metapers.llm.layers import Config

SIZES = Sizes(num_users=10, num_queries=2, num_history=4, num_known=20, num_neighbors=2)
WINNING = Row('own', 'winning', 2)
ROWS = [ZERO, WINNING]
NUM_TOKENS, END = 6, 7


class Letters:
  """A stand-in for a tokenizer: a token for each letter."""

  all_special_ids, added_tokens_decoder, unk_token_id = (), {}, None

  def __call__(self, text, **options):
    return {'input_ids': [ord(letter) for letter in text]}

  def decode(self, tokens, **options):
    return ''.join(chr(32 + token % 90) for token in tokens if token != END)


CHAT = ChatTokens(Letters(), before=(1,), after=(2,), end=(END,))
MODEL = decoder.decoder(
  Config(vocab_size=128, width=8, hidden=8, num_layers=1, num_heads=1, num_key_heads=1, head_size=8)
)
PARAMS = jax.tree.map(lambda x: 5 * x, MODEL.init(jax.random.key(0)))


@pytest.fixture(scope='module')
def table():
  return synthetic.synthetic_store(num_prompts=60)


@pytest.fixture(scope='module')
def study(table):
  train, test = (slates.slates_of(table, split=split) for split in ('train', 'test'))
  return studies.draw(train, test, 0.05, SIZES, seed=0)


@pytest.fixture(scope='module')
def texts():
  prompts = np.array([f'q{number}' for number in range(60)], object)
  replies = [[f'r{number}.{one}' for one in range(8)] for number in range(60)]
  return studies.Texts(prompts, np.array(replies, object))


@pytest.fixture(scope='module')
def asked(study, texts):
  return answers.messages(study, ROWS, texts, SIZES, lambda text: len(CHAT.prompt(text)), most=350)


def test_each_message_is_asked_once_and_is_that_of_its_cell(study, texts, asked):
  assert len(set(asked.texts)) == len(asked.texts) < asked.index.size
  for user, query in np.ndindex(10, 2):
    question = texts.prompts[study.test.rows[study.queries.prompts[user, query]]]
    assert asked.texts[asked.index[0, user, query]] == question
    shown = asked.texts[asked.index[1, user, query]]
    assert shown.endswith(question) and 'liked' in shown
  assert (asked.num_dropped[0] == 0).all()


def test_examples_that_do_not_fit_are_counted(study, texts):
  found = answers.messages(study, ROWS, texts, SIZES, len, most=240)
  assert (found.num_dropped[1] > 0).any()
  with pytest.raises(ValueError, match='does not fit'):
    answers.messages(study, ROWS, texts, SIZES, lambda text: 999, most=240)


def written(asked, path, **options):
  journal = responses.Journal(path, {'study': 1})
  answers.write(
    MODEL, PARAMS, CHAT, asked, journal, name='m', num_tokens=NUM_TOKENS, batch_size=3, **options
  )
  journal.close()
  return journal.answers


def test_answers_are_those_of_the_model_and_outlive_a_kill(tmp_path):
  given, path = [f'question {n * "x"}' for n in range(7)], tmp_path / 'journal.jsonl'
  found = written(given, path)
  alone = generate.generator(MODEL, num_tokens=NUM_TOKENS, end_tokens=(END,))
  for row, text in enumerate(given):
    tokens, mask = prompting.padded([CHAT.prompt(text)], side='left', length=64)
    inputs = prompting.Inputs(MODEL.embed(PARAMS, jnp.asarray(tokens)), jnp.asarray(mask))
    own = alone(PARAMS, inputs, jax.random.key(0))
    expected = np.asarray(own.tokens[0])[np.asarray(own.mask[0])]
    assert found[Wanted(row, 'm')].text == Letters().decode(expected).strip()
    assert found[Wanted(row, 'm')].usage['prompt_tokens'] == len(text) + 2
  lines = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(b''.join(lines[:4]) + lines[4][:9])
  counts = []
  assert written(given, path, ended=lambda: counts.append(1)) == found
  assert len(counts) == len(given) - 3


def test_what_ends_an_answer_is_told_and_not_shown():
  whole = answers.completion(CHAT, [40, 41, END], 5, 'm')
  cut = answers.completion(CHAT, [40, 41], 5, 'm')
  assert whole.finish_reason == 'stop' and cut.finish_reason == 'length'
  assert whole.text == cut.text == Letters().decode([40, 41])


def replies(asked):
  usage = {'prompt_tokens': 10, 'completion_tokens': 4}
  return {
    row: chat.Completion(f'answer {row}', 'stop', 'm', usage) for row in range(len(asked.texts))
  }


def test_a_table_holds_a_query_a_row_and_a_row_a_response(study, texts, asked):
  found = replies(asked)
  del found[0]
  frame = answers.table(study, ROWS, texts, asked, found)
  assert len(frame) == 20 and frame['prompt_id'].is_unique
  assert frame['response_2_model'][0] == 'own:winning:2'
  at = asked.index[1, 3, 1]
  assert frame['response_2'][3 * 2 + 1] == f'answer {at}'
  assert frame['response_1'][0] == ''  # the one that failed
  costs = answers.costs_of(ROWS, asked, found, Prices(1.0, 10.0))
  unique = len(np.unique(asked.index[0]))
  assert costs[0]['prompt_tokens'] == 10 * (unique - 1) and costs[0]['num_empty'] == 1
  assert costs[0]['cost'] == pytest.approx((unique - 1) * (10 + 40) / 1e6)


def test_answers_that_were_cut_are_counted(study, texts, asked):
  found = replies(asked)
  cut, alone = asked.index[1, 3, 1], asked.index[0, 0, 0]
  for row in (cut, alone):
    found[row] = found[row]._replace(finish_reason='length')
  costs = answers.costs_of(ROWS, asked, found, Prices())
  assert [each['num_cut'] for each in costs] == [1, 1]
  frame = answers.measured(study, ROWS, np.zeros((2, 10, 2)), {}, costs, num_resamples=20)
  assert (frame['num_cut'] == 1).all()


def test_scores_of_other_answers_are_refused(study, texts, asked):
  """Also where both are of one shape, as of two runs with other models."""
  frame = answers.table(study, ROWS, texts, asked, replies(asked))
  scored = studies.Texts(
    frame['prompt'].to_numpy(), frame[['response_1', 'response_2']].to_numpy(object)
  )
  answers.check_answers(scored, frame)
  other = scored.responses.copy()
  other[7, 1] = 'of another run'
  with pytest.raises(ValueError, match=r"row 7 .*'of another run'.*'answer \d+'.*extract it anew"):
    answers.check_answers(scored._replace(responses=other), frame)
  with pytest.raises(ValueError, match='of other answers: row 0'):
    answers.check_answers(scored._replace(prompts=scored.prompts[::-1]), frame)
  for few in (scored._replace(responses=other[:, :1]), studies.Texts(*(x[:6] for x in scored))):
    with pytest.raises(ValueError, match='of other answers'):
      answers.check_answers(few, frame)


def scored_like(table, rewards):
  return table._replace(rewards=rewards, mask=np.isfinite(rewards).all(-1))


def test_rewards_are_users_weights_times_z_scores_of_the_store(study, table):
  raw = np.random.default_rng(0).normal(size=(20, 2, len(table.reward_models)))
  order = table.reward_models[::-1]
  scored = scored_like(table, raw)._replace(reward_models=order)
  found = answers.rewards(study, scored, table, 2)
  z = (raw[7, 1, ::-1] - table.mean) / table.std
  assert found[1, 3, 1] == pytest.approx(z @ study.weights[3], rel=1e-4)
  with pytest.raises(ValueError, match='extract answers'):
    answers.rewards(study, scored, table, 3)


def test_a_reply_of_the_store_gets_the_reward_that_the_store_gives_it(study, table):
  """So that answers and references are on one scale."""
  rows = study.test.rows[study.queries.prompts.reshape(-1)]
  found = answers.rewards(study, scored_like(table, table.rewards[rows]), table, 8)
  best = studies.references(study, study.test, '')['best']
  np.testing.assert_allclose(found.max(0), best, rtol=1e-4)
  name = study.test.response_models[2]
  own = studies.references(study, study.test, name)[name]
  by_model = np.moveaxis(found, 0, -1)
  is_own = study.test.response_model[study.queries.prompts] == 2
  np.testing.assert_allclose(own, by_model[is_own].reshape(10, 2), rtol=1e-4)
  with pytest.raises(ValueError, match='unknown rival'):
    studies.references(study, study.test, 'nobody')


def test_references_may_be_replies_that_are_too_long_for_the_study(table):
  train, test = (slates.slates_of(table, split=split) for split in ('train', 'test'))
  best = test.scores['z'].sum(-1).argmax(1)
  is_best = np.arange(8) == best[:, None]
  cut = studies.shortened(test, np.where(is_best, 90, 5), 50).only(np.arange(len(best)) % 2 == 1)
  study = studies.draw(train, cut, 1e6, SIZES, seed=0)  # all of whom weigh rewards alike
  rows = study.test.rows[study.queries.prompts]
  z = answers.rewards(study, scored_like(table, table.rewards[rows.reshape(-1)]), table, 8)
  number = test.response_model[np.flatnonzero(test.rows == rows[0, 0])[0], z[:, 0, 0].argmax()]
  name = test.response_models[number]
  found = studies.references(study, test, name)
  np.testing.assert_allclose(found['best'], z.max(0), rtol=1e-4)
  assert found[name][0, 0] == pytest.approx(z[:, 0, 0].max(), rel=1e-4)


def test_wins_ties_losses_and_paired_differences(study, asked):
  rng = np.random.default_rng(0)
  zero = rng.normal(size=(10, 2))
  found = np.stack([zero, zero + 0.5])
  rival = zero + np.where(rng.random((10, 2)) < 0.5, 1.0, 0.5)
  found[0, 4, 1] = np.nan
  costs = answers.costs_of(ROWS, asked, replies(asked), Prices())
  frame = answers.measured(study, ROWS, found, {'best': rival}, costs, num_resamples=200)
  shown = frame[frame['row'] == 'own:winning:2'].set_index('metric')
  difference = shown.loc['reward_minus_zero_shot']
  assert difference['value'] == pytest.approx(0.5, abs=1e-6) and difference['num_queries'] == 19
  there = ~np.isnan(found).any(0)
  per_user = [np.mean(np.isclose(rival - zero, 0.5)[user][there[user]]) for user in range(10)]
  assert shown.loc['tie_against_best', 'value'] == pytest.approx(np.mean(per_user), abs=1e-6)
  assert shown.loc['win_against_best', 'value'] == pytest.approx(0, abs=1e-6)
  lines = [f'{m}_against_best' for m in ('win', 'tie', 'loss')]
  assert shown.loc[lines, 'value'].sum() == pytest.approx(1, abs=1e-6)
  paired = shown.loc['reward_minus_best']
  assert paired['smallest_shown'] == pytest.approx(
    1.43 * (paired['ci_high'] - paired['ci_low']) / 2, rel=1e-6
  )
  assert any('own:winning:2' in line for line in answers.in_words(frame, ['best']))


def test_scores_by_models_that_were_run_otherwise_are_refused(table):
  made = 'extract {"options": {"dtype": "%s"}, "versions": {"a": "1"}}'
  alike = {'scored': made % 'float32', 'store': made % 'float32'}
  answers.check_scored(table, table, alike)
  answers.check_scored(table, table, {'scored': made % 'float32', 'store': 'by hand'})
  with pytest.raises(ValueError, match=r'options.*float32.*bfloat16'):
    answers.check_scored(table, table, alike | {'store': made % 'bfloat16'})
  few = table._replace(reward_models=('x', *table.reward_models[1:]))
  with pytest.raises(ValueError, match=table.reward_models[0]):
    answers.check_scored(few, table, alike)


def test_scores_by_an_edited_model_of_the_same_name_are_refused(table):
  name, spec = table.reward_models[0], {'template': 'chat', 'sign': 1.0, 'key_mapping': None}

  def made(**models):
    return 'extract ' + json.dumps({'options': {}, 'versions': {name: '1'}, **models})

  plain = made(models={name: spec, 'encoder': {'pooling': 'mean'}})
  other_encoder = made(models={name: spec, 'encoder': {'pooling': 'cls'}})
  edited = made(models={name: spec | {'sign': -1.0}})
  answers.check_scored(table, table, {'scored': plain, 'store': plain})
  answers.check_scored(table, table, {'scored': plain, 'store': made()})  # an older store
  answers.check_scored(table, table, {'scored': other_encoder, 'store': plain})  # scores nothing
  for scored in (edited, made()):
    with pytest.raises(ValueError, match=rf'model {name}: .* for .*extract them by the config'):
      answers.check_scored(table, table, {'scored': scored, 'store': plain})
