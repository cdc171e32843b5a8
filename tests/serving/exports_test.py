import json
import types
from collections.abc import Sequence

import jax
import numpy as np
import pytest

from metapers.core import array_files, population
from metapers.core.population import Scaling
from metapers.io import leaves
from metapers.populations import toy
from metapers.serving import exports

PARAMS = {'head': np.arange(3, dtype=np.float32), 'body': {'w': np.ones((2, 3), np.float32)}}
SHAPES = jax.eval_shape(lambda: PARAMS)
EXPORT = exports.Export(
  learner='anything',
  kwargs={'num_features': 3, 'num_context': 2, 'hidden': [8, 8]},
  params=leaves.named(PARAMS),
  num_candidates=2,
  scaling=Scaling(np.float32([0.1, -2, 3e5]), np.float32([1, 0.3, 2])),
  feature_names=('length', 'warmth', 'wit'),
  trained_on={'source': 'synthetic'},
  about='a test',
  num_context=2,
)


def edited(folder, **changes):
  path = folder / exports.HEADER
  path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_written_is_read_bit_for_bit(tmp_path):
  found = exports.read_export(exports.write_export(tmp_path / 'export', EXPORT))
  assert found._replace(params={}, scaling=None) == EXPORT._replace(params={}, scaling=None)
  jax.tree.map(np.testing.assert_array_equal, found.scaling, EXPORT.scaling)
  jax.tree.map(np.testing.assert_array_equal, leaves.rebuild(found.params, SHAPES), PARAMS)
  assert exports.fingerprint(found) == exports.fingerprint(EXPORT)


def test_an_export_replaces_an_older_one_and_nothing_else(tmp_path):
  exports.write_export(tmp_path / 'export', EXPORT)
  exports.write_export(tmp_path / 'export', EXPORT._replace(about='newer'))
  assert exports.read_export(tmp_path / 'export').about == 'newer'
  assert [path.name for path in tmp_path.iterdir()] == ['export']
  with pytest.raises(ValueError, match='holds export, which would be lost'):
    exports.write_export(tmp_path, EXPORT)


@pytest.mark.parametrize('name', [exports.HEADER, exports.PARAMETERS])
def test_the_same_export_gives_the_same_bytes(tmp_path, name):
  first, second = (exports.write_export(tmp_path / each, EXPORT) / name for each in 'ab')
  assert first.read_bytes() == second.read_bytes()


def test_an_altered_parameter_is_noticed(tmp_path):
  folder = exports.write_export(tmp_path / 'export', EXPORT)
  altered = EXPORT.params | {'head': np.zeros(3, np.float32)}
  (folder / exports.PARAMETERS).write_bytes(array_files.packed(altered))
  with pytest.raises(ValueError, match='sha256'):
    exports.read_export(folder)
  (folder / exports.PARAMETERS).unlink()
  with pytest.raises(ValueError, match='missing'):
    exports.read_export(folder)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'version': 1}, 'has version 1; this code reads 2'),
    ({'format': 'other'}, 'is no metapers-learner'),
    ({'kwargs': None}, "field 'kwargs' must be an object"),
    ({'kwargs': {'num_features': 4}}, 'num_features is 4, but there are 3 means'),
    ({'num_context': 'two'}, "field 'num_context' must be a valid integer"),
    ({'num_context': 3}, 'num_context is 3, but the learner was made with 2'),
    ({'mean': [0.0]}, '1 means'),
    ({'mean': ['a', 1.0, 1.0]}, r"field 'mean\.0' must be a valid number, got 'a'"),
    ({'mean': [float('nan'), 1.0, 1.0]}, r"field 'mean\.0' must be .*, got nan"),
    ({'num_candidates': -1}, "'num_candidates' must be greater than or equal to 2, got -1"),
    ({'num_candidates': True}, "'num_candidates' must be a valid integer"),
    ({'kwargs': {'num_features': '3'}}, r"'kwargs\.num_features' must be a valid integer"),
    ({'feature_names': ['a', 'a', 'b']}, 'two features have one name'),
    ({'feature_names': ['one']}, '1 feature names'),
    ({'scale': [1.0, 0.0, 1.0]}, 'scales above 0'),
  ],
)
def test_a_header_that_does_not_fit_is_named(tmp_path, changes, message):
  folder = exports.write_export(tmp_path / 'export', EXPORT)
  edited(folder, **changes)
  with pytest.raises(ValueError, match=message):
    exports.read_export(folder)


def test_a_folder_without_an_export_says_so(tmp_path):
  with pytest.raises(ValueError, match='holds no metapers-learner'):
    exports.read_export(tmp_path)
  (tmp_path / exports.HEADER).write_text('{')
  with pytest.raises(ValueError, match='is not JSON'):
    exports.read_export(tmp_path)


