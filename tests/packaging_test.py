"""What the wheel holds is enough outside of the clone; `import metapers` imports nothing heavy."""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

import metapers

ROOT = pathlib.Path(__file__).parents[1]
TABLE = """
import metapers
from metapers import bench, make
from metapers.populations import toy

learners = {
  'cnp': make('cnp', num_features=4, hidden=8, width=4),
  'pooled': make('pooled', num_features=4, hidden=()),
}
result = bench.compare(
  learners,
  toy.two_types(),
  shots=(0, 8),
  training=bench.Training(num_steps=10, batch_size=8, chunk_size=8, steps_per_call=10),
  evaluation=bench.Evaluation(num_users=16, num_validation_users=8, num_resamples=20),
)
assert set(learners) <= set(result.table().index), result.table()
result.plot().savefig('curves.png')
result.report('report.html')
metapers.Personalizer.load_pretrained()
print(metapers.__file__)
"""


def run(code, folder, **environment):
  """Runs Python code in a folder, where nothing of the clone is found, and returns its output."""
  given = {'JAX_PLATFORMS': 'cpu', 'MPLBACKEND': 'agg', 'PATH': '', **environment}
  ran = subprocess.run(
    [sys.executable, '-c', code], cwd=folder, env=given, capture_output=True, text=True
  )
  assert ran.returncode == 0, ran.stderr
  return ran.stdout


@pytest.mark.slow
def test_a_wheel_installed_elsewhere_compares_learners_and_draws_the_plot(tmp_path):
  build = [sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', str(tmp_path)]
  subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
  site = tmp_path / 'site'
  with zipfile.ZipFile(next(tmp_path.glob('*.whl'))) as archive:
    packed = {name for name in archive.namelist() if name.startswith('metapers/')}
    archive.extractall(site)
  here = {
    str(path.relative_to(ROOT))
    for path in (ROOT / 'metapers').rglob('*')
    if path.is_file() and path.suffix != '.pyc'
  }
  assert packed == here
  printed = run(TABLE, tmp_path, PYTHONPATH=str(site), HOME=str(tmp_path))
  assert str(site) in printed
  assert (tmp_path / 'curves.png').read_bytes().startswith(b'\x89PNG')
  assert 'cnp' in (tmp_path / 'report.html').read_text()


def test_importing_the_package_imports_nothing_heavy():
  code = (
    'import sys, metapers; dir(metapers); '
    "print(sorted({'jax', 'numpy', 'matplotlib', 'pandas', 'flax'} & set(sys.modules)))"
  )
  assert run(code, ROOT, PYTHONPATH=os.pathsep.join(sys.path)).strip() == '[]'


@pytest.mark.parametrize('name', metapers.__all__)
def test_every_name_of_the_package_is_there(name):
  assert name in dir(metapers)
  assert getattr(metapers, name) is not None


def test_a_name_that_is_not_there_is_said_to_be_missing():
  with pytest.raises(AttributeError, match="module 'metapers' has no attribute 'personaliser'"):
    _ = metapers.personaliser


def test_the_personalizer_is_a_module_of_the_package():
  from metapers import Personalizer, pairs, personalizer

  assert (personalizer.Personalizer, personalizer.pairs) == (Personalizer, pairs)


@pytest.mark.skipif(not (ROOT / '.git').exists(), reason='no clone')
def test_the_source_archive_carries_tests_docs_and_commands(tmp_path):
  listed = subprocess.run(
    ['git', 'ls-files', '-z'], cwd=ROOT, check=True, capture_output=True, text=True
  )
  tracked = {name for name in listed.stdout.split('\0') if name}
  for name in tracked:
    (tmp_path / 'clone' / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / name, tmp_path / 'clone' / name)
  build = [sys.executable, 'setup.py', '-q', 'sdist', '--dist-dir', str(tmp_path)]
  subprocess.run(build, cwd=tmp_path / 'clone', check=True, capture_output=True)
  with tarfile.open(next(tmp_path.glob('*.tar.gz'))) as archive:
    packed = {name.partition('/')[2] for name in archive.getnames()}
  apart = {name for name in tracked if name.startswith('.')}  # of the clone: CI, hooks
  assert tracked - apart <= packed
  assert not [name for name in packed if name.endswith('.pyc')]
