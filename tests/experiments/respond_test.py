"""The command against a fake endpoint: what it writes, what it asks again, what it tells."""

import collections
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest

ROOT = pathlib.Path(__file__).parents[2]
KEY = 'sk-a-key-that-nobody-may-see'
PROMPTS = [f'prompt {n}' for n in range(12)]


class Endpoint:
  """Says '<model> on <prompt>' unless `replies` has (status, text) for that; counts what is asked.

  Every fourth request fails first, so that the command has something to ask again.
  """

  def __init__(self):
    self.asked, self.answered = collections.Counter(), collections.Counter()
    self.replies, self.delay, self.parameters = {}, 0.0, []
    self.lock = threading.Lock()
    endpoint = self

    class Handler(http.server.BaseHTTPRequestHandler):
      def do_POST(self):
        status, headers, content = endpoint.reply(
          json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        )
        made = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**headers, 'Content-Length': str(len(made))}.items():
          self.send_header(name, value)
        self.end_headers()
        self.wfile.write(made)

      def log_message(self, *_):
        pass

    class Server(http.server.ThreadingHTTPServer):
      def handle_error(self, *_):  # whoever asked was killed
        pass

    self.server = Server(('127.0.0.1', 0), Handler)
    self.url = f'http://127.0.0.1:{self.server.server_port}/v1'
    threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

  def reply(self, body):
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
  made = Endpoint()
  yield made
  made.server.shutdown()
  made.server.server_close()


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


def start(arguments):
  words = [f'--{name}={value}' for name, value in arguments.items()]
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'OPENAI_API_KEY': KEY}
  return subprocess.Popen(
    [sys.executable, '-m', 'experiments.respond', *words],
    cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip


def respond(arguments):
  process = start(arguments)
  out, err = process.communicate(timeout=120)
  assert KEY not in out + err
  return process.returncode, out, err


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
  process = start(arguments)
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
  arguments = {**arguments, 'models': 'a', 'requests_per_minute': 6000}
  assert respond(arguments)[0] == 0
  before, table = endpoint.asked.copy(), arguments['out'].read_bytes()
  code, _, err = respond({**arguments, 'max_tokens': 65})
  assert code == 2
  assert 'max_tokens: 64 there, 65 now' in err
  assert 'another --out' in err
  lines = arguments['prompts'].read_text().splitlines(keepends=True)
  arguments['prompts'].write_text(''.join(lines[1:]))
  code, _, err = respond(arguments)
  assert code == 2
  assert 'prompts: ' in err
  assert endpoint.asked == before
  assert arguments['out'].read_bytes() == table


def test_a_model_that_never_answers_ends_the_run(endpoint, arguments):
  names = [f'prompt {n}' for n in range(60)]
  arguments['prompts'].write_text(''.join(json.dumps({'prompt': x}) + '\n' for x in names))
  endpoint.replies = {('a', name): (400, 'no such parameter') for name in names}
  code, _, err = respond({**arguments, 'models': 'a'})
  assert code == 2
  assert 'no such parameter' in err.splitlines()[-1]
  assert len(endpoint.asked) < 30
  assert not arguments['out'].exists()


@pytest.mark.parametrize(
  ('changes', 'content', 'expected'),
  [
    ({'models': 'a,a'}, '{"prompt": "x"}', 'different names'),
    ({'out': pathlib.Path('out.csv')}, '{"prompt": "x"}', '.parquet file'),
    ({}, '{"text": "x"}', 'column prompt'),
    ({}, '{"prompt": "x"}\n{"prompt": " "}', 'curate'),
    ({'base_url': 'nonsense'}, '{"prompt": "x"}', 'https://HOST/v1'),
  ],
)
def test_bad_input_is_one_line(arguments, changes, content, expected):
  arguments['prompts'].write_text(content + '\n')
  code, _, err = respond({**arguments, **changes})
  assert code == 2
  assert err.startswith('error: ')
  assert err.count('\n') == 1
  assert expected in err


@pytest.mark.parametrize('line', ['{"row": 0}', '[1, 2]', 'no json'])
def test_a_spoiled_journal_is_named(arguments, line):
  arguments['prompts'].write_text('{"prompt": "x"}\n')
  assert respond(arguments)[0] == 0
  with journal_of(arguments).open('a') as file:
    file.write(line + '\n')
  code, _, err = respond(arguments)
  assert code == 2
  assert 'is no journal' in err
