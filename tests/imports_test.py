"""Every module imports with what `setup.py` alone admits, without constraints."""

import importlib
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import metapers

ROOT = pathlib.Path(__file__).parents[1]
NAMES = [module.name for module in pkgutil.walk_packages(metapers.__path__, 'metapers.')]
OF_EXTRAS = (
  'botorch', 'choix', 'higher', 'safetensors', 'starlette', 'textblob', 'textstat', 'torch',
  'torchopt', 'uvicorn', 'vaderSentiment',
)  # fmt: skip


@pytest.mark.parametrize('name', NAMES)
def test_a_module_imports(name):
  try:
    importlib.import_module(name)
  except ModuleNotFoundError as error:
    if error.name not in OF_EXTRAS:
      raise
    pytest.skip(f'needs an extra, for {error.name}')


def test_a_table_starts_without_what_takes_seconds_to_import():
  slow = ('torch', 'tensorboardX', 'scipy.stats', 'transformers')
  code = f'import sys, experiments.benchmark; print([n for n in {slow} if n in sys.modules])'
  shown = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert shown.stdout == '[]\n'
