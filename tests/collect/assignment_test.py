import collections

import made_studies
import numpy as np
import pytest

from metapers.collect import assignment
from metapers.collect.settings import Settings

ASKED = Settings(
  num_questions=40, control_share=0.3, repeat_share=0.2, attention_share=0.1, pool_size=20
)


def choose(position):
  return position % 2


@pytest.mark.parametrize('batch_size', [1, 4])
def test_the_same_seed_and_answers_give_the_same_questions(batch_size):
  plan = made_studies.plan_of(ASKED._replace(batch_size=batch_size))
  history = made_studies.simulate(plan, 5, choose)
  assert history == made_studies.simulate(plan, 5, choose)
  others = made_studies.simulate(plan, 6, choose)
  assert [q.pool for q in history] != [q.pool for q in others]
  # Whatever was answered before a batch is all that it depends on.
  for start in range(0, 40, batch_size):
    again = assignment.next_batch(plan, 5, history[:start])
    assert [q.items for q in again] == [q.items for q in history[start : start + batch_size]]


def test_an_adaptive_question_follows_the_answers_and_a_control_does_not():
  plan = made_studies.plan_of(ASKED._replace(repeat_share=0.0))
  one = made_studies.simulate(plan, 1, lambda position: 0)
  other = made_studies.simulate(plan, 1, lambda position: 1)
  assert [q.kind for q in one] == [q.kind for q in other]
  assert any(a.pool != b.pool for a, b in zip(one, other))


def test_kinds_have_their_shares():
  plan = made_studies.plan_of(ASKED)
  kinds = collections.Counter(
    question.kind for user in range(40) for question in made_studies.simulate(plan, user, choose)
  )
  total = sum(kinds.values())
  for kind, share in (('control', 0.3), ('repeat', 0.2), ('attention', 0.1)):
    assert kinds[kind] / total == pytest.approx(share, abs=0.04), kind


def test_a_question_is_asked_twice_only_as_a_repeat_with_its_places_exchanged():
  plan = made_studies.plan_of(ASKED)
  for user in range(10):
    first = {}
    for question in made_studies.simulate(plan, user, choose):
      if question.kind == 'repeat':
        before = first[question.pool]
        assert question.items == before.items
        assert question.shown == tuple(reversed(before.shown))
        assert question.position - before.position > assignment.REPEAT_AFTER
      elif question.pool is not None:
        assert question.pool not in first
        first[question.pool] = question


@pytest.mark.parametrize('size', [2, 3])
def test_each_place_has_every_candidate_equally_often(size):
  plan = made_studies.plan_of(ASKED)
  shown = [assignment._places(plan, 3, position, size) for position in range(10 * size)]
  for place in range(size):
    counts = collections.Counter(each[place] for each in shown)
    assert set(counts.values()) == {10}
  assert len(set(shown[: 10 * size : size])) > 1  # and not always in turn


def test_propensities_are_those_of_the_draw():
  # One adaptive choice at a time: over many seeds each question comes as often as was stated.
  asked = Settings(num_questions=1, control_share=0.4, repeat_share=0.0, attention_share=0.0)
  seen, stated = collections.Counter(), {}
  for seed in range(3000):
    plan = made_studies.plan_of(asked._replace(seed=seed), num_items=4)
    (question,) = assignment.next_batch(plan, 1, [])
    seen[question.pool] += 1
    stated[question.pool] = question.propensity
  assert sum(stated.values()) == pytest.approx(1)
  for pool, propensity in stated.items():
    assert seen[pool] / 3000 == pytest.approx(propensity, abs=0.03)


def test_predictions_are_of_the_moment_before_the_batch():
  plan = made_studies.plan_of(ASKED._replace(batch_size=4))
  for question in made_studies.simulate(plan, 2, choose):
    if question.kind == 'attention':
      assert question.predicted is None
    else:
      np.testing.assert_allclose(
        question.predicted, plan.guide.predict([], plan.pool[[question.pool]])[0]
      )


def test_where_everything_was_asked_the_study_ends():
  plan = made_studies.plan_of(ASKED._replace(repeat_share=0.0, attention_share=0.0), num_items=4)
  history = made_studies.simulate(plan, 1, choose)
  assert sorted(q.pool for q in history) == list(range(6))


def test_batches_begin_at_multiples_of_their_size_also_where_everything_was_asked(
  monkeypatch,
):
  lengths = []

  def next_batch(plan, participant, history):
    lengths.append(len(history))
    return assignment.next_batch(plan, participant, history)

  monkeypatch.setattr(made_studies, 'next_batch', next_batch)
  asked = ASKED._replace(batch_size=8, repeat_share=0.5)
  plan, ends = made_studies.plan_of(asked, num_items=5), set()
  for user in range(30):
    lengths.clear()
    made_studies.simulate(plan, user, choose)
    *begun, end = lengths
    assert not any(first % 8 for first in begun)
    ends.add(end % 8)
  assert ends != {0}  # some could not be filled


def test_propensities_of_a_second_question_count_what_is_left():
  """Of a batch without a model the second question is drawn from all of the pool but the first."""
  asked = Settings(
    num_questions=3, batch_size=3, rule='random', control_share=0.4, repeat_share=0.0,
    attention_share=0.0, pool_size=6,
  )  # fmt: skip
  batch = assignment.next_batch(made_studies.plan_of(asked, num_items=4), 1, [])
  assert [len(question.offered) for question in batch] == [6, 5, 4]
  assert [question.propensity for question in batch] == pytest.approx([1 / 6, 1 / 5, 1 / 4])


@pytest.mark.parametrize('place', [1, 2])
def test_propensities_within_a_batch_are_those_of_the_draw(place):
  asked = Settings(
    num_questions=3, batch_size=3, control_share=0.4, repeat_share=0.0, attention_share=0.0
  )
  weights, stated = [], set()
  for seed in range(2000):
    plan = made_studies.plan_of(asked._replace(seed=seed), num_items=4)
    question = assignment.next_batch(plan, 1, [])[place]
    assert question.pool in question.offered
    weights.append(1 / question.propensity / len(question.offered))
    stated.add(round(question.propensity, 6))
  assert np.mean(weights) == pytest.approx(1, abs=0.1)  # of any draw whose chances are as stated
  assert len(stated) > 1
