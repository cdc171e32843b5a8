"""The commands from end to end, as a user types them, on tiny sizes."""

import csv
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import forks
import pytest
from forks import command

from experiments import build
from metapers.learners import LEARNERS

ROOT = pathlib.Path(__file__).parents[2]
MAML = '--config=experiments/configs/maml.py:quick'
SCORES = '--config=experiments/configs/scores_gap.py:quick'
TINY = (
  *forks.TINY,
  '--config.population.kwargs.num_slates=2',
)


def typed(name, *arguments):
  """Runs a command as `command` does, in a process that has imported nothing before."""
  made = [sys.executable, '-m', f'experiments.{name}', *arguments]
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  return subprocess.run(
    made, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
  )


def rows(path):
  with path.open(encoding='utf-8') as file:
    return list(csv.DictReader(file))


@pytest.mark.slow
def test_train_then_evaluate_then_resume(tmp_path):
  workdir = f'--workdir={tmp_path / "run"}'
  first = typed('train', MAML, workdir, *TINY)
  assert first.returncode == 0, first.stderr
  assert 'oracle' in first.stdout
  assert 'bayes' in first.stdout
  trained = rows(tmp_path / 'run' / 'results.csv')
  assert {row['learner'] for row in trained} == {'maml', 'oracle', 'bayes'}

  again = command('train', MAML, workdir, *TINY)
  assert again.returncode == 0, again.stderr
  assert rows(tmp_path / 'run' / 'results.csv') == trained

  other = command('evaluate', workdir, '--shots=0,3', '--set=concentration=1.0')
  assert other.returncode == 0, other.stderr
  added = [row for row in rows(tmp_path / 'run' / 'results.csv') if row['concentration'] == '1']
  assert {row['shots'] for row in added} == {'0', '3'}
  assert f'{len(added)} rows added, in the place of those of the same cells' in other.stdout

  changed = command('train', MAML, workdir, *TINY, '--config.training.learning_rate=0.5')
  assert changed.returncode == 2
  assert 'training.learning_rate' in changed.stderr


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_the_same_command_goes_on(tmp_path):
  code = (
    'import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n'
    'from experiments import commands, train\n'
    'commands.run(train.main)'
  )
  given = [sys.executable, '-c', code, MAML, f'--workdir={tmp_path / "run"}', *TINY]
  longer = [*given, '--config.training.num_steps=100000']
  program = subprocess.Popen(longer, cwd=ROOT, stderr=subprocess.PIPE, text=True)
  while not list((tmp_path / 'run').glob('checkpoints/[0-9]*')):
    assert program.poll() is None
    time.sleep(0.05)
  program.send_signal(signal.SIGINT)
  _, errors = program.communicate(timeout=60)
  assert program.returncode == 130
  assert errors.endswith('interrupted; the same command goes on where it stood\n')
  assert 'Traceback' not in errors


@pytest.mark.slow
def test_benchmark_writes_everything_and_skips_what_is_done(tmp_path):
  arguments = (SCORES, f'--workdir={tmp_path / "table"}', *TINY)
  few = "--config.benchmark.learners=('cnp', 'pooled')"
  first = command('benchmark', *arguments, few)
  assert first.returncode == 0, first.stderr
  for name in ('results.csv', 'adaptation.png', 'report.html'):
    assert (tmp_path / 'table' / name).stat().st_size > 0
    assert name in first.stdout
  metrics = {row['metric'] for row in rows(tmp_path / 'table' / 'results.csv')}
  assert {'accuracy', 'nll', 'ece', 'accuracy_minus_pooled', 'accuracy_minus_bayes'} <= metrics
  page = (tmp_path / 'table' / 'report.html').read_text()
  assert not re.search(r'(src|href)="(?!#)', page)  # nothing is loaded from elsewhere

  before = (tmp_path / 'table' / 'results.csv').read_bytes()
  second = command('benchmark', *arguments, few)
  assert second.returncode == 0, second.stderr
  assert 'steps' not in second.stdout
  assert (tmp_path / 'table' / 'results.csv').read_bytes() == before

  more = "--config.benchmark.learners=('cnp', 'pooled', 'per_user')"
  third = command('benchmark', *arguments, more, '--config.evaluation.shots=0,1,3')
  assert third.returncode == 0, third.stderr
  trained = re.findall(r'^(\S+): \d+ steps$', third.stdout, re.MULTILINE)
  assert trained == ['per_user-0']

  refused = command('evaluate', f'--workdir={tmp_path / "table"}', '--shots=0,1')
  assert refused.returncode == 2
  assert refused.stderr.startswith(f'error: {tmp_path / "table"} is of a table; give one of its')
  runs = refused.stderr.rpartition(': ')[2].split(', ')
  assert [name.partition('-')[0] for name in runs] == ['cnp', 'per_user', 'pooled']
  taken = command('evaluate', f'--workdir={tmp_path / "table" / "runs" / runs[0]}', '--shots=0,1')
  assert taken.returncode == 0, taken.stderr


