"""Learners are tuned by equally many trials, and what was chosen is not trained anew."""

import json

import pytest

from experiments import build, trials
from experiments.configs import base
from metapers.bench import runner, tuning
from metapers.bench.tuning import Trial

RATES = ({'training': {'learning_rate': 1e-6}}, {'training': {'learning_rate': 3e-2}})
HIDDEN = ({'kwargs': {'hidden': (4,)}}, {'kwargs': {'hidden': ()}})


def table(tuned=''):
  config = base.base(build.population_config('two_types'))
  config.training.update({'num_steps': 40, 'steps_per_call': 20, 'evaluate_every': 40})
  config.evaluation.update({'num_users': 20, 'num_validation_users': 20, 'num_resamples': 16})
  config.evaluation.update({'shots': (0, 2), 'rival': '', 'num_particles': 8})
  config = base.table(config, {'pooled': {'kwargs': {'hidden': ()}}, 'per_user': {}})
  return base.with_trials(config, RATES, {'per_user': HIDDEN}, tuned=tuned)


def test_the_best_trial_is_chosen_and_not_trained_anew(tmp_path):
  config, said = table(), []
  tried = trials.of_config(config)
  assert tried == {'pooled': list(RATES), 'per_user': list(HIDDEN)}
  plans = [build.plan(trials.changed(config, each)) for each in trials.by_number(tried)]
  found = tuning.run(plans, tried, tmp_path, log=said.append)
  nlls = {(trial.row, str(trial.changes)): trial.nll for trial in found}
  assert len(nlls) == 4
  chosen = tuning.best(found)
  assert chosen['pooled'] == RATES[1]  # the other hardly moves
  file = tmp_path / 'tuned.json'
  file.write_text(json.dumps({'tuned_on': trials.made_on(config), 'rows': chosen}))
  trials.check_tuned(table(str(file)))

  said.clear()
  made = runner.run(build.plan(table(str(file))), tmp_path, log=said.append)
  trained = [line for line in said if ' steps' in line]
  assert len(trained) == 2 and all(line.endswith('are done') for line in trained)
  assert {'pooled', 'per_user'} <= set(made.frame['learner'])


def test_what_was_tuned_on_another_table_is_refused(tmp_path):
  file = tmp_path / 'tuned.json'
  found = {'tuned_on': trials.made_on(table()), 'rows': {}}
  file.write_text(json.dumps(found))
  other = table(str(file))
  other.training.num_steps = 50
  with pytest.raises(ValueError, match=r'tuned on another table \(num_steps: 40 there, 50 here\)'):
    trials.check_tuned(other)
  file.write_text('{}')
  with pytest.raises(ValueError, match='tuned_on'):
    table(str(file))


def test_a_row_whose_learner_has_another_name_is_tuned():
  config = table()
  config.learners['mine'] = {'name': 'pooled', 'training': {'batch_size': 4}}
  config.benchmark.learners = ('mine',)
  found = trials.changed(config, {'mine': RATES[0]}).learners['mine'].to_dict()
  assert found == {'name': 'pooled', 'training': {'batch_size': 4, 'learning_rate': 1e-6}}


def test_a_learner_is_not_tried_more_often_than_another():
  with pytest.raises(ValueError, match='equally many trials, at least one; got cnp 2, maml 1'):
    tuning.require_equal({'cnp': [{}, {}], 'maml': [{}]})
  with pytest.raises(ValueError, match='equally many'):
    tuning.require_equal({'cnp': []})


def test_trials_of_unlike_lengths_are_refused_before_anything_is_trained(tmp_path):
  config = table()
  tried = {'pooled': [{'training': {'num_steps': 40}}, {'training': {'num_steps': 80}}]}
  plans = [build.plan(trials.changed(config, each)) for each in trials.by_number(tried)]
  with pytest.raises(ValueError, match=r'pooled: .* of one num_steps, got \[40, 80\]'):
    tuning.run(plans, tried, tmp_path)
  assert not list(tmp_path.iterdir())


def test_a_trial_that_diverges_loses_and_a_learner_of_such_alone_is_named(tmp_path):
  config, said = table(), []
  wild = {'training': {'learning_rate': 1e30}}
  tried = {'pooled': [wild, RATES[1]]}
  plans = [build.plan(trials.changed(config, each)) for each in trials.by_number(tried)]
  found = tuning.run(plans, tried, tmp_path, log=said.append)
  assert found[0].nll == float('inf')
  assert tuning.best(found) == {'pooled': RATES[1]}
  tried = {'pooled': [wild]}
  plans = [build.plan(trials.changed(config, each)) for each in trials.by_number(tried)]
  with pytest.raises(FloatingPointError, match='every trial of pooled diverged; try lower rates'):
    tuning.run(plans, tried, tmp_path, log=said.append)


def test_a_table_refuses_the_seed_of_a_run():
  config = table()
  config.seed = 3
  with pytest.raises(ValueError, match=r'give --config.benchmark.seeds=3,'):
    build.plan(config)


def test_of_equal_trials_the_first_is_best():
  made = [Trial('a', {'n': {'x': i}}, nll) for i, nll in enumerate((0.5, 0.3, 0.3))]
  assert tuning.best(made) == {'a': {'n': {'x': 1}}}
  assert list(tuning.frame_of(made)['chosen']) == [False, True, False]


def test_chosen_options_win_over_those_of_the_row_and_leave_the_rest(tmp_path):
  config = table()
  changed = trials.changed(config, {'pooled': {'training': {'num_steps': 7}}})
  assert changed.learners.pooled.kwargs.hidden == ()
  assert changed.learners.pooled.training.num_steps == 7
  assert 'training' not in config.learners.pooled
  with pytest.raises(ValueError, match='the table has no cnp; it has pooled, per_user'):
    trials.changed(config, {'cnp': {}})


def test_a_config_without_trials_is_refused():
  config = table()
  del config.trials
  with pytest.raises(ValueError, match='names no trials'):
    trials.of_config(config)
