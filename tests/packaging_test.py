"""What the wheel holds is enough: it imports outside of the clone."""

import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_imports_outside_the_clone(tmp_path):
  build = [sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', str(tmp_path)]
  subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
  wheel = next(tmp_path.glob('*.whl'))
  with zipfile.ZipFile(wheel) as archive:
    packed = {name for name in archive.namelist() if name.startswith('metapers/')}
    archive.extractall(tmp_path / 'site')
  here = {
    str(path.relative_to(ROOT))
    for kind in ('*.py', '*.html', '*.json', '*.npz')
    for path in (ROOT / 'metapers').rglob(kind)
  }
  assert packed == here
  code = (
    'import metapers, metapers.learners, metapers.training.meta_training, '
    'metapers.evaluation.bayes.ceiling, metapers.testing.contract, metapers.personalizer; '
    'metapers.personalizer.Personalizer.load_pretrained(); print(metapers.__file__)'
  )
  ran = subprocess.run(
    [sys.executable, '-c', code],
    cwd=tmp_path,
    env={'PYTHONPATH': str(tmp_path / 'site'), 'JAX_PLATFORMS': 'cpu', 'PATH': ''},
    check=True,
    capture_output=True,
    text=True,
  )
  assert str(tmp_path) in ran.stdout
