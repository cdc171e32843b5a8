"""The interface for front ends of others, on a study with a model."""

import pytest

from metapers.serving.comparisons import pairs


class Interface:
  """The interface for front ends of others."""

  def __init__(self, site):
    self.client = site.client
    self.headers = {'authorization': f'Bearer {site.token}'}

  def call(self, verb, status=200, key=None, name='ada', **values):
    headers = self.headers | ({'idempotency-key': key} if key else {})
    found = self.client.post(f'/api/profiles/{name}/{verb}', json=values, headers=headers)
    assert found.status_code == status, found.text
    return found.json()


def test_the_interface_adapts_predicts_and_forgets(modelled):
  api = Interface(modelled)
  features = modelled.study.items.features
  about = modelled.client.get('/api/model', headers=api.headers).json()
  assert about['feature_names'] == ['f0', 'f1', 'f2']
  fresh = api.call('adapt')
  assert fresh['comparisons'] == []
  click = {'chosen': 'i0', 'rejected': features[1].tolist()}
  assert api.call('update', comparisons=[click, {**click, 'rejected': 'i2'}])['comparisons'] == [
    0,
    1,
  ]
  model = modelled.study.beliefs.model
  own = model.adapt(pairs(features[[0, 0]], features[[1, 2]]))
  scores = api.call('score', candidates=['i0', 'i1', 'i2'])['scores']
  assert scores == pytest.approx(model.score(own, features[:3]).tolist(), abs=1e-5)
  assert api.call('best_of', candidates=['i1', 'i0'])['best'] == 1
  chance = api.call('probability', a=['i0'], b=['i1'])['probability'][0]
  assert chance == pytest.approx(float(model.probability(own, features[0], features[1])), abs=1e-5)
  asked = api.call('ask', pool=[['i3', 'i4'], ['i5', 'i6'], ['i0', 'i1']], count=2)['questions']
  assert len(set(asked)) == 2
  stopped = api.call('stop', candidates=['i0', 'i1', 'i2'])
  assert stopped['best'] == 0 and 0 < stopped['probability'] < 1
  assert api.call('forget', comparison=0)['comparisons'] == [1]
  assert modelled.client.delete('/api/profiles/ada', headers=api.headers).status_code == 200
  api.call('score', status=404, candidates=['i0'])


def test_the_interface_takes_a_request_with_the_same_key_once(modelled):
  api = Interface(modelled)
  click = {'chosen': 'i0', 'rejected': 'i1'}
  first = api.call('update', key='k1', name='bea', comparisons=[click])
  again = api.call('update', key='k1', name='bea', comparisons=[click])
  assert (first['repeated'], again['repeated']) == (False, True)
  assert again['comparisons'] == first['comparisons'] == [0]


@pytest.mark.parametrize(
  ('verb', 'values', 'message'),
  [
    ('update', {}, "lacks 'comparisons'"),
    ('update', {'comparisons': 'x'}, 'list of objects'),
    ('update', {'comparisons': [{'chosen': 'i0'}]}, "lacks 'rejected'"),
    ('update', {'comparisons': [{'chosen': 'i0', 'rejected': 'nobody'}]}, 'no item is called'),
    ('update', {'comparisons': [{'chosen': [1, 2], 'rejected': [1, 3]}]}, '3 features'),
    (
      'update',
      {'comparisons': [{'chosen': [1, 2, 'x'], 'rejected': 'i0'}]},
      'the id of an item or a list of 3 numbers',
    ),
    ('score', {'candidates': 5}, 'must be a list'),
    ('score', {'candidates': [{'a': 1}]}, 'the id of an item or a list of 3 numbers'),
    ('ask', {'pool': [['i0', 'i1']], 'count': 9}, 'count must be'),
    ('forget', {'comparison': 77}, 'there is no comparison 77'),
  ],
)
def test_the_interface_says_what_is_wrong(modelled, verb, values, message):
  api = Interface(modelled)
  api.call('adapt', name='eve')
  assert message in api.call(verb, status=400, name='eve', **values)['error']


def test_the_interface_is_closed_without_the_token(modelled):
  api = Interface(modelled)
  api.headers = {'authorization': 'Bearer wrong'}
  api.call('adapt', status=401)
  api.headers = {}
  assert 'Bearer' in api.call('adapt', status=401)['error']
  assert modelled.client.get('/api/model').status_code == 401
