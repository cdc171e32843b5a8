"""A finished table grows: what is new is trained and predicted, and nothing else."""

import functools
import json

import jax
import numpy as np
import pandas as pd
import pytest
from own_population import dinners
from runner_test import SHORT, SMALL, quiet

from metapers import learners
from metapers.bench import cells, fingerprints, plan, runner, runs, settings
from metapers.core import meta_learner
from metapers.populations import toy
from metapers.training import objectives

pytestmark = pytest.mark.slow

FOUR = ('cnp', 'pooled', 'per_user', 'maml')
SIZES = {'cnp': {'hidden': 8, 'width': 4}, 'bayes_head': {'hidden': (8,), 'width': 4}}


@functools.cache
def learner(name, **changes):
  own = SIZES.get(name, {'hidden': ()})
  return learners.make(name, num_features=4, **own | changes)


def table(workdir, given=FOUR, **changes):
  """Returns a table and which runs were trained for it."""
  said = []
  rows = given if isinstance(given, dict) else {name: learner(name) for name in given}
  options = {'training': SHORT, 'evaluation': SMALL, 'shots': (0, 4), 'log': said.append} | changes
  made = runner.compare(
    rows, options.pop('population', toy.two_types()), workdir=workdir, **options
  )
  return made, [line.partition(':')[0] for line in said if line.endswith(' steps')]


def parts(workdir):
  """Returns the content of every file of predictions."""
  found = (workdir / 'predictions').rglob('*.npz')
  return {str(path.relative_to(workdir)): path.read_bytes() for path in found}