@pytest.mark.parametrize(
  ('arguments', 'names'),
  [
    (('train',), (*LEARNERS, *build.POPULATIONS, 'docs/data.md', 'cvar', 'sgd', 'jester: Real')),
    (('train',), ('--config.training.num_steps=2000', '--config.learner.kwargs.inner_steps=3')),
    (('train',), ('metapers/bench/plan.py, Evaluation', 'metapers/learners/gradient.py, maml')),
    (('train',), ('--config.population.kwargs.label_accuracy=<float, or several>', '60 % are')),
    (
      ('benchmark', '--config=experiments/configs/jester.py'),
      ('--config.learners.cnp.kwargs.wid',),
    ),
    (('ask',), ('--config.asking.pool_size=64',)),
    (('leaks',), (' --config.protocol=lore',)),
    (('export_episodes',), ('--config.protocol=lore', '--[no]compress')),
    (('extract',), ('gemma_2b', 'enthusiasm', '--config.source.kind=texts')),
  ],
)
def test_help_names_what_there_is_and_where_it_is_documented(arguments, names):
  name, *given = arguments
  shown = command(name, *given, '--help')
  assert not shown.stderr
  assert not [each for each in names if each not in shown.stdout]


@pytest.mark.parametrize(
  ('name', 'arguments', 'message'),
  [
    ('train', (MAML,), '--workdir is needed'),
    ('train', ('--workdir=unused',), '--config is needed'),
    ('train', ('--config=experiments/configs/maml.py:learner=mamal', '--workdir=unused'), 'known'),
    (
      'train',
      (MAML, '--workdir=unused', '--config.learner.kwargs.depth=3'),
      'known beside it: hidden',
    ),
    ('train', ('--config=experiments/configs/nowhere.py', '--workdir=unused'), 'nowhere.py'),
    ('evaluate', ('--workdir=nowhere',), 'nowhere holds no run: it has no config.json'),
    ('benchmark', (MAML, '--workdir=unused'), 'give it to experiments.train'),
    ('train', ('--config=experiments/configs/nowhere.py', '--help'), 'nowhere.py'),
    (
      'benchmark',
      (SCORES, '--workdir=unused', '--config.learners.cnp.kwargs.depth=3'),
      'unknown field config.learners.cnp.kwargs.depth; known beside it: hidden, width',
    ),
    ('train', (SCORES, '--workdir=unused'), 'add :learner=NAME to it, one of cnp'),
    ('train', (MAML, '--workdir=README.md', *TINY), 'README.md is a file'),
    ('train', (MAML, '--workdir=unused', '--config.evaluation.rival=me'), 'wrote no response'),
  ],
)
def test_mistakes_are_one_line(name, arguments, message):
  failed = command(name, *arguments)
  assert failed.returncode == 2
  assert message in failed.stderr
  errors = [line for line in failed.stderr.splitlines() if line.startswith('error: ')]
  assert len(errors) == 1
  assert 'Traceback' not in failed.stderr
