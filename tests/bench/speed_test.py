import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from metapers.bench.speed import (
  implementation,
  operations,
  parts,
  report,
  rounds,
  scaling,
  worker,
  workload,
)
from metapers.bench.speed.workload import Case

SMALL = {
  'maml': Case('maml', 3, (5,), users=2, support=3, query=4, inner_steps=2),
  'cnp': Case('cnp', 3, (8, 8), users=2, support=3, query=4),
  'transformer_np': Case('transformer_np', 3, (8, 8), users=2, support=3, query=4),
  'gaussian_head': Case('gaussian_head', 3, (8,), users=2, support=3, query=4),
  'alone': Case('alone', 6, (), users=2, support=3, query=1),
  'low_rank': Case('low_rank', 3, (), users=2, support=3, query=4),
}
PEERS = [
  (name, row) for name in implementation.PEERS for row in implementation.IMPLEMENTATIONS[name].rows
]


def first_of(name, case):
  """What the first step of an implementation gives, in this process."""
  found, _ = worker.first(lambda: implementation.load(name)(case, workload.make(case)), 'process')
  return found


@pytest.fixture(scope='module')
def ours():
  made = {}

  def first(row):
    if row not in made:
      made[row] = first_of(implementation.OURS, SMALL[row])
    return made[row]

  return first


@pytest.mark.parametrize(('name', 'row'), PEERS)
def test_a_peer_has_the_same_loss_and_gradient(ours, name, row):
  for package in implementation.IMPLEMENTATIONS[name].packages:
    pytest.importorskip(package)
  theirs = first_of(name, SMALL[row])
  assert theirs['gradient_norm'] > 0
  if not implementation.IMPLEMENTATIONS[name].is_same:
    return
  rounds.check_equal({implementation.OURS: ours(row), name: theirs})


@pytest.mark.parametrize('changes', [{'support': 2}, {'query': 3}])
def test_a_peer_that_computes_something_else_is_refused(ours, changes):
  wrong = first_of(implementation.OURS, SMALL['low_rank']._replace(**changes))
  with pytest.raises(ValueError, match='planted has the loss'):
    rounds.check_equal({implementation.OURS: ours('low_rank'), 'planted': wrong})


@pytest.mark.parametrize('what', ['loss', 'gradient_norm'])
@pytest.mark.parametrize('value', [1.0001, math.nan])
def test_a_number_that_differs_or_is_none_is_refused(what, value):
  right = {'loss': 1.0, 'gradient_norm': 1.0}
  rounds.check_equal({implementation.OURS: right, 'close': {**right, what: 1.000009}})
  with pytest.raises(ValueError, match=f'far has the {what}'):
    rounds.check_equal({implementation.OURS: right, 'far': {**right, what: value}})


def test_a_case_is_timed_in_processes_of_their_own():
  case = Case('low_rank', 4, (), users=4)
  (row,) = rounds.time_case(case, [implementation.OURS], rounds.Plan(rounds=1))
  assert tuple(row) == report.COLUMNS
  assert row['users_per_second'] == pytest.approx(1e3 * 4 / row['milliseconds_min'])
  assert 0 < row['milliseconds_min'] <= row['milliseconds_median'] < 1e3 * row['compile_seconds']
  assert 0 < row['fraction_of_peak'] < 1
  assert row['peak_mib'] > 0


def test_what_a_process_fails_by_is_said(tmp_path):
  with rounds.Worker(implementation.OURS, SMALL['cnp'], tmp_path / 'absent.npz') as failing:
    with pytest.raises(ValueError, match=r'metapers ended: FileNotFoundError.*absent\.npz'):
      failing.ask('prepare', 'wall')


def test_what_a_case_is_given_comes_back_from_its_file(tmp_path):
  made = workload.make(SMALL['cnp'])
  workload.write(tmp_path / 'data.npz', made)
  jax.tree.map(np.testing.assert_array_equal, workload.read(tmp_path / 'data.npz'), made)
  assert json.loads(json.dumps(SMALL['cnp']._asdict()))['hidden'] == [8, 8]


def test_rows_are_named_as_a_whole_or_in_part():
  assert workload.chosen([]) == list(workload.CASES)
  (one,) = workload.chosen(['maml/10/linear'])
  assert (one.features, one.hidden) == (10, ())
  assert {case.features for case in workload.chosen(['maml/384'])} == {384}
  assert len(workload.chosen(['maml/10', 'maml'])) == 9
  with pytest.raises(ValueError, match="no row 'maml/1'; known: maml/10/linear"):
    workload.chosen(['maml/1'])


def test_operations_are_those_of_products_as_often_as_they_are_made():
  def program(x, w):
    def body(x, _):
      return jnp.tanh(x @ w), None

    x, _ = jax.lax.scan(body, x, length=7)
    return jax.jit(jnp.vdot)(x[0], x[1])

  traced = jax.make_jaxpr(program)(jnp.zeros((3, 5)), jnp.zeros((5, 5)))
  assert operations.of_program(traced.jaxpr) == 7 * 2 * 3 * 5 * 5 + 2 * 5


