import pytest

from metapers.bench import tables


@pytest.mark.parametrize(
  ('metric', 'unit'),
  [
    ('accuracy', '%'),
    ('accuracy_minus_pooled', 'points'),
    ('accuracy_minus_pooled@entropy:2', 'points'),
    ('nll@nearest_disagreement:1', 'nats'),
    ('pick_reward', 'reward'),
    ('pick_beaver_7b_minus_pooled@harmless', 'reward'),
    ('pick_length_minus_pooled', 'words'),
    ('cumulative_regret', 'reward'),
    ('turn_accuracy', '%'),
  ],
)
def test_the_unit_of_a_metric_survives_differences_and_groups(metric, unit):
  assert tables.unit_of(metric) == unit