def test_parameters_that_are_not_finite_are_not_written(tmp_path):
  params = EXPORT.params | {'head': np.full(3, np.nan, np.float32)}
  with pytest.raises(ValueError, match='finite'):
    exports.write_export(tmp_path / 'export', EXPORT._replace(params=params))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'params',
  [
    {'head': np.zeros(3, np.float32)},
    {**leaves.named(PARAMS), 'tail': np.zeros(1, np.float32)},
    {**leaves.named(PARAMS), 'head': np.zeros(4, np.float32)},
    {**leaves.named(PARAMS), 'head': np.zeros(3, np.float64)},
  ],
  ids=['missing', 'further', 'shape', 'dtype'],
)
def test_parameters_of_another_learner_do_not_fit(params):
  with pytest.raises(ValueError, match='1 stored arrays do not fit'):
    leaves.rebuild(params, SHAPES)


@pytest.mark.parametrize(
  'change',
  [
    {'kwargs': {'num_features': 3}},
    {'learner': 'other'},
    {'scaling': Scaling(*np.ones((2, 3)))},
    {'num_context': 0},
  ],
)
def test_whatever_changes_predictions_changes_the_fingerprint(change):
  assert exports.fingerprint(EXPORT._replace(**change)) != exports.fingerprint(EXPORT)


def test_wording_does_not_change_the_fingerprint():
  assert exports.fingerprint(EXPORT._replace(about='x')) == exports.fingerprint(EXPORT)


def with_shapes(**shapes):
  made = toy.two_types(num_features=3)
  names = {'feature_names': ('length', 'warmth', 'wit')}
  return made._replace(spec=made.spec._replace(**names, **shapes), content_hash='0' * 64)


def test_an_export_takes_its_sizes_from_the_population(tmp_path):
  trained_on = with_shapes(context=population.vector(2))
  kwargs = EXPORT.kwargs | {'features': trained_on.spec.features}
  made = exports.export_of('anything', kwargs, PARAMS, trained_on, about='a test')
  assert made.kwargs == EXPORT.kwargs  # the rest is the widths, and no JSON
  assert (made.num_candidates, made.num_context) == (trained_on.spec.num_candidates, 2)
  assert made.feature_names == EXPORT.feature_names
  assert made.trained_on['source'] == trained_on.source
  assert made.trained_on['data'] == '0' * 64
  read = exports.read_export(exports.write_export(tmp_path / 'export', made))
  assert exports.fingerprint(read) == exports.fingerprint(made)


@pytest.mark.parametrize('name', ['features', 'context'])
def test_several_arrays_are_not_exported(name):
  several = with_shapes(**{name: {'tokens': population.vector(2)}})
  assert exports.is_servable(with_shapes().spec) and not exports.is_servable(several.spec)
  with pytest.raises(ValueError, match=r'of several arrays; serving reads one vector.*tokens'):
    exports.export_of('anything', EXPORT.kwargs, PARAMS, several, about='')


def test_facts_that_cannot_be_edited_are_written_too(tmp_path):
  fixed = EXPORT._replace(trained_on=types.MappingProxyType({'source': 'synthetic'}))
  found = exports.read_export(exports.write_export(tmp_path / 'export', fixed))
  assert found.trained_on == {'source': 'synthetic'}


def takes(num_features: int, *, hidden: Sequence[int] = (), rate: float = 0.1):
  del num_features, hidden, rate


@pytest.mark.parametrize(
  ('kwargs', 'message'),
  [
    ({'hidden': 4}, "'hidden' must be a valid array"),
    ({'hidden': ['4']}, r"'hidden\.0' must be a valid integer"),
    ({'rate': None}, "'rate' must be a valid number"),
    ({'rate': True}, "'rate' must be a valid number"),
    ({'rate': float('nan')}, 'hold nan; expected at most 1000000'),
    ({'hidden': [10**9]}, 'hold 1000000000; expected at most 1000000'),
  ],
)
def test_options_are_of_the_types_of_the_factory(kwargs, message):
  exports.check_options(takes, EXPORT._replace(kwargs={'hidden': [8], 'rate': 1}))
  with pytest.raises(ValueError, match=message):
    exports.check_options(takes, EXPORT._replace(kwargs=kwargs))


def test_a_seed_is_no_size():
  def seeded(seed: int = 0):
    return takes([seed], 1.0)

  exports.check_options(seeded, EXPORT._replace(kwargs={'seed': 2**40}))
  with pytest.raises(ValueError, match='expected at most 1000000'):
    exports.check_options(takes, EXPORT._replace(kwargs={'hidden': [2**40], 'rate': 1}))


def test_parameters_that_are_too_large_are_refused_before_they_take_memory():
  huge = {'head': jax.ShapeDtypeStruct((10**12,), np.float32)}
  with pytest.raises(ValueError, match='1 stored arrays do not fit'):
    leaves.rebuild({'head': np.zeros(3, np.float32)}, huge)
