"""The command of studies, from flags to files."""

import pandas as pd
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import analyze
from metapers.data import synthetic


@pytest.fixture(autouse=True)
def parsed_flags():
  flags.FLAGS.mark_as_parsed()
  yield
  flags.FLAGS.unparse_flags()


def test_the_command_writes_the_page_and_says_what_is_missing(tmp_path, monkeypatch, capsys):
  store = synthetic.synthetic_store(num_prompts=700)
  monkeypatch.setattr(synthetic, 'synthetic_store', lambda: store)
  given = flagsaver.flagsaver(
    workdir=str(tmp_path / 'out'), num_users=30, num_draws=2, people=['/nowhere'],
    concentrations=['0.05', '0.1', '0.05'],
  )  # fmt: skip
  with given:
    analyze.main(['analyze'])
  said = capsys.readouterr().out
  assert 'warning: α = 0.05 was given more than once' in said
  assert 'holds no texts' in said and "path='/nowhere' is no folder" in said
  text = (tmp_path / 'out' / 'report.html').read_text()
  assert 'Left out: ' in text and 'Diversity' in text
  numbers = pd.read_csv(tmp_path / 'out' / 'analysis.csv')
  own = numbers[(numbers['statistic'] == 'entropy') & (numbers['population'] == 'Dirichlet users')]
  assert own['concentration'].tolist() == [0.05, 0.1] * 2
