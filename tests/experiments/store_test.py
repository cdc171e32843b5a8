"""The store command: what it prints, and how it ends."""

import re

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import commands, store
from metapers.analysis import diversity
from metapers.data import feature_store, synthetic
from metapers.data.manifest import Provenance
from metapers.populations import reward_ensemble

PROVENANCE = Provenance('synthetic, for a test', 'by hand', 'Apache-2.0')


@pytest.fixture(autouse=True)
def parsed_flags():
  flags.FLAGS.mark_as_parsed()
  yield
  flags.FLAGS.unparse_flags()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  table = synthetic.synthetic_store(num_prompts=100)
  rewards = table.rewards.copy()
  rewards[0, 0, 0] = np.nan
  rewards[1, 7] = rewards[1, 1]
  mask = table.mask.copy()
  mask[0, 0] = mask[1, 7] = False
  path = tmp_path_factory.mktemp('stores') / 'store'
  return feature_store.write_store(path, table._replace(rewards=rewards, mask=mask), PROVENANCE)


def call(command, capsys, **values):
  with flagsaver.flagsaver(**values):
    store.main(['store', command])
  return capsys.readouterr().out


def test_the_synthetic_population_disagrees_as_the_published_one(capsys):
  shown = call('diversity', capsys)
  assert 'source: synthetic' in shown
  cells = np.array(
    [line.split()[-3:] for line in shown.splitlines() if line.startswith('  ')], float
  )
  assert len(cells) == 16 * len(diversity.PAPER)
  ours, paper, minus = cells.T
  np.testing.assert_allclose(ours - paper, minus, atol=0.11)  # each is rounded
  found = re.search(r'mean absolute difference (\S+) points, largest (\S+)\n$', shown)
  mean, largest = map(float, found.groups())
  assert mean == pytest.approx(np.abs(minus).mean(), abs=0.05) and mean <= 1.5
  assert largest == pytest.approx(np.abs(minus).max(), abs=0.05) and largest <= 4


def test_info_says_where_a_store_comes_from(folder, capsys):
  shown = call('info', capsys, store=str(folder))
  for text in ('synthetic, for a test', '100 prompts x 8 responses x 10', 'licence: Apache-2.0'):
    assert text in shown
  assert 'synthetic (feature_r2=0.5' in call('info', capsys)


def test_stats_count_masked_responses_and_print_the_explained_share(folder, capsys):
  shown = call('stats', capsys, store=str(folder))
  assert '1 missing and 1 repeated of 800 responses' in shown
  shown = call('stats', capsys, feature_r2=0.8)
  mean = float(shown.split('test prompts, mean: ')[1].split()[0])
  assert abs(mean - 0.8) <= 0.02


def test_stats_say_when_there_are_no_features(tmp_path, capsys):
  table = synthetic.synthetic_store(num_prompts=50)._replace(features=None)
  path = feature_store.write_store(tmp_path / 's', table, PROVENANCE)
  assert 'no features' in call('stats', capsys, store=str(path))


def test_verify_passes_a_good_store_and_exits_with_1_on_a_bad_one(folder, tmp_path, capsys):
  assert call('verify', capsys, store=str(folder)).startswith('good: synthetic, for a test')
  with pytest.raises(SystemExit) as exited:
    call('verify', capsys, store=str(tmp_path))
  assert exited.value.code == 1
  shown = capsys.readouterr().err
  assert shown.startswith('bad store: ') and shown.count('\n') == 1


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['store'], 'expected one of info, verify, stats, diversity, import, got nothing'),
    (['store', 'inof'], 'got inof'),
    (['store', 'import', '--out=/nowhere'], '--scores is needed'),
    (
      ['store', 'import', '--scores=README.md', '--out=/nowhere/s'],
      'README.md is not a readable .npy',
    ),
    (['store', 'info', '--store=/nowhere'], 'holds no metapers-feature-store'),
    (['store', 'info', '--feature_r2=0.4'], 'one of 0.3, 0.5, 0.8'),
  ],
)
def test_a_mistake_is_one_line_and_exit_code_2(argv, message, capsys, monkeypatch):
  monkeypatch.setattr('sys.argv', argv)
  with flagsaver.flagsaver(), pytest.raises(SystemExit) as exited:
    commands.run(store.main)
  assert exited.value.code == 2
  shown = capsys.readouterr().err
  assert message in shown and shown.startswith('error: ') and shown.count('\n') == 1


def test_an_array_of_scores_becomes_a_store(tmp_path, capsys):
  scores = np.random.default_rng(0).normal(size=(40, 3, 2))
  scores[4, 1, 0] = np.nan
  np.save(tmp_path / 'scores.npy', scores)
  np.save(tmp_path / 'features.npy', np.ones((40, 3, 5)))
  rows = [f'{n},a{n},b{n},c{n}' for n in range(40)]
  (tmp_path / 'texts.csv').write_text('\n'.join(['prompt,response_1,response_2,response_3', *rows]))
  given = {'scores': str(tmp_path / 'scores.npy'), 'reward_models': ['one', 'two']}
  shown = call('import', capsys, out=str(tmp_path / 'plain'), **given)
  assert '40 prompts x 3 responses x 2 reward models' in shown
  assert 'prompts: 32 train, 4 validation, 4 test' in shown
  assert 'never shown: 1 missing and 0 repeated of 120 responses' in shown
  plain = feature_store.open_store(tmp_path / 'plain')
  np.testing.assert_array_equal(plain.rewards, scores.astype(np.float32))
  assert plain.reward_models == ('one', 'two') and not plain.mask[4, 1] and plain.mask.sum() == 119
  more = {'texts': str(tmp_path / 'texts.csv'), 'features': str(tmp_path / 'features.npy')}
  call('import', capsys, out=str(tmp_path / 'whole'), source='mine', licence='CC0', **given, **more)
  whole = feature_store.open_store(tmp_path / 'whole')
  assert whole.features.shape == (40, 3, 5) and whole.source == 'mine'
  assert feature_store.response_texts(tmp_path / 'whole')[7].tolist() == ['a7', 'b7', 'c7']
  users = reward_ensemble.reward_ensemble(whole, num_support=2, num_query=1, num_slates=1)
  assert users.spec.num_features == 2


def test_what_is_no_array_of_scores_makes_no_store(tmp_path, capsys):
  np.save(tmp_path / 'scores.npy', np.ones((40, 3)))
  with pytest.raises(
    ValueError, match=r'\[prompts, responses, reward models\].* float64 \[40, 3\]'
  ):
    call('import', capsys, scores=str(tmp_path / 'scores.npy'), out=str(tmp_path / 'new'))
  assert not (tmp_path / 'new').exists()


def test_any_other_error_keeps_its_traceback(monkeypatch):
  def broken(argv):
    raise RuntimeError('a bug')

  monkeypatch.setattr('sys.argv', ['store'])
  with flagsaver.flagsaver(), pytest.raises(RuntimeError, match='a bug'):
    commands.run(broken)
