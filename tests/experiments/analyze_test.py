"""The command of studies, from flags to files."""

import pandas as pd
from forks import command

from metapers.data import feature_store, manifest, synthetic


def test_the_command_writes_the_page_and_says_what_is_missing(tmp_path):
  about = manifest.Provenance('synthetic, for a test', 'by hand', 'Apache-2.0', 'none', '1')
  table = synthetic.synthetic_store(num_prompts=700)
  store = feature_store.write_store(tmp_path / 'store', table, about)
  done = command(
    'analyze', f'--store={store}', f'--workdir={tmp_path / "out"}', '--num_users=30',
    '--num_draws=2', '--people=/nowhere', '--learners=', '--personas=decoder=/nowhere',
    '--concentrations=0.05,0.1,0.05',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert 'α = 0.05 was given more than once' in done.stdout + done.stderr
  text = (tmp_path / 'out' / 'report.html').read_text()
  assert 'Left out: ' in text and 'Diversity' in text
  assert 'decoder=/nowhere: left out' in text or 'holds no texts' in text
  numbers = pd.read_csv(tmp_path / 'out' / 'analysis.csv')
  own = numbers[(numbers['statistic'] == 'entropy') & (numbers['population'] == 'Dirichlet users')]
  assert own['concentration'].tolist() == [0.05, 0.1] * 2
  given = (f'--store={store}', f'--workdir={tmp_path / "other"}', '--runs=/a/cnp,/b/cnp')
  refused = command('analyze', *given)
  assert refused.returncode == 2 and 'several folders are called cnp' in refused.stderr
