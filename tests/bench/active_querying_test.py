"""Active querying: reports on made-up learners whose leads are known, and a run from end to end."""

import functools
import types

import evaluation_sets
import numpy as np
import pandas as pd
import pytest
from own_population import dinners

from metapers import bench, learners
from metapers.bench import asking, asking_report, results
from metapers.bench import plan as plans
from metapers.bench.asking import LEAD, QueryingResult, Questioning
from metapers.bench.settings import Setting
from metapers.core import population
from metapers.evaluation.acquisition import RULES

MOST, AFTER = 8, 2
SIZES = {'num_users': 5, 'num_prompts': 1, 'num_items': 1}


def quiet(text):
  del text


def made_up_users():
  pool = types.SimpleNamespace(mask=np.ones((5, 9), bool))
  return Setting(
    name='test',
    title='users',
    labels={'protocol': 'asking', 'split': 'test'},
    shots=tuple(range(MOST + 1)),
    populations=(types.SimpleNamespace(record={}, source='made up'),),
    sizes=(5,),
    tasks=types.SimpleNamespace(support=pool),
    truth=None,
    evaluated=types.SimpleNamespace(**SIZES, sizes=SIZES),
    trained={},
  )


def curve(speed, spread=0.0):
  """Accuracy that rises by `speed` points a question, ± .95 `spread`."""
  speeds = speed + evaluation_sets.spread(0.95 * spread, 5)[:, 0]
  accuracy = 0.5 + 0.01 * np.outer(speeds, np.arange(MOST + 1))
  return {'accuracy': accuracy, 'regret': 1 - accuracy, 'nll': 2 - accuracy}


def by_rule(speed, spread=0.0):
  return {
    rule: curve(1.0 if rule == 'random' else speed, spread * (rule != 'random')) for rule in RULES
  }


FOUND = {'bayes': by_rule(9.0), 'able': by_rule(2.0, 0.4), 'able twin': by_rule(1.5, 1.0)}


@pytest.fixture(scope='module')
def made_up():
  plan = plans.Plan(
    entries={'able': bench.Entry(learners.factory('bayes_head'))},
    conditions=(),
    populations=(),
    evaluation=bench.Evaluation(shots=(0, 2, 8)),
    protocol='asking',
  )
  questioning = Questioning(dinners, num_questions=MOST, compared_after=AFTER)
  users = made_up_users()
  frame = results.join(
    [asking.rows_of(users, name, found, plan, questioning) for name, found in FOUND.items()]
  )
  return QueryingResult(frame, dict.fromkeys(FOUND, 'epig'), users, plan, questioning)


def test_rows_name_learner_and_rule_and_the_lead_over_random(made_up):
  lead = results.select(made_up.frame, learner='able bald', metric=LEAD)
  assert lead['shots'].tolist() == [str(AFTER)]
  np.testing.assert_allclose(
    lead[list(results.NUMBERS)].to_numpy(), [[2, 1.24, 2.76]], atol=1e-6
  )  # speed 2 ± 0.38: random needs 2 (speed) questions
  gain = results.select(made_up.frame, learner='able bald', metric='accuracy_minus_random', shots=8)
  np.testing.assert_allclose(gain['value'], [0.08])
  assert results.select(made_up.frame, learner='able random', metric=LEAD).empty


def test_a_lead_on_new_items_has_the_interval_of_new_items(made_up):
  sizes = {'num_users': made_up.users.evaluated.num_users, 'num_prompts': 100, 'num_items': 2}
  users = made_up.users._replace(evaluated=types.SimpleNamespace(**sizes, sizes=sizes))
  rows, noise = np.arange(17), np.tile([1.0, -1.0], 9)[:17]
  speeds = 2 + 0.2 * noise * ((rows > 4) & (rows <= 8)) + 0.1 * noise * ((rows > 8) & (rows <= 12))
  found = {
    'random': curve(1.0),
    'bald': {'accuracy': 0.5 + 0.01 * np.outer(speeds, np.arange(MOST + 1))},
  }
  made = asking.rows_of(users, 'able', found, made_up.plan, made_up.questioning)
  lead, gain = (
    results.select(made, metric=metric, shots=AFTER).iloc[0]
    for metric in (LEAD, 'accuracy_minus_random')
  )
  # Speed 2 of 1 point a question: a question ahead is a point, and so are their intervals.
  assert lead.ci_high - lead.ci_low == pytest.approx(100 * (gain.ci_high - gain.ci_low))


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('able', 'random questions reach after 4.0. It saves 2.0 (1.2 to 2.8) questions'),
    ('able', 'which is significant.'),
    ('able twin', 'which is not significant.'),
    ('bayes', 'random questions reach after at least 8.0. It saves ≥ 6.0 (≥ 6.0 to ≥ 6.0)'),
  ],
)
def test_the_statement_gives_the_lead_and_whether_it_is_one(made_up, name, expected):
  assert expected in asking_report.statement(made_up, name, 'bald')


