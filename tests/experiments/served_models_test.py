"""Commands against a server that others wrote, `transformers serve`, on this machine."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pandas as pd
import pytest
from forks import ROOT, command

pytest.importorskip('fastapi', reason="needs the extra 'llm': `transformers serve` wants FastAPI")
pytestmark = pytest.mark.slow

NUM_PROMPTS = 80
ASKED = 'POST /v1/chat/completions'


@pytest.fixture(autouse=True)
def _of_nobody(monkeypatch):
  monkeypatch.setenv('OPENAI_API_KEY', 'any')


def free_port():
  with contextlib.closing(socket.socket()) as free:
    free.bind(('127.0.0.1', 0))
    return free.getsockname()[1]


@pytest.fixture(scope='module')
def served(folders, tmp_path_factory):
  """The port of a server, and its log."""
  port, log = free_port(), tmp_path_factory.mktemp('served') / 'log'
  with serving(folders[1], port, log):
    yield port, log


def wait(is_there, *, seconds=120):
  end = time.monotonic() + seconds
  while not is_there():
    assert time.monotonic() < end
    time.sleep(0.05)


@contextlib.contextmanager
def serving(model, port, log):
  """Serves a folder's model; nothing is left of it at the end."""
  program = pathlib.Path(sys.executable).with_name('transformers')
  words = [program, 'serve', model, '--host', '127.0.0.1', '--port', str(port)]
  with log.open('w') as out:
    server = subprocess.Popen(
      [*words, '--device', 'cpu', '--log-level', 'info'],
      stdout=out,
      stderr=out,
      env={**os.environ, 'HF_HUB_OFFLINE': '1'},
    )

  def is_up():
    assert server.poll() is None, log.read_text()
    with contextlib.suppress(OSError):
      return urllib.request.urlopen(f'http://127.0.0.1:{port}/health').status == 200

  try:
    wait(is_up)
    yield server
  finally:
    server.kill()
    server.wait()


def asking(model, port, folder, *more):
  return (
    f'--prompts={folder / "prompts.jsonl"}', f'--models={model}',
    f'--base_url=http://127.0.0.1:{port}/v1', f'--out={folder / "out.parquet"}', *more,
  )  # fmt: skip


def write_prompts(folder, count):
  lines = [{'prompt': f'w{n % 7} w{n}', 'prompt_id': str(n), 'subset': 's'} for n in range(count)]
  (folder / 'prompts.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))


def test_a_server_that_is_killed_is_asked_for_the_rest(folders, tmp_path):
  write_prompts(tmp_path, NUM_PROMPTS)
  port = free_port()
  given = asking(folders[1], port, tmp_path, '--max_tokens=8', '--concurrency=2')
  journal, logs = tmp_path / 'out.parquet.journal.jsonl', [tmp_path / '1.log', tmp_path / '2.log']
  with serving(folders[1], port, logs[0]) as server:
    program = subprocess.Popen(
      [sys.executable, '-m', 'experiments.respond', *given],
      cwd=ROOT,
      stderr=subprocess.PIPE,
      text=True,
    )
    wait(lambda: journal.exists() and len(journal.read_text().splitlines()) > 10)
    server.kill()
    program.send_signal(signal.SIGINT)
    said = program.communicate(timeout=60)[1]
    assert program.returncode == 130, said
  kept = journal.read_text().splitlines()
  num_kept = len(kept) - 1  # the first line says what is asked
  assert 10 <= num_kept < NUM_PROMPTS
  with serving(folders[1], port, logs[1]):
    done = command('respond', *given)
  assert done.returncode == 0, done.stderr
  assert logs[1].read_text().count(ASKED) == NUM_PROMPTS - num_kept
  assert journal.read_text().splitlines()[: len(kept)] == kept
  table = pd.read_parquet(tmp_path / 'out.parquet')
  assert len(table) == NUM_PROMPTS and table['response_1'].notna().all()


def test_its_likeliest_answers_are_those_of_the_own_decoder(folders, served, tmp_path):
  write_prompts(tmp_path, 3)
  given = asking(folders[1], served[0], tmp_path, '--max_tokens=8', '--temperature=0')
  done = command('respond', *given)
  assert done.returncode == 0, done.stderr
  for row in pd.read_parquet(tmp_path / 'out.parquet').itertuples():
    asked = (f'--model={folders[1]}', f'--prompt={row.prompt}', '--max_tokens=8')
    own = command('answer', *asked, '--temperature=0')
    assert own.returncode == 0, own.stderr
    assert own.stdout.strip() == row.response_1.strip()
    assert row.response_1_finish_reason in ('stop', 'length')


def test_a_judge_is_asked_in_both_orders_and_what_is_no_verdict_is_counted(
  folders, served, tmp_path
):
  port, log = served
  before = log.read_text().count(ASKED)
  pairs = [
    {'user': str(n % 2), 'prompt_id': str(n), 'prompt': f'w{n}', 'answer': 'w5 w6', 'rival': 'w7'}
    for n in range(4)
  ]
  (tmp_path / 'pairs.jsonl').write_text(''.join(json.dumps(pair) + '\n' for pair in pairs))
  done = command(
    'judge', f'--pairs={tmp_path / "pairs.jsonl"}', f'--model={folders[1]}',
    f'--base_url=http://127.0.0.1:{port}/v1', f'--out={tmp_path / "out.csv"}',
  )  # fmt: skip
  assert log.read_text().count(ASKED) - before == 2 * len(pairs)
  assert done.returncode == 2  # a random model says nothing that is a verdict
  assert '0 requests failed, 8 replies are no verdict' in done.stdout
