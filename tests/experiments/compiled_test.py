"""Commands keep compiled programs, where and unless JAX is told otherwise."""

import os
import pathlib
import subprocess
import sys

import pytest

PROGRAM = """
import jax, jax.numpy as jnp
from experiments import commands
commands.keep_compiled()
print(jax.config.jax_compilation_cache_dir)
assert jax.config.jax_compilation_cache_max_size == 2**30  # in a folder of JAX's own choice, too
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
jax.block_until_ready(jax.jit(lambda x: jnp.sort(jnp.sin(x)))(jnp.arange(7.0)))
"""
ROOT = pathlib.Path(__file__).parents[2]


LEVEL = """
import os, importlib.metadata, importlib.util
from experiments import commands
importlib.metadata.entry_points = lambda group: [group] if ACCELERATOR else []
importlib.util.find_spec = lambda name: None
commands.compile_sooner()
commands.compile_sooner()
print(os.environ.get('XLA_FLAGS', ''))
"""


@pytest.mark.parametrize(
  ('given', 'accelerator', 'expected'),
  [
    ('', False, '--xla_backend_optimization_level=1'),
    ('--xla_foo=2', False, '--xla_foo=2 --xla_backend_optimization_level=1'),
    ('--xla_backend_optimization_level=3', False, '--xla_backend_optimization_level=3'),
    ('flags.txt', False, 'flags.txt'),
    ('', True, ''),
  ],
)
def test_less_is_optimised_on_a_cpu_unless_xla_is_told(given, accelerator, expected):
  program = LEVEL.replace('ACCELERATOR', str(accelerator))
  done = subprocess.run(
    [sys.executable, '-c', program],
    env=os.environ | {'XLA_FLAGS': given},
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.strip() == expected


def folder_of(**environment):
  """Where a process keeps compiled programs; 'None' for nowhere."""
  kept = {name: value for name, value in os.environ.items() if not name.startswith('JAX_')}
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM],
    env=kept | environment,
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout.strip()


def test_programs_are_kept_for_the_next_command(tmp_path):
  folder = pathlib.Path(folder_of(XDG_CACHE_HOME=str(tmp_path)))
  assert folder == tmp_path / 'metapers' / 'compiled'
  assert any(path.name.endswith('-cache') for path in folder.iterdir())


def test_jax_says_where(tmp_path):
  own = str(tmp_path / 'own')
  assert folder_of(XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=own) == own
  assert not (tmp_path / 'metapers').exists()


def test_where_no_folder_can_be_made_nothing_is_kept(tmp_path):
  (tmp_path / 'metapers').write_text('a file in the way')
  assert folder_of(XDG_CACHE_HOME=str(tmp_path)) == 'None'
