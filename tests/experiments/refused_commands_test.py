"""What a command refuses leaves nothing behind: no workdir, no folder above it, no half a file."""

import json

import pytest
from forks import command

CONFIGS = 'experiments/configs'
NO_SUCH_SHOTS = '--config.evaluation.shots=(0, 999)'
REFUSED = {
  'train': ('--workdir', f'{CONFIGS}/maml.py:quick', NO_SUCH_SHOTS),
  'benchmark': ('--workdir', f'{CONFIGS}/scores_gap.py:quick', NO_SUCH_SHOTS),
  'ask': ('--workdir', f'{CONFIGS}/asking.py:quick', '--config.asking.num_questions=999'),
  'export_episodes': ('--out', f'{CONFIGS}/p_ttt.py:quick', NO_SUCH_SHOTS),
}


def refused(tmp_path, name, flag, *arguments):
  place = tmp_path / 'here'
  place.mkdir()
  done = command(name, f'{flag}={place}/new/deeper/made', *arguments)
  assert done.returncode == 2 and 'error: ' in done.stderr, done.stderr
  return list(place.iterdir())


@pytest.mark.parametrize('name', REFUSED)
def test_a_refused_config_leaves_nothing(tmp_path, name):
  flag, config, change = REFUSED[name]
  assert not refused(tmp_path, name, flag, f'--config={config}', change)


def test_a_run_that_is_not_there_is_not_made(tmp_path):
  assert not refused(tmp_path, 'evaluate', '--workdir')


def test_no_results_are_written_of_episodes_that_are_not_there(tmp_path):
  given = f'--episodes={tmp_path}', '--name=mine', f'{tmp_path}/predictions.parquet'
  assert not refused(tmp_path, 'score', '--out', *given)


@pytest.mark.parametrize(
  'changes', [('--shard=9/4', "--config.constructed=('length',)"), ('--config.constructed=()',)]
)
def test_an_extraction_that_cannot_begin_makes_no_parts(tmp_path, changes):
  texts = tmp_path / 'texts.jsonl'
  rows = [{'prompt': f'{n}', 'response_1': 'a', 'response_2': 'b c'} for n in range(12)]
  texts.write_text('\n'.join(map(json.dumps, rows)))
  given = f'--config={CONFIGS}/extract.py', f'--config.source.path={texts}'
  assert not refused(tmp_path, 'extract', '--out', *given, *changes)