def test_operations_of_a_user_are_those_counted_by_hand():
  case = SMALL['low_rank']
  rows, rank = 2 * (case.support + case.query), 5
  # φ = X V, u = φ w; of the gradient: w from φᵀ, φ from wᵀ, V from Xᵀ.
  by_hand = 2 * rows * case.features * rank * 2 + 2 * rows * rank * 2
  assert operations.of_user(case) == pytest.approx(by_hand, rel=0.35)


def row_of(name, users_per_second, features=3, users=4, clock='wall'):
  numbers = dict.fromkeys(report.COLUMNS, 0.5)
  keys = {'row': 'maml', 'features': features, 'hidden': '5x4', 'users': users, 'clock': clock}
  return numbers | keys | {'implementation': name, 'users_per_second': users_per_second}


def test_rows_of_a_case_replace_its_earlier_ones_and_leave_others(tmp_path):
  path = tmp_path / 'speed.csv'
  report.append(path, [row_of('metapers', 1.0), row_of('torch.func', 1.0)])
  report.append(path, [row_of('metapers', 5.0, features=4)])
  found = report.append(path, [row_of('metapers', 3.0), row_of('torch.func', 2.0)])
  pd.testing.assert_frame_equal(found, pd.read_csv(path), check_dtype=False)
  assert list(found['users_per_second']) == [5.0, 3.0, 2.0]
  shown = report.table(found)
  assert [line[4] for line in shown.body] == ['', '', '1.50']  # ours by theirs
  assert {len(line) for line in shown.body} == {len(shown.header)}
  assert [line[0] for line in shown.body] == ['maml/4/5x4', *2 * ['maml/3/5x4']]
  report.figure(found, 'title')


def test_rows_of_other_numbers_of_users_say_so_and_memory_may_be_unknown(tmp_path):
  path = tmp_path / 'speed.csv'
  report.append(path, [row_of('metapers', 1.0) | {'peak_mib': math.nan}])
  found = report.append(path, [row_of('metapers', 5.0, users=1024)])
  shown = report.table(found).body
  assert shown[0][-1] == 'nan' and shown[1][0].endswith(', 1,024 users')
  (series,) = report.figure(found, 'title').axes
  assert len(series.get_yticklabels()) == 2


def test_times_of_two_clocks_are_not_compared(tmp_path):
  path = tmp_path / 'speed.csv'
  report.append(path, [row_of('metapers', 1.0), row_of('torch.func', 2.0)])
  timed = [row_of(name, 8.0, clock='process') for name in ('metapers', 'torch.func')]
  shown = report.table(report.append(path, timed)).body
  assert [line[4] for line in shown] == ['', '0.50', '', '1.00']
  assert shown[0][0].endswith(', wall clock') and shown[3][0].endswith(', process clock')


def test_times_of_no_known_clock_stay_apart(tmp_path):
  path = tmp_path / 'speed.csv'
  pd.DataFrame([row_of('metapers', 1.0)]).drop(columns='clock').to_csv(path, index=False)
  shown = report.table(report.append(path, [row_of('metapers', 4.0)])).body
  assert [line[0].rpartition(', ')[2] for line in shown] == ['unknown clock', 'wall clock']


def test_of_several_ways_to_a_step_the_quickest_is_timed():
  clock, called = [0.0], []

  def way(seconds):
    def step():
      clock[0] += seconds
      called.append(seconds)
      return seconds

    return step

  step = worker.quickest((way(3.0), way(1.0), way(2.0)), lambda: clock[0])
  assert step() == 1.0 and called == [3.0, 3.0, 1.0, 1.0, 2.0, 2.0, 1.0]


def test_growth_is_read_from_the_two_largest_sizes():
  assert scaling.power([1, 2, 4], [9.0, 1.0, 4.0]) == pytest.approx(2)
  cases = scaling.cases(most_users=1_000)
  for axis, own in cases.items():
    sizes = [scaling.size_of(case, axis) for case in own]
    assert sizes == sorted(set(sizes))
  scaling.figure({'users': ([10, 100], [0.1, 1.0])})


def test_many_users_are_adapted_and_measured():
  shown = parts.adapting(64, 'process', models=('bayes_head',))
  (line,) = shown.body
  assert line[:2] == ['bayes_head', '64']
  assert len(line) == len(shown.header)


def test_responses_of_a_language_model_are_timed_beside_torch(tmp_path):
  transformers = pytest.importorskip('transformers')
  pytest.importorskip('torch', reason="needs the extra 'torch': PyTorch is missing")
  sizes = {
    'vocab_size': 64, 'hidden_size': 16, 'intermediate_size': 24, 'num_hidden_layers': 2,
    'num_attention_heads': 2, 'max_position_embeddings': 128,
  }  # fmt: skip
  config = transformers.AutoConfig.for_model('llama', **sizes)
  transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
  shown = parts.generating(str(tmp_path))
  ways = ['torch', 'generate', 'by_layer']
  assert [line[:2] for line in shown.body] == [[n, way] for n in ('1', '8') for way in ways]
  assert all(len(line) == len(shown.header) for line in shown.body)


def test_responses_of_other_tokens_than_those_of_torch_are_refused():
  generating = pytest.importorskip('metapers.bench.speed.generating')
  ways = {'torch': lambda prompts: prompts, 'ours': lambda prompts: prompts + 1}
  with pytest.raises(ValueError, match='ours writes other tokens than torch'):
    generating.in_turns(ways, np.zeros((2, 3), int))
