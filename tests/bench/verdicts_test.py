"""Verdicts on made-up results, word for word."""

import types

import evaluation_sets
import numpy as np
import pytest

from metapers.bench import results, settings, verdicts
from metapers.bench.plan import Stream
from metapers.bench.settings import Setting
from metapers.core.task import Candidates, Choices

SHOTS = (0, 2, 8)
WAVE = evaluation_sets.spread(0.95, 50)
SIZES = {'num_users': 50, 'num_prompts': 1, 'num_items': 1}


def line(values, spread=0.0):
  """Accuracy after each number of comparisons; its interval is ± .95 of the spread."""
  return {'accuracy': np.asarray(values) + spread * WAVE}


POOLED = line([0.7, 0.7, 0.7])
ABLE = line([0.7, 0.75, 0.8], 0.02)
FOUND = {
  'bayes': line([0.72, 0.8, 0.9]),
  'able': ABLE,
  'twin': line([0.7, 0.75, 0.79], -0.02),
  'slow': line([0.7, 0.7, 0.72]),
  'pooled': POOLED,
}


def a_setting(title='50 users, noiseless', protocol='demo', fewest=8, **changed):
  mask = np.ones((50, 16), bool)
  held = np.arange(8) < np.where(np.arange(50) < 45, fewest, 8)[:, None]
  support = types.SimpleNamespace(mask=held)
  query = Choices(Candidates(mask, mask), choice=mask, weight=mask.astype(float), mask=mask)
  evaluated = types.SimpleNamespace(
    **SIZES, sizes=SIZES, tasks=types.SimpleNamespace(query=query, support=support), draws=None
  )
  return Setting(
    name='test',
    title=title,
    labels={'protocol': protocol},
    shots=SHOTS,
    populations=(),
    sizes=(50,),
    tasks=evaluated.tasks,
    truth=None,
    evaluated=evaluated,
    trained={},
  )._replace(**changed)


def frame_of(found, setting=None, metric='accuracy'):
  named = {name: {'0': {metric: own['accuracy']}} for name, own in found.items()}
  return results.rows_of(setting or a_setting(), named)


def without(*names):
  return {name: own for name, own in FOUND.items() if name not in names}


def said(found, setting=None, *, others=()):
  setting = setting or a_setting()
  frame = results.join([frame_of(found, setting), *others])
  lead, sections = verdicts.of_table(frame, [setting])
  assert not sections
  return [sentence.replace('\N{NO-BREAK SPACE}', ' ') for sentence in lead]


def extra(metric, value, width=0.0, learner='able', shots=8):
  samples = {metric: np.full((1, 1), value) + width * WAVE}
  labels = {'protocol': 'demo', 'learner': learner, 'seed': '0'}
  return results.rows(samples, [shots], labels, num_users=50)


def test_learners_that_are_not_told_apart_are_named_and_none_is_called_best():
  assert said(FOUND) == [
    'After 8 comparisons of a new user, able is ahead, not told apart from twin (adjusted for all '
    '3 comparisons of 3 learners): it predicts 80.0 % of the choices of 50 users right.',
    'It gains 10.0 points (95 % interval, not adjusted for 3 learners: 8.1 to 11.9) over pooled, '
    'which does not personalise; beyond the interval from 2 comparisons on.',
    'It is 10.0 points (8.1 to 11.9) below bayes, the exact answer.',
  ]


def test_a_learner_above_all_others_beyond_the_interval_is_the_best():
  assert said(without('twin'))[0] == (
    'After 8 comparisons of a new user, able is the best learner: it predicts 80.0 % of the '
    'choices of 50 users right.'
  )


def test_a_third_learner_may_be_near_where_the_second_is_not():
  found = FOUND | {'twin': line([0.7, 0.7, 0.79], 0.015), 'far': line([0.7, 0.7, 0.78], -0.1)}
  assert (
    'able is ahead, not told apart from far (adjusted for all 6 comparisons of 4' in said(found)[0]
  )


def test_names_are_listed_with_commas():
  assert verdicts.listed(['a', 'b', 'c']) == 'a, b and c'
  assert verdicts.listed(['a', 'b']) == 'a and b'
  assert verdicts.listed(['a']) == 'a'


def test_without_a_gain_beyond_the_interval_none_is_claimed():
  found = {'able': line([0.7, 0.7, 0.703], 0.02), 'pooled': POOLED}
  assert said(found)[:2] == [
    'After 8 comparisons of a new user, able is the only learner beside pooled: it predicts 70.3 % '
    'of the choices of 50 users right.',
    'No learner gains over pooled, which does not personalise, beyond the interval: able has 0.3 '
    'points (95 % interval -1.6 to 2.2).',
  ]


def test_another_learner_than_the_highest_may_be_the_one_that_gains():
  found = {'able': line([0.7, 0.7, 0.73], 0.1), 'slow': FOUND['slow'], 'pooled': POOLED}
  assert said(found)[1] == (
    'Its gain over pooled, which does not personalise, is not beyond the interval: 3.0 points '
    '(95 % interval, not adjusted for 2 learners: -6.5 to 12.5). That of slow is: 2.0 points (2.0 '
    'to 2.0).'
  )


def test_a_gain_counts_from_where_it_lasts():
  early = line([0.8, 0.7, 0.8])
  assert 'interval only after 8, not after 2.' in said({'able': early, 'pooled': POOLED})[1]
  always = line([0.8, 0.8, 0.8])
  assert 'beyond the interval from 0 comparisons on.' in said({'able': always, 'pooled': POOLED})[1]