def test_a_rule_that_costs_questions_is_said_to(made_up):
  worse = made_up.frame['metric'] == LEAD
  numbers = made_up.frame.loc[worse, ['value', 'ci_low', 'ci_high']] * 0 + [-2.0, -3.1, -1.0]
  frame = made_up.frame.astype({'value': float}).copy()
  frame.loc[worse, ['value', 'ci_low', 'ci_high']] = numbers
  said = asking_report.statement(made_up._replace(frame=frame), 'able', 'bald')
  assert said.endswith('It costs 2.0 (1.0 to 3.1) questions (95 % interval), which is significant.')


def test_everything_is_written(made_up, tmp_path):
  paths = asking_report.write_result(made_up, tmp_path)
  assert [path.name for path in paths] == ['results.csv', 'asking.png', 'report.html']
  assert 'able: epig, the best rule on validation users' in asking_report.summary(made_up)
  whom = (
    'for new people who compare the same items, not for new items, and for these trained models'
  )
  assert whom in asking_report.summary(made_up)
  assert (tmp_path / 'asking.png').stat().st_size > 10_000
  page = (tmp_path / 'report.html').read_text()
  assert page.count(whom) == 1 + len(FOUND)  # above each table
  assert page.index(asking_report.verdict(made_up)) < page.index('What a good question saves')
  assert asking_report.verdict(made_up) == (
    'Choosing questions saves some, beyond the interval, with 2 of 3 learners (a count that is not '
    'adjusted for so many); most with bayes by epig: ≥ 6.0 (≥ 6.0 to ≥ 6.0).'
  )
  assert page.index('accuracy_minus_random (points)') < page.index('accuracy (%)')
  for part in ('What a good question saves', 'able asks users, pools of 9', 'bayes epig', '≥ 6.0'):
    assert part in page
  written = results.read_results(tmp_path / 'results.csv')
  assert set(written['learner']) == {f'{name} {rule}' for name in FOUND for rule in RULES}


def test_curves_of_a_learner_stand_beside_bayes_by_the_same_rules(made_up):
  drawn = asking_report.figure(made_up, 'able')
  named = {text.get_text().strip() for text in drawn.axes[0].texts}
  assert named == {*RULES, 'bayes epig', 'bayes random'}


def test_without_bayes_a_learner_stands_alone(made_up):
  alone = made_up._replace(
    frame=made_up.frame[~made_up.frame['learner'].str.startswith('bayes')],
    best_rules={'able': 'bald', 'able twin': 'epig'},
  )
  drawn = asking_report.figure(alone, 'able')
  assert {text.get_text().strip() for text in drawn.axes[0].texts} == set(RULES)
  assert [line[0] for line in asking_report.leads(alone).body] == ['able', 'able twin']


def test_the_best_rule_is_not_random():
  found = by_rule(0.5)
  assert asking.best_rule(found) != 'random'
  assert asking.best_rule(found | {'bald': curve(0.9)}) == 'bald'


@functools.cache
def critics():
  """Returns diners who are shown the critics' scores, so that there is an exact posterior."""
  made = dinners(num_diners=12)
  return made._replace(
    arrays=made.arrays | {'features': made.arrays['rewards']},
    spec=made.spec._replace(features=population.vector(3)),
    simulation=made.simulation._replace(has_score_features=True),
  )


def plan_of(make_population, learner='bayes_head', **kwargs):
  short = bench.Training(num_steps=4, batch_size=8, chunk_size=8, steps_per_call=2)
  small = bench.Evaluation(
    shots=(0, 1, 3), num_users=8, num_validation_users=8, num_resamples=20, num_particles=40,
    rival='',
  )  # fmt: skip
  return plans.Plan(
    entries={learner: bench.Entry(learners.factory(learner), kwargs, training=short)},
    conditions=(),
    populations=(make_population,),
    evaluation=small,
    protocol='asking',
    identity={'learner': learner},
  )


