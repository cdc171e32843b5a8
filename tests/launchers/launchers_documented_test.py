"""Launches in the documents can be given as they stand."""

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PLACES = [ROOT / 'docs' / 'operations.md', *sorted((ROOT / 'launchers').glob('*.py'))]


def launches():
  for path in PLACES:
    for given in re.findall(r'python -m launchers\.((?:[^\n`]|(?<=\\)\n)+)', path.read_text()):
      words = shlex.split(re.sub(r'\\+\n', ' ', given))
      if any(word.startswith('--config=') for word in words):
        yield pytest.param(words, id=f'{path.name}: {words[0]}')


@pytest.mark.parametrize('words', list(launches()))
def test_a_documented_launch_can_be_given(words):
  launcher, *flags = words
  command = [sys.executable, '-m', f'launchers.{launcher}', *flags, '--dry_run']
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  assert 'experiments.' in done.stdout