def test_without_pooled_no_gain_is_given():
  assert said(without('pooled', 'bayes'))[1] == (
    'What personalising gains is not known: no learner is named pooled.'
  )


@pytest.mark.parametrize(
  ('found', 'sentence'),
  [
    (
      FOUND | {'bayes': line([0.7, 0.8, 0.805])},
      'It is not told apart from bayes, the exact answer: -0.5 points (-2.4 to 1.4).',
    ),
    (
      without('bayes') | {'oracle': line([0.9, 0.9, 0.95])},
      'There is no exact answer to compare it with; one who knows the users has 95.0 %.',
    ),
    (
      without('bayes'),
      'No ceiling is known of these users: pooled is what learners are measured against.',
    ),
    (
      without('bayes') | {'bayes_scores': line([0.7, 0.7, 0.75])},
      'It is 5.0 points (3.1 to 6.9) above bayes_scores, the exact answer to one who sees the '
      'scores.',
    ),
  ],
)
def test_the_ceiling_is_named_or_said_to_be_missing(found, sentence):
  assert said(found)[2] == sentence


def test_for_whom_it_is_worse_is_said_with_shares_and_groups():
  shares = [extra('users_worse_than_pooled', 0.1, 0.04), extra('users_better_than_pooled', 0.6)]
  gains = [extra(f'accuracy_minus_pooled@entropy:{group}', 0.03) for group in (1, 2)]
  start = (
    'For 10.0 % of the users (6.2 to 13.8) it is worse than pooled, for 60.0 % better, as measured '
    'on about 16 comparisons each'
  )
  assert said(FOUND, others=shares)[3] == f'{start}.'
  assert said(FOUND, others=[*shares, *gains])[3] == (
    f'{start}; in none of 2 groups of users is it so beyond the interval.'
  )
  lost = extra('accuracy_minus_pooled@nearest_l1:3', -0.03, 0.02)
  assert said(FOUND, others=[*shares, *gains, lost])[3] == (
    f'{start}; it is so beyond the interval in nearest l1 group 3: -3.0 points (-4.9 to -1.1).'
  )


def test_a_stream_is_spoken_of_in_turns():
  setting = a_setting(stream=Stream(0, 0), shots=(1, 4, 8))
  frame = frame_of(without('twin'), setting, 'turn_accuracy')
  lead, _ = verdicts.of_table(frame, [setting])
  assert lead[0].startswith('In turns 5 to 8, able is the best learner: ')
  assert lead[1].endswith('; beyond the interval from turn 2 on.')


def test_who_has_fewer_comparisons_is_not_said_to_have_given_more():
  assert said(FOUND)[0].startswith('After 8 comparisons of a new user')
  assert said(FOUND, a_setting(fewest=2))[0].startswith('After up to 8 comparisons of a new user')
  note = settings.fewer_note(a_setting(fewest=2).tasks.support.mask, SHOTS)
  assert note == 'of 50 users 5 have 8 to give; the others give all that they have'
  assert not settings.fewer_note(a_setting().tasks.support.mask, SHOTS)


def of_conditions(*several):
  drawn = [
    a_setting(f'50 users (α = {i}, flat), noiseless', protocol=f'demo {i}')
    for i in range(len(several))
  ]
  frame = results.join([frame_of(own, at) for own, at in zip(several, drawn, strict=True)])
  lead, sections = verdicts.of_table(frame, drawn)
  texts = [line for section in sections for line in section.text]
  return [[line.replace('\N{NO-BREAK SPACE}', ' ') for line in part] for part in (lead, texts)]


def test_several_conditions_have_a_verdict_over_all_and_a_sentence_each():
  nothing = {'able': line([0.7, 0.7, 0.703], 0.02), 'pooled': POOLED}
  lead, texts = of_conditions(FOUND, nothing)
  assert not texts
  assert lead == [
    'After 8 comparisons of a new user, learners gain over pooled, beyond the interval, in 1 of 2 '
    'conditions (a count that is not adjusted for so many).',
    'The most is 10.0 points (95 % interval, not adjusted for 3 learners: 8.1 to 11.9), of able; '
    'there: 50 users (α = 0, flat).',
    'The highest learner is able in 2 (told apart from all others in 0), each condition on its own '
    '(adjusted for all 3 comparisons of 3 learners).',
    '50 users (α = 0, flat): able 80.0 %, not told apart from twin; 10.0 points (8.1 to 11.9) over '
    'pooled; 10.0 points (8.1 to 11.9) below bayes.',
    '50 users (α = 1, flat): able 70.3 %; 0.3 points (-1.6 to 2.2) over pooled, not told apart.',
  ]


def test_without_pooled_no_gain_is_counted_over_several_conditions():
  lead, _ = of_conditions(*[without('pooled', 'bayes')] * 2)
  assert lead[0] == 'What personalising gains is not known: no learner is named pooled.'
  assert said(without('pooled', 'bayes'))[2] == 'No ceiling is known of these users.'


def test_many_conditions_have_a_section_for_their_sentences():
  lead, texts = of_conditions(*[FOUND] * 7)
  assert len(lead) == 3 and len(texts) == 7


def test_a_table_of_pooled_alone_has_no_verdict():
  assert said({'pooled': POOLED}) == []


def test_the_verdict_is_on_all_seeds():
  setting = a_setting()
  named = {name: {'': own} for name, own in without('twin').items()}
  named['able'] = {'0': line([0.7, 0.7, 0.7]), '1': line([0.7, 0.8, 0.9])}
  lead, _ = verdicts.of_table(results.rows_of(setting, named), [setting])
  assert '80.0' in lead[0]
