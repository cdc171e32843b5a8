"""Extraction from end to end, on tiny models: text in, a store out, whatever interrupts it."""

import hashlib
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from metapers.data import feature_store
from metapers.testing import tiny_models

ROOT = pathlib.Path(__file__).parents[2]
NUM_PROMPTS = 20
# Importing torch and jax takes longer than the work: commands run in forks of one process.
FORKS = multiprocessing.get_context('forkserver')
FORKS.set_forkserver_preload(['experiments.extract', 'metapers.data.reward_scorer'])


@pytest.fixture(scope='module')
def given(tmp_path_factory):
  """A file of texts, and the flags that extract it by two models and two constructed rewards."""
  root = tmp_path_factory.mktemp('given')
  prompts, responses = tiny_models.draw_texts(4 * NUM_PROMPTS)
  columns = {f'response_{i + 1}': responses[i::4] for i in range(4)}
  frame = pd.DataFrame({'prompt': [f'{n} {p}' for n, p in enumerate(prompts[::4])], **columns})
  frame.loc[0, 'response_2'] = ''
  frame.to_parquet(root / 'texts.parquet')
  models = [
    {'name': name, 'model': tiny_models.save_model(root / name, family), 'template': template}
    for name, family, template in (('llama', 'llama', 'chat'), ('deberta', 'deberta-v2', 'pair'))
  ]
  config = root / 'config.py'
  config.write_text(f"""
from experiments.configs import extract

def get_config(argument=None):
  config = extract.get_config(argument)
  config.source.path = {str(root / 'texts.parquet')!r}
  config.source.name = 'made up'
  config.models = tuple({models!r})
  config.constructed = ('length', 'vocabulary')
  config.encoder.model = {models[1]['model']!r}
  config.prompts_per_shard = 2
  return config
""")
  return f'--config={config}'


class Done(NamedTuple):
  returncode: int
  stdout: str
  stderr: str


def run_command(folder, arguments):
  """Runs the command, with its output in files, in the process that calls this."""
  import huggingface_hub.constants

  from experiments import commands
  from experiments import extract as command

  huggingface_hub.constants.HF_HUB_OFFLINE = True
  for number, name in enumerate(('out', 'err'), 1):
    os.dup2(os.open(f'{folder}/{name}', os.O_CREAT | os.O_WRONLY), number)
  os.chdir(ROOT)
  sys.argv = ['extract.py', *arguments]
  commands.run(command.main)


def start(given, out, *more, folder):
  process = FORKS.Process(target=run_command, args=(folder, [given, f'--out={out}', *more]))
  process.start()
  return process


def extract(given, out, *more):
  with tempfile.TemporaryDirectory() as folder:
    process = start(given, out, *more, folder=folder)
    process.join()
    shown = [(pathlib.Path(folder) / name).read_text() for name in ('out', 'err')]
  return Done(process.exitcode, *shown)


def digests(store):
  return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in store.iterdir()}


