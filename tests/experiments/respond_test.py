"""The command against a fake endpoint: what it writes, what it asks again, what it prints."""

import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import fake_endpoint
import pandas as pd
import pytest
from fake_endpoint import KEY

ROOT = pathlib.Path(__file__).parents[2]
PROMPTS = [f'prompt {n}' for n in range(12)]
IN_TURN = """
import contextlib, io, json, sys
from experiments import commands, respond

results = []
for words in json.load(sys.stdin):
  sys.argv, err = ['respond', *words], io.StringIO()
  with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
    try:
      commands.run(respond.main)
    except SystemExit as end:
      results.append((end.code or 0, err.getvalue()))
print(json.dumps(results))
"""


class Scripted(fake_endpoint.Endpoint):
  """Says '<model> on <prompt>' unless `replies` has (status, text) for that; counts what is asked.

  Every fourth request fails first, so that the command has something to ask again.
  """

  def __init__(self):
    self.asked, self.answered = collections.Counter(), collections.Counter()
    self.replies, self.delay, self.parameters = {}, 0.0, []
    super().__init__(self.say)

  def say(self, number, body):
    del number
    model, prompt = body['model'], body['messages'][0]['content']
    with self.lock:
      self.asked[model, prompt] += 1
      self.parameters.append({k: v for k, v in body.items() if k not in ('model', 'messages')})
      if sum(self.asked.values()) % 4 == 2:
        return 429, {'Retry-After': '0.1'}, {'error': {'message': f'not so fast, {KEY}'}}
    time.sleep(self.delay)
    status, text = self.replies.get((model, prompt), (200, f'{model} on {prompt}'))
    if status != 200:
      return status, {}, {'error': {'message': f'{text} {KEY}'}}
    with self.lock:
      self.answered[model, prompt] += 1
    choice = {'message': {'role': 'assistant', 'content': text}, 'finish_reason': 'stop'}
    return 200, {}, {'choices': [choice], 'model': f'{model}-2026', 'usage': {'total_tokens': 9}}


@pytest.fixture
def endpoint():
  made = Scripted()
  yield made
  made.close()


@pytest.fixture
def arguments(endpoint, tmp_path):
  lines = [{'prompt': text, 'prompt_id': f'id{n}', 'subset': 's'} for n, text in enumerate(PROMPTS)]
  (tmp_path / 'prompts.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  return {
    'prompts': tmp_path / 'prompts.jsonl',
    'models': 'a,b',
    'base_url': endpoint.url,
    'out': tmp_path / 'made' / 'out.parquet',
    'max_tokens': 64,
    'temperature': 0.5,
    'concurrency': 4,
  }


def start(*words):
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'OPENAI_API_KEY': KEY}
  return subprocess.Popen(
    [sys.executable, *words], cwd=ROOT, env=environment, text=True,
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
  )  # fmt: skip


def given(arguments):
  return [f'--{name}={value}' for name, value in arguments.items()]


def respond(arguments):
  process = start('-m', 'experiments.respond', *given(arguments))
  out, err = process.communicate(timeout=120)
  assert KEY not in out + err
  return process.returncode, out, err


def in_turn(*arguments):
  """Runs the command several times in one process, and returns its exit codes and errors."""
  process = start('-c', IN_TURN)
  out, err = process.communicate(json.dumps([given(each) for each in arguments]), timeout=120)
  assert KEY not in out + err
  assert process.returncode == 0, err
  return json.loads(out)


def journal_of(arguments):
  return arguments['out'].with_name(arguments['out'].name + '.journal.jsonl')


def journaled(arguments):
  """The whole lines after the first."""
  if not journal_of(arguments).exists():
    return []
  lines = [json.loads(x) for x in journal_of(arguments).read_text().split('\n')[:-1]]
  return [(line['model'], PROMPTS[line['row']]) for line in lines[1:]]


