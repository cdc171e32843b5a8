"""Launchers start where jax is not installed, and import nothing that needs it."""

import pathlib
import pkgutil
import subprocess
import sys

import pytest

import launchers

ROOT = pathlib.Path(__file__).parents[2]
NAMES = [module.name for module in pkgutil.iter_modules(launchers.__path__)]
APART = ('slurm', 'tpu_vm', 'skypilot')  # which define flags of the same names
BLOCKED = """
import importlib, sys
for name in ('jax', 'jaxlib', 'flax', 'orbax', 'optax', 'ml_collections', 'submitit'):
  sys.modules[name] = None
for name in sys.argv[1:]:
  importlib.import_module(f'launchers.{name}')
"""


@pytest.mark.parametrize('launcher', APART)
def test_no_launcher_imports_jax(launcher):
  others = [name for name in NAMES if name not in APART]
  assert 'local' in others
  command = [sys.executable, '-c', BLOCKED, launcher, *others]
  ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
  assert ran.returncode == 0, ran.stderr