@pytest.fixture(scope='module')
def four(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('grows') / 'workdir'
  made, trained = table(workdir)
  assert sorted(trained) == sorted(f'{name}-0' for name in FOUR)
  return made, workdir


def assert_same(one, other):
  """Compares all numbers but those that were measured by a clock."""
  own, theirs = (frame[~frame['metric'].str.contains('_us')] for frame in (one.frame, other.frame))
  pd.testing.assert_frame_equal(
    own.reset_index(drop=True), theirs.reset_index(drop=True), rtol=1e-5, atol=1e-6
  )


def test_of_five_learners_only_the_fifth_is_trained(four, tmp_path):
  _, workdir = four
  before = parts(workdir)
  grown, trained = table(workdir, (*FOUR, 'bayes_head'))
  assert trained == ['bayes_head-0']
  assert before.items() <= parts(workdir).items()
  lone, _ = table(tmp_path / 'lone', (*FOUR, 'bayes_head'))
  assert_same(grown, lone)


def test_other_numbers_of_shots_train_nothing(four):
  first, workdir = four
  before = parts(workdir)
  grown, trained = table(workdir, shots=(0, 2, 4))
  assert trained == []
  new = set(parts(workdir)) - set(before)
  assert new and {name.rpartition('/')[2] for name in new} == {'2.npz'}
  assert before.items() <= parts(workdir).items()
  lone, _ = table(None, shots=(0, 2, 4))
  assert_same(grown, lone)
  again, trained = table(workdir)
  assert trained == []
  assert_same(again, first)


def test_another_seed_trains_that_seed(four):
  _, workdir = four
  grown, trained = table(workdir, ('pooled', 'cnp'), seeds=(0, 1))
  assert sorted(trained) == ['cnp-1', 'pooled-1']
  assert {'0', '1', 'all'} <= set(grown.frame['seed'])


def test_a_learner_that_is_left_out_needs_nothing(four):
  _, workdir = four
  less, trained = table(workdir, ('pooled', 'cnp'))
  assert trained == []
  assert not {'maml', 'per_user'} & set(less.frame['learner'])
  index = json.loads((workdir / 'cells.json').read_text())
  assert set(index['default']) == {'pooled', 'cnp'}


def test_another_condition_and_more_users_train_nothing(four):
  _, workdir = four
  default = plan.Condition((toy.two_types,))
  longer = plan.Condition((functools.partial(toy.two_types, num_query=30),), {'num_query': 30})
  grown, trained = table(workdir, population=(default, longer))
  assert trained == []
  assert set(grown.frame['protocol']) == {'metapers', 'metapers num_query=30'}
  _, trained = table(workdir, evaluation=SMALL._replace(num_users=12))
  assert trained == []


@pytest.mark.parametrize(
  'changes',
  [
    {'given': {'cnp': learner('cnp', hidden=16), 'pooled': learner('pooled')}},
    {'training': SHORT._replace(learning_rate=1e-4)},
    {'training': SHORT._replace(objective=objectives.cvar(0.5))},
    {'evaluation': SMALL._replace(validation_shots=(0,))},
    {'evaluation': SMALL._replace(num_validation_users=4)},
  ],
)
def test_what_makes_a_run_trains_it_anew(four, changes):
  _, workdir = four
  _, trained = table(workdir, **{'given': ('cnp', 'pooled')} | changes)
  assert trained == (['cnp-0'] if 'given' in changes else ['cnp-0', 'pooled-0'])


def test_other_users_and_other_streams_are_other_cells():
  makers = [plan.Condition((make,)) for make in (dinners, functools.partial(dinners, seed=1))]
  makers += [makers[0]._replace(split='validation')]
  entry = plan.Entry(lambda: learner('pooled'), training=SHORT)
  made = plan.Plan(
    {'pooled': entry}, (makers[0],), (dinners,), evaluation=SMALL._replace(shots=(0, 4))
  )
  drawn = [settings.make_setting(made, each) for each in [*makers, makers[0]]]
  found = [cells.folder_of(setting, 'pooled', 'same') for setting in drawn]
  assert len(set(found)) == 3 and found[0] == found[-1]
  one, other = (
    settings.fingerprint(drawn[0].tasks, drawn[0].truth, plan.Stream(0, window))
    for window in (0, 4)
  )
  assert one != other


def test_no_validation_shots_are_the_powers_of_two_that_a_history_holds():
  spec = toy.two_types().spec._replace(num_support=9)
  assert plan.validation_shots(SMALL, spec) == (0, 1, 2, 4, 8)
  assert plan.validation_shots(SMALL._replace(validation_shots=(0, 9, 10)), spec) == (0, 9)
  with pytest.raises(ValueError, match=r'validation_shots=\(10,\) lie outside of 0\.\.9'):
    plan.validation_shots(SMALL._replace(validation_shots=(10,)), spec)


def test_a_table_and_a_run_do_not_share_a_workdir(four, tmp_path):
  from metapers.serving.personalizer import Personalizer

  _, workdir = four
  with pytest.raises(ValueError, match=r'give one of its runs, .*/runs/NAME: .*, cnp-0-'):
    Personalizer.from_checkpoint(workdir)
  folders = sorted((workdir / 'runs').iterdir())
  with pytest.raises(ValueError, match='kind: absent there, table now'):
    table(folders[0], ('pooled',), log=quiet)


def test_options_of_what_is_computed_from_histories_make_another_learner(tmp_path):
  def row(num_iterations):
    made = learners.make('gaussian_prior', num_features=4, num_iterations=num_iterations)
    return {'mine': plan.Entry(lambda: made, training=SHORT._replace(num_steps=0))}

  table(tmp_path, row(1))
  again, trained = table(tmp_path, row(20))
  assert trained == ['mine-0']
  lone, _ = table(None, row(20))
  assert_same(again, lone)


def doubled(scale):
  return 2 * scale


def tripled(scale):
  return 3 * scale


LONG = np.arange(5000)


@pytest.mark.parametrize(
  ('one', 'other'),
  [(1.0, 2.0), (LONG, LONG + (LONG == 2500)), (doubled, tripled), ((doubled, 1), (tripled, 1))],
  ids=['numbers', 'one entry of many', 'functions', 'functions among others'],
)
@pytest.mark.parametrize('wrap', [lambda f: f, jax.jit, lambda f: functools.partial(f)])
def test_what_computes_on_the_host_is_known_by_its_source(one, other, wrap):
  def prepared(value):
    @wrap
    def on_host(params):
      return jax.tree.map(lambda x: x + len(str(value)), params)

    def prepare(params, histories, key):
      del histories, key
      return jax.tree.map(np.asarray, on_host(params))

    made = learner('pooled')
    return meta_learner.from_adapt_score(made.init, made.adapt, made.score, prepare=prepare)

  found = [fingerprints.of_preparation(prepared(x), toy.two_types()) for x in (one, other, one)]
  assert found[0] == found[2] != found[1]


def test_a_shorter_table_is_refused_before_anything_is_changed(tmp_path):
  table(tmp_path, ('pooled',))
  before = {path: path.read_bytes() for path in tmp_path.rglob('*.json')}
  shorter = SHORT._replace(num_steps=10)
  with pytest.raises(ValueError, match='was trained for 20 steps, and 10 are asked for'):
    table(tmp_path, ('per_user', 'pooled'), training=shorter)
  assert before == {path: path.read_bytes() for path in tmp_path.rglob('*.json')}


def test_a_table_that_is_interrupted_while_it_grows_shows_what_was_finished(tmp_path, monkeypatch):
  table(tmp_path, ('pooled',))
  index = (tmp_path / 'cells.json').read_bytes()

  def interrupted(*given, **options):
    raise KeyboardInterrupt

  monkeypatch.setattr(runs, 'train', interrupted)
  with pytest.raises(KeyboardInterrupt):
    table(tmp_path, ('pooled', 'per_user'))
  assert (tmp_path / 'cells.json').read_bytes() == index


def test_costs_of_other_chunks_are_measured_anew(tmp_path):
  table(tmp_path, ('pooled',))
  table(tmp_path, ('pooled',), evaluation=SMALL._replace(chunk_size=8))
  assert len(list((tmp_path / 'costs').iterdir())) == 2


def test_learners_trained_anew_and_flipped_cells_grow_alike(tmp_path):
  entry = plan.Entry(lambda: learner('pooled'), training=SHORT)

  def conditions(*sizes):
    made = {size: functools.partial(toy.two_types, num_query=size) for size in sizes}
    return [plan.Condition((x,), {'n': n}, entries={'pooled': entry}) for n, x in made.items()]

  rows, flips = {'pooled': entry}, SMALL._replace(flips=True)
  _, trained = table(tmp_path, rows, population=conditions(20))
  assert trained == ['pooled-0-n=20']
  grown, trained = table(tmp_path, rows, population=conditions(20, 30))
  assert trained == ['pooled-0-n=30']
  _, trained = table(tmp_path, rows, population=conditions(20, 30), evaluation=flips)
  assert trained == []
  lone, _ = table(None, rows, population=conditions(20, 30))
  assert_same(grown, lone)