ASKED = Questioning(
  critics, num_questions=3, compared_after=1, num_samples={'bayes': 16, 'bayes_head': 16}
)


@pytest.fixture(scope='module')
def asked(tmp_path_factory):
  """Returns what a run came to, and its workdir."""
  workdir = tmp_path_factory.mktemp('asking') / 'workdir'
  return asking.run(plan_of(critics, width=4), ASKED, workdir, log=quiet), workdir


def test_every_learner_asks_by_every_rule(asked):
  result, _ = asked
  names = {f'{name} {rule}' for name in ('bayes', 'bayes_head') for rule in RULES}
  assert set(result.frame['learner']) == names
  accuracy = results.select(result.frame, metric='accuracy')
  assert set(accuracy['shots']) == {'0', '1', '2', '3'}
  assert set(accuracy['train_shots']) == {'', '0-8'}  # of bayes, of bayes_head
  assert set(accuracy['split']) == {'test'}
  assert set(result.best_rules) == {'bayes', 'bayes_head'}
  start = results.select(accuracy, shots=0).set_index('learner')['value']
  assert len({start[f'bayes {rule}'] for rule in RULES}) == 1  # nothing has been asked yet


def test_finished_parts_are_skipped(asked):
  result, workdir = asked
  lines = []
  again = asking.run(plan_of(critics, width=4), ASKED, workdir, log=lines.append)
  assert not [line for line in lines if ' asks ' in line or ' steps' in line]
  pd.testing.assert_frame_equal(again.frame, result.frame)
  with pytest.raises(ValueError, match='holds a run of another config'):
    asking.run(plan_of(critics)._replace(identity={'protocol': 'x'}), ASKED, workdir, log=quiet)


def test_a_shorter_run_is_refused_before_anything_is_changed(asked):
  _, workdir = asked
  before, plan = (workdir / 'config.json').read_bytes(), plan_of(critics, width=4)
  shorter = {
    row: entry._replace(training=entry.training._replace(num_steps=2))
    for row, entry in plan.entries.items()
  }
  with pytest.raises(ValueError, match='was trained for 4 steps, and 2 are asked for'):
    asking.run(plan._replace(entries=shorter, identity={'learner': 'x'}), ASKED, workdir, log=quiet)
  assert (workdir / 'config.json').read_bytes() == before


def test_users_without_an_exact_posterior_are_asked_by_learners_alone():
  made = critics()
  facts = made.simulation._replace(has_score_features=False)
  everyone = functools.cache(lambda: made._replace(simulation=facts))
  with pytest.raises(ValueError, match='needs score features'):
    asking.run(plan_of(everyone, width=4), ASKED._replace(population=everyone), log=quiet)
  alone = ASKED._replace(population=everyone, exact=False)
  result = asking.run(plan_of(everyone, width=4), alone, log=quiet)
  assert set(result.frame['learner']) == {f'bayes_head {rule}' for rule in RULES}
  assert len(asking_report.section(result, 'bayes_head').figures) == 2


def extreme():
  made = critics()
  return made._replace(simulation=made.simulation._replace(pair_rules=('extreme',)))


@pytest.mark.parametrize(
  ('make_population', 'message'),
  [
    (extreme, 'pairs that do not depend on the user'),
    (lambda: critics()._replace(simulation=None), 'no exact posterior of real people'),
  ],
)
def test_users_without_an_exact_posterior_are_refused(make_population, message):
  with pytest.raises(ValueError, match=message):
    asking.run(plan_of(critics), ASKED._replace(population=make_population), log=quiet)


@pytest.mark.parametrize(
  ('plan', 'changes', 'message'),
  [
    (plan_of(critics, 'cnp'), {}, 'cnp has no posterior to choose questions by'),
    (plan_of(critics, 'cnp'), {'num_samples': {'cnp': 4}}, 'cnp takes no num_samples'),
    (plan_of(critics), {'compared_after': 3}, 'must lie between 0 and num_questions=3, got 3'),
    (plan_of(critics), {'num_questions': 9}, 'num_questions=9 are more than the 8 of a pool'),
    (plan_of(critics)._replace(seeds=(0, 1)), {}, r'one seed and no folds, got seeds=\(0, 1\)'),
  ],
)
def test_what_cannot_ask_is_refused_before_anything_is_trained(plan, changes, message):
  lines = []
  with pytest.raises(ValueError, match=message):
    asking.run(plan, ASKED._replace(**changes), log=lines.append)
  assert not lines
