"""Held-out people are asked about items that their support does not show."""

import numpy as np
import pytest
from populations.made_up_people import all_episodes, items_of, made_up

from metapers.core.population import SPLITS
from metapers.populations import people


def test_fresh_items_are_asked_of_held_out_people_alone():
  histories = made_up(num_users=80, num_items=60)
  usual, fresh = (
    people.people(histories, num_support=4, num_query=12, fresh_items=fresh)
    for fresh in (False, True)
  )
  before, after = (all_episodes(population, 'test') for population in (usual, fresh))
  for support, asked, kept in zip(
    items_of(after.support), items_of(before.query), np.asarray(after.query.mask), strict=True
  ):
    shown = support[support >= 0]
    expected = [pair.min() >= 0 and not np.isin(pair, shown).any() for pair in asked]
    np.testing.assert_array_equal(kept, expected)
  assert 0 < after.query.mask.sum() < before.query.mask.sum()
  np.testing.assert_array_equal(
    after.support.candidates.features, before.support.candidates.features
  )
  trained = [all_episodes(population, 'train').query.mask for population in (usual, fresh)]
  np.testing.assert_array_equal(*trained)


def test_people_without_a_fresh_item_to_be_asked_about_are_left_out():
  histories = made_up(num_users=80, num_items=6)
  options = {'num_support': 4, 'num_query': 12}
  usual, fresh = (people.people(histories, fresh_items=f, **options) for f in (False, True))
  asked = all_episodes(fresh, 'test').query.mask.any(1)
  assert asked.all()
  sizes = [{s: len(p.arrays.people[s].mask) for s in SPLITS} for p in (usual, fresh)]
  assert fresh.record['num_too_few'] == sum(sizes[0].values()) - sum(sizes[1].values()) > 0
  assert sizes[0]['train'] == sizes[1]['train']
  with pytest.raises(ValueError, match='is empty'):
    people.people(made_up(num_users=80, num_items=3), fresh_items=True, **options)
