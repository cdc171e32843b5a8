"""Clusters start from individuals: how long these were trained is a part of the run."""

import functools
import re

import jax
import numpy as np
import pytest
from tiny_styles import BASE, MODEL

from metapers.bench.language import policies
from metapers.bench.language.policies import Row, Study
from metapers.llm import p_dpo, reference, styled_users
from metapers.training.meta_training import Training

OPTIONS = {'num_tokens': 2, 'lora_rank': 2, 'kind': 'cluster', 'num_clusters': 2}
CLUSTERS = Row(OPTIONS)


@pytest.fixture(scope='module')
def study():
  splits = styled_users.styled_users(
    num_users=4, num_pairs=6, num_held_out=2, num_support=2, num_query=3, seed=0
  )
  optimizer = functools.partial(p_dpo.optimizer, user_learning_rate=0.03, warmup_steps=1)
  training = Training(
    num_steps=4, batch_size=4, chunk_size=4, shots=0, learning_rate=1e-2, steps_per_call=1,
    evaluate_every=0, optimizer=optimizer,
  )  # fmt: skip
  splits = reference.with_references(MODEL, BASE, splits)
  return Study('s', splits, training, {}, None, (0,))


def trained(study, workdir, row=CLUSTERS, name='cluster_2'):
  return policies.train(
    MODEL, BASE, study, row, name=name, seed=0, workdir=workdir, identity={}, progress=False
  )


def test_clusters_of_shorter_individuals_are_not_gone_on_with(study, tmp_path):
  first = trained(study, tmp_path)
  again = trained(study, tmp_path)  # what is finished is read
  jax.tree.map(np.testing.assert_array_equal, again.params, first.params)
  clusters, individuals = sorted(path.name for path in tmp_path.iterdir())
  assert clusters == 'cluster_2_0' and re.fullmatch('individuals_[0-9a-f]{8}_0', individuals)
  longer = study._replace(training=study.training._replace(num_steps=8))
  with pytest.raises(ValueError, match='steps_before: 2 there, 4 now'):
    trained(longer, tmp_path)
  fresh = trained(longer, tmp_path / 'other')
  assert not np.array_equal(fresh.params['users']['clusters'], first.params['users']['clusters'])


def test_the_two_halves_are_not_shown_the_same(study, tmp_path, monkeypatch):
  seeds, train = [], policies.meta_training.meta_train

  def noted(*given, seed, **options):
    seeds.append(seed)
    return train(*given, seed=seed, **options)

  monkeypatch.setattr(policies.meta_training, 'meta_train', noted)
  trained(study, tmp_path)
  assert len(set(seeds)) == 2


def test_rows_share_only_individuals_that_are_trained_alike(study, tmp_path):
  trained(study, tmp_path)
  trained(study, tmp_path, Row({**OPTIONS, 'num_clusters': 3}), 'cluster_3')
  assert len(list(tmp_path.glob('individuals_*'))) == 1
  trained(study, tmp_path, Row({**OPTIONS, 'num_tokens': 3}), 'more_tokens')
  trained(study, tmp_path, Row(OPTIONS, reads_text=False), 'silent')
  assert len(list(tmp_path.glob('individuals_*'))) == 3


def test_a_row_that_reads_no_texts_any_more_is_another_run(study, tmp_path):
  alone = {'kind': 'individual', 'num_tokens': 2}
  trained(study, tmp_path, Row(alone), 'individual')
  with pytest.raises(ValueError, match='reads_text: absent there, False now'):
    trained(study, tmp_path, Row(alone, reads_text=False), 'individual')
