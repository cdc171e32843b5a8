"""Every module imports with what `setup.py` alone admits, without constraints."""

import importlib
import pkgutil

import pytest

import metapers

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