@pytest.fixture(scope='module')
def whole(given, tmp_path_factory):
  out = tmp_path_factory.mktemp('whole') / 'store'
  done = subprocess.run(  # as a user types it
    [sys.executable, '-m', 'experiments.extract', given, f'--out={out}'],
    cwd=ROOT,
    env={**os.environ, 'HF_HUB_OFFLINE': '1'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return out, done.stdout


@pytest.mark.slow
def test_texts_become_a_store_that_opens(whole):
  out, shown = whole
  table = feature_store.open_store(out)
  assert table.reward_models == ('llama', 'deberta', 'length', 'vocabulary')
  assert table.features.shape == (NUM_PROMPTS, 4, 32)
  assert table.features.dtype == np.float16
  assert not table.mask[0, 1]
  assert table.source == 'made up with constructed rewards'
  assert "'empty': 1" in shown
  assert "reads: '<bos>user 0 " in shown


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_bytes(given, whole, tmp_path):
  out = tmp_path / 'store'
  for least in (3, 14):
    process = start(given, out, folder=tmp_path)
    limit = time.monotonic() + 90
    while len(list(out.with_name('store.parts').rglob('*.npz'))) < least:
      assert process.is_alive() and time.monotonic() < limit
      time.sleep(0.002)
    process.kill()
    process.join()
    assert not out.exists() and process.exitcode < 0
  assert extract(given, out).returncode == 0
  assert digests(out) == digests(whole[0])
  assert not out.with_name('store.parts').exists()  # what they say may be of other models by then


@pytest.mark.slow
def test_shares_of_two_machines_merge_into_the_same_bytes(given, whole, tmp_path):
  first, second = tmp_path / 'first' / 'store', tmp_path / 'second' / 'store'
  for share, out in enumerate((first, second)):
    half = extract(given, out, f'--shard={share}/2', '--devices=cpu,cpu')
    assert half.returncode == 0, half.stderr
    assert 'of 50 shards are made' in half.stdout
  parts = second.with_name('store.parts')
  merged = extract(given, first, f'--merge={parts}')
  assert merged.returncode == 0, merged.stderr
  assert digests(first) == digests(whole[0])
  other = extract(given, tmp_path / 'third', f'--merge={parts}', '--config.options.dtype=bfloat16')
  assert other.returncode == 2
  assert 'made otherwise' in other.stderr


@pytest.mark.slow
def test_the_benchmark_prints_all_families_and_ratios(given):
  done = extract(given, 'unused', '--benchmark')
  for family in tiny_models.FAMILIES:
    assert family in done.stdout
  for tokens in (512, 2048):
    assert f'at most {tokens:4} tokens' in done.stdout
  assert done.returncode in (0, 2)  # texts this short leave little to gain
  assert ('missed' in done.stderr) == (done.returncode == 2)
  assert 'drifts' not in done.stderr


@pytest.mark.parametrize(
  ('flag', 'message'),
  [
    ("--config.models=('nobody',)", "unknown reward model 'nobody'; known: beaver_7b"),
    ("--config.constructed=('charm',)", 'unknown constructed rewards charm; known: length'),
    ('--config.source.path=nowhere.parquet', r'nowhere.parquet is no .parquet or .jsonl file'),
    ('--config.source.kind=magic', "unknown kind of source 'magic'"),
    ('--shard=2/2', 'shard must be written i/n'),
    ("--config.models=('gemma_2b',)", 'give a local folder'),
    ('--out=README.md', 'README.md exists'),
  ],
)
def test_mistakes_are_one_line(given, tmp_path, flag, message):
  failed = extract(given, tmp_path / 'store', flag)
  assert failed.returncode == 2
  assert message in failed.stderr
  errors = [line for line in failed.stderr.splitlines() if line.startswith('error: ')]
  assert len(errors) == 1


BLOCKED = """
import runpy, sys
class Blocker:
  def find_spec(self, name, path=None, target=None):
    if name.partition('.')[0] in {packages}:
      raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocker())
sys.argv = {argv!r}
runpy.run_module('experiments.extract', run_name='__main__', alter_sys=False)
"""
EXTRAS = ('torch', 'safetensors', 'textstat', 'vaderSentiment')


def without(packages, *arguments):
  """Runs the command where some packages are not installed."""
  code = BLOCKED.format(packages=set(packages), argv=['extract.py', *arguments])
  return subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False
  )


@pytest.mark.parametrize('flag', ['--help', '--helpfull'])
def test_help_needs_no_extra(flag):
  done = without((*EXTRAS, 'transformers', 'datasets'), flag)
  assert '--merge' in done.stdout, done.stderr
  assert not done.stderr


@pytest.mark.parametrize(
  ('arguments', 'missing'),
  [
    (['--config=experiments/configs/extract_constructed.py'], ', '.join(EXTRAS)),
    (['--config=experiments/configs/extract.py', '--config.models=gemma_2b'], 'torch, safetensors'),
    (['--benchmark'], 'torch, safetensors'),
  ],
)
def test_a_missing_extra_is_one_line_before_anything_is_read(tmp_path, arguments, missing):
  done = without(EXTRAS, *arguments, f'--out={tmp_path / "store"}')
  assert done.returncode == 2
  assert done.stderr == f"error: {missing} is needed: pip install 'metapers[extract]'\n"
  assert not list(tmp_path.iterdir())