def test_every_prompt_and_model_has_its_response_in_place(endpoint, arguments, tmp_path):
  endpoint.replies['a', 'prompt 3'] = 400, 'too long'
  endpoint.replies['b', 'prompt 5'] = 200, ''
  code, out, err = respond(arguments)
  assert code == 0, err
  table = pd.read_parquet(arguments['out'])
  assert list(table['prompt']) == PROMPTS
  assert list(table['prompt_id']) == [f'id{n}' for n in range(12)]
  assert set(table['subset']) == {'s'}
  for number, model in ((1, 'a'), (2, 'b')):
    wanted = [f'{model} on {prompt}' for prompt in PROMPTS]
    wanted[3 if model == 'a' else 5] = ''
    assert list(table[f'response_{number}']) == wanted
    assert set(table[f'response_{number}_model']) == {model}
  reasons = table['response_1_finish_reason']
  assert 'too long' in reasons[3]
  assert set(reasons.drop(3)) == set(table['response_2_finish_reason']) == {'stop'}
  assert set(table['response_2_served_model']) == {'b-2026'}
  shared = {'max_tokens': 64, 'temperature': 0.5}
  assert [json.loads(x) for x in table['parameters']] == [{'base_url': endpoint.url, **shared}] * 12
  assert all(each == shared for each in endpoint.parameters)
  assert 'a: 11 of 12 answers (11 stop); 0 empty, 1 failed' in out
  assert 'b: 12 of 12 answers (12 stop); 1 empty, 0 failed' in out
  written = [path for path in tmp_path.rglob('*') if path.is_file()]
  assert len(written) == 3
  assert all(KEY.encode() not in path.read_bytes() for path in written)

  # Again: only what failed is asked for, and a further model costs its own requests only.
  endpoint.replies.clear()
  before = endpoint.asked.copy()
  code, _, err = respond({**arguments, 'models': 'a,b,c'})
  assert code == 0, err
  assert set(endpoint.asked - before) == {('a', 'prompt 3'), *(('c', text) for text in PROMPTS)}
  again = pd.read_parquet(arguments['out'])
  assert list(again['response_1']) == [f'a on {prompt}' for prompt in PROMPTS]
  assert list(again['response_2']) == list(table['response_2'])
  assert list(again['response_3']) == [f'c on {prompt}' for prompt in PROMPTS]


def test_a_killed_run_goes_on_where_it_was(endpoint, arguments):
  endpoint.delay = 0.15
  process = start('-m', 'experiments.respond', *given(arguments))
  while len(journaled(arguments)) < 6:
    assert process.poll() is None
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert not arguments['out'].exists()
  kept = journaled(arguments)
  assert 6 <= len(kept) < 24
  time.sleep(2 * endpoint.delay)  # what was under way ends unheard
  before = endpoint.asked.copy()
  with journal_of(arguments).open('a') as file:
    file.write('{"row": 11, "model": "a", "ans')  # as if the kill had cut a line

  endpoint.delay = 0.0
  code, _, err = respond(arguments)
  assert code == 0, err
  assert not set(endpoint.asked - before) & set(kept)
  assert sorted(journaled(arguments)) == sorted((m, text) for m in 'ab' for text in PROMPTS)
  table = pd.read_parquet(arguments['out'])
  assert list(table['response_1']) == [f'a on {prompt}' for prompt in PROMPTS]
  assert list(table['response_2']) == [f'b on {prompt}' for prompt in PROMPTS]


def test_other_parameters_or_prompts_are_refused_with_the_difference(endpoint, arguments):
  fewer = arguments['prompts'].with_name('fewer.jsonl')
  fewer.write_text(''.join(arguments['prompts'].read_text().splitlines(keepends=True)[1:]))
  first = {**arguments, 'models': 'a', 'requests_per_minute': 6000}
  made, tokens, prompts = in_turn(first, {**first, 'max_tokens': 65}, {**first, 'prompts': fewer})
  assert made[0] == 0, made
  assert [tokens[0], prompts[0]] == [2, 2]
  assert 'max_tokens: 64 there, 65 now' in tokens[1]
  assert 'another file to write' in tokens[1]
  assert 'prompts: ' in prompts[1]
  assert sum(endpoint.answered.values()) == 12
  table = pd.read_parquet(arguments['out'])
  assert [json.loads(text)['max_tokens'] for text in table['parameters']] == [64] * 12


def test_bad_input_is_one_line(arguments):
  cases = [
    ({'models': 'a,a'}, '{"prompt": "x"}', 'different names'),
    ({'out': pathlib.Path('out.csv')}, '{"prompt": "x"}', '.parquet file'),
    ({}, '{"text": "x"}', 'column prompt'),
    ({}, '{"prompt": "x"}\n{"prompt": " "}', 'curate'),
    ({'base_url': 'nonsense'}, '{"prompt": "x"}', 'https://HOST/v1'),
  ]
  given = []
  for n, (changes, content, _) in enumerate(cases):
    path = arguments['prompts'].with_name(f'{n}.jsonl')
    path.write_text(content + '\n')
    given.append({**arguments, 'prompts': path, **changes})
  for (code, err), (_, _, expected) in zip(in_turn(*given), cases, strict=True):
    assert code == 2
    assert err.startswith('error: ')
    assert err.count('\n') == 1
    assert expected in err
