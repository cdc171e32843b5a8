"""Constructed rewards order what they should, and are finite for anything."""

import math
import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metapers.data import constructed_rewards, sources

BETTER = {
  'length': ('It is a very long answer with many words in it.', 'Short.'),
  'brevity': (
    'It rains. We stay. You go.',
    'It rains and so we stay while you go out into it all.',
  ),
  'readability': (
    'The cat sat on the mat.',
    'Institutional considerations necessitate equivocation.',
  ),
  'lists': ('- one\n- two\n- **three**', 'one, two and three'),
  'formality': (
    'Considerable improvements were subsequently implemented.',
    "Yeah, it's kinda cool.",
  ),
  'sentiment': ('What a wonderful, happy idea.', 'What a terrible, sad mistake.'),
  'hedging': ('It may possibly rain, perhaps.', 'It rains now.'),
  'questions': ('Which one? Why do you ask?', 'This one.'),
  'vocabulary': ('red green blue black white', 'red red red red red'),
  'concreteness': (
    'He paid 3,000 in Berlin, for example.',
    'The realisation of ambition is a possibility.',
  ),
  'enthusiasm': ('Great! Go on!', 'Good. Go on.'),
  'directness': ('You can do it yourself.', 'One does it alone.'),
  'echo': ('the capital of France is Paris', 'it depends'),
}


@pytest.mark.parametrize('name', constructed_rewards.CONSTRUCTED)
def test_each_prefers_what_it_is_named_for(name):
  better, worse = BETTER[name]
  found = constructed_rewards.score([name], ['what is the capital of France'] * 2, [better, worse])
  assert found[0, 0] > found[1, 0]


def test_an_apostrophe_may_be_straight_or_curved():
  prompt, response = "Don't you know?", "I don't think you're right, but it's good that you'd ask."
  for name, reward in constructed_rewards.CONSTRUCTED.items():
    curved = [text.replace("'", '\u2019') for text in (prompt, response)]
    assert reward(*curved) == reward(prompt, response), name
  assert constructed_rewards.formality('', response) < -2


@settings(max_examples=100)
@given(st.text(max_size=60), st.text(min_size=1, max_size=300))
def test_any_text_has_finite_scores_and_always_the_same(prompt, response):
  for reward in constructed_rewards.CONSTRUCTED.values():
    value = reward(prompt, response)
    assert math.isfinite(value)
    assert value == reward(prompt, response)


@pytest.mark.parametrize(
  'response',
  ['', '\n', '\ud800', '日本語' * 5000, 'a' * 20_000, '- ' * 9000, '?!' * 9000, '1' * 20_000],
)
def test_extreme_texts_have_finite_scores(response):
  names = list(constructed_rewards.CONSTRUCTED)
  assert np.isfinite(constructed_rewards.score(names, ['why'], [response])).all()


@pytest.mark.parametrize('response', ['\n' * 20_000, '.' * 20_000 + 'a'])
def test_long_runs_of_one_mark_do_not_take_quadratic_time(response):
  started = time.process_time()
  constructed_rewards.score(list(constructed_rewards.CONSTRUCTED), ['why'], [response])
  assert time.process_time() - started < 1.5  # seconds; quadratic patterns take 3 to 10


def test_columns_stand_in_the_order_of_the_names():
  found = constructed_rewards.score(['questions', 'length'], ['p'] * 3, ['a?', 'b', 'cc'])
  assert found.shape == (3, 2)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found[:, 1], np.log1p([2, 1, 2]), rtol=1e-6)


def test_unknown_names_list_the_known():
  with pytest.raises(
    ValueError, match=r'unknown constructed rewards charm; known: length, brevity'
  ):
    constructed_rewards.score(['length', 'charm'], ['p'], ['r'])


@pytest.mark.skipif(not os.environ.get('METAPERS_ALPACA8'), reason='METAPERS_ALPACA8 is not set')
def test_on_real_answers_no_two_measure_the_same():
  read = sources.read_source('texts', path=os.environ['METAPERS_ALPACA8']).texts
  names, size = list(constructed_rewards.CONSTRUCTED), read.responses.shape[1]
  prompts = np.repeat(read.prompts, size).tolist()
  scores = constructed_rewards.score(names, prompts, read.responses.ravel().tolist())
  scores = scores.reshape(-1, size, len(names))
  within = (scores - scores.mean(1, keepdims=True)).reshape(-1, len(names))
  correlation = np.corrcoef(within.T) - np.eye(len(names))
  assert np.abs(correlation).max() < 0.8
