"""The interface for front ends of others, on a study with a model."""

import contextlib
import re
import sqlite3

import made_studies
import numpy as np
import pytest
from interfaces import Interface

from metapers.serving.comparisons import pairs

KINDS = ('tie', 'both_bad', 'strong')
SAID = (('i0', 'i1', 'tie'), ('i2', 'i3', 'both_bad'), ('i4', 'i5', 'strong'),
        ('i6', 'i7', 'chosen'))  # fmt: skip


@pytest.fixture(scope='module')
def answering(tmp_path_factory):
  """A study whose model was trained on all that people may answer."""
  import sites  # not above: see tests/conftest.py

  made = sites.Site(tmp_path_factory.mktemp('answering'), model=made_studies.trained(KINDS))
  yield made
  made.study.store.close()


def test_the_interface_adapts_predicts_and_forgets(modelled):
  api = Interface(modelled)
  features = modelled.study.items.features
  about = modelled.client.get('/api/model', headers=api.headers).json()
  assert about['feature_names'] == ['f0', 'f1', 'f2']
  fresh = api.call('adapt', comparisons=[])
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
  ('verb', 'values'),
  [
    ('update', {'comparisons': [{'chosen': 'i1', 'rejected': 'i0'}]}),
    ('adapt', {'comparisons': [{'chosen': 'i0', 'rejected': 'i1'}]}),
    ('forget', {'comparison': 0}),
  ],
)
def test_a_key_of_another_request_is_refused_and_loses_nothing(modelled, verb, values):
  api, dan = Interface(modelled), f'dan {verb}'
  click = {'chosen': 'i0', 'rejected': 'i1'}
  api.call('adapt', name=dan, comparisons=[])
  held = api.call('update', key='k1', name=dan, comparisons=[click])['comparisons']
  error = api.call(verb, status=409, key='k1', name=dan, **values)['error']
  assert 'another request came with this Idempotency-Key' in error
  again = api.call('update', key='k1', name=dan, comparisons=[dict(reversed(click.items()))])
  assert (again['comparisons'], again['repeated']) == (held, True)
  assert not api.call(verb, key='k2', name=dan, **values)['repeated']
  modelled.client.delete(f'/api/profiles/{dan}', headers=api.headers)


def test_a_request_that_comes_again_does_not_bring_a_deleted_profile_back(modelled):
  api, click = Interface(modelled), [{'chosen': 'i0', 'rejected': 'i1'}]
  for _ in range(2):
    api.call('update', key='k1', name='eve', comparisons=click)
  modelled.client.delete('/api/profiles/eve', headers=api.headers)
  said = api.call('update', status=409, key='k1', name='eve', comparisons=click)['error']
  assert 'before the profile was deleted' in said
  assert api.call('ask', status=404, name='eve', pool=[['i0', 'i1']], count=1)
  rows = modelled.study.store.rows('SELECT * FROM spent')
  assert not any('eve' in row['digest'] or 'k1' in row['digest'] for row in rows)
  assert not api.call('update', key='k1', name='eva', comparisons=click)['repeated']
  assert not api.call('update', key='k2', name='eve', comparisons=click)['repeated']
  for name in ('eva', 'eve'):
    modelled.client.delete(f'/api/profiles/{name}', headers=api.headers)


def test_what_is_kept_of_a_request_cannot_be_guessed_from_its_body(modelled):
  api, click = Interface(modelled), [{'chosen': 'i0', 'rejected': 'i1'}]
  for key in ('a secret', 'another secret'):
    api.call('update', key=key, name='ria', comparisons=click)
  rows = modelled.study.store.rows("SELECT * FROM requests WHERE profile = 'ria'")
  assert len({row['digest'] for row in rows}) == 2
  assert not any('secret' in row['key'] for row in rows)


def test_keys_of_a_study_of_before_count_once_still(tmp_path):
  import sites

  click = [{'chosen': 'i0', 'rejected': 'i1'}]
  made = sites.Site(tmp_path, with_model=True)
  Interface(made).call('update', comparisons=click)
  made.study.store.close()
  with contextlib.closing(sqlite3.connect(tmp_path / 'study' / 'study.sqlite')) as db, db:
    db.execute('ALTER TABLE requests DROP COLUMN digest')
    db.execute("INSERT INTO requests VALUES ('ada', 'old')")
  made = sites.Site(tmp_path, with_model=True)
  api = Interface(made)
  assert api.call('update', key='old', comparisons=click)['repeated']
  assert not api.call('update', key='new', comparisons=click)['repeated']
  api.call('forget', status=409, key='new', comparison=0)
  made.client.delete('/api/profiles/ada', headers=api.headers)
  for key in ('old', 'new'):
    api.call('update', status=409, key=key, comparisons=click)
  made.study.store.close()


def test_ids_that_are_not_utf_8_are_refused_and_merge_nobody(modelled):
  api, click = Interface(modelled), [{'chosen': 'i0', 'rejected': 'i1'}]
  for name in ('%E9', '%E8'):
    assert 'must be UTF-8' in api.call('update', status=400, name=name, comparisons=click)['error']
    path = f'/api/profiles/{name}'
    assert modelled.client.delete(path, headers=api.headers).status_code == 400
  assert api.call('update', name='%C3%A9', comparisons=click)['profile'] == 'é'
  assert api.call('update', name='%EF%BF%BD', comparisons=click)['comparisons'] == [0]


def compared(*said):
  """Comparisons in the form of the interface."""
  return [{'chosen': a, 'rejected': b, 'outcome': outcome} for a, b, outcome in said]


def of_pairs(site, said, **given):
  """Returns the same in the form of the Personalizer."""
  rows = np.array([[int(a[1:]), int(b[1:])] for a, b, _ in said])
  features = site.study.items.features[rows]
  return pairs(features[:, 0], features[:, 1], outcome=[each[2] for each in said], **given)


def unsure(confidence):
  return {'comparisons': [{'chosen': 'i0', 'rejected': 'i1', 'confidence': confidence}]}


def only(**more):
  return {'comparisons': [{'chosen': 'i0', 'rejected': 'i1', **more}]}


def scores_of(site, name):
  return Interface(site).call('score', name=name, candidates=[f'i{row}' for row in range(12)])


def own_scores(site, profile):
  model, features = site.study.beliefs.model, site.study.items.features
  return pytest.approx(model.score(profile, features).tolist(), abs=1e-5)


def test_the_interface_names_the_outcomes_that_a_model_reads(modelled, answering):
  for site, expected in ((modelled, ['chosen']), (answering, ['chosen', *KINDS])):
    about = site.client.get('/api/model', headers=Interface(site).headers).json()
    assert about['outcomes'] == expected


def test_outcomes_are_read_as_by_the_personalizer(answering):
  api, model = Interface(answering), answering.study.beliefs.model
  api.call('adapt', name='fay', comparisons=compared(*SAID[:1]))
  first = api.call('update', key='k', name='fay', comparisons=compared(*SAID[1:]))
  again = api.call('update', key='k', name='fay', comparisons=compared(*SAID[1:]))
  assert (first['repeated'], again['repeated']) == (False, True)
  assert first['comparisons'] == again['comparisons'] == [0, 1, 2, 3]
  own = model.adapt(of_pairs(answering, SAID))
  assert scores_of(answering, 'fay')['scores'] == own_scores(answering, own)
  api.call('forget', name='fay', comparison=0)
  left = scores_of(answering, 'fay')['scores']
  assert left == own_scores(answering, model.adapt(of_pairs(answering, SAID[1:])))
  assert left == own_scores(answering, model.forget(own, 0))


def test_confidence_is_read_as_by_the_personalizer(answering):
  api, model = Interface(answering), answering.study.beliefs.model
  confidence, weight = np.array([1.0, 1.0, 0.9, 0.75]), np.array([1.0, 2.0, 1.0, 3.0])
  given = compared(*SAID)
  given[1]['weight'] = 2
  given[2]['confidence'] = 0.9
  given[3] |= {'weight': 3, 'confidence': 0.75}
  api.call('adapt', name='lea', comparisons=given)
  own = model.adapt(of_pairs(answering, SAID, confidence=confidence, weight=weight))
  assert scores_of(answering, 'lea')['scores'] == own_scores(answering, own)
  sure = model.adapt(of_pairs(answering, SAID, weight=weight))
  assert scores_of(answering, 'lea')['scores'] != own_scores(answering, sure)
  api.call('forget', name='lea', comparison=3)
  assert scores_of(answering, 'lea')['scores'] == own_scores(answering, model.forget(own, 3))


@pytest.mark.parametrize('outcome', KINDS)
def test_every_outcome_says_something_else_than_a_choice(answering, outcome):
  api = Interface(answering)
  api.call('adapt', name='ida', comparisons=compared(('i0', 'i1', outcome)))
  told = scores_of(answering, 'ida')['scores']
  for other in ({'outcome': 'chosen'}, {}):  # what people could have answered, and had to
    click = {'chosen': 'i0', 'rejected': 'i1', **other}
    api.call('adapt', name='ida', comparisons=[click])
    assert np.ptp(np.subtract(told, scores_of(answering, 'ida')['scores'])) > 0.05


@pytest.mark.parametrize(
  ('outcome', 'remedy'),
  [
    ('tie', r'leave the comparison out, or train .* \(ties=outcomes\)'),
    ('both_bad', r'leave the comparison out, or train .* \(ties=outcomes\)'),
    ('strong', r"give it as 'chosen', or train .* \(strong_from=\)"),
    ('same', r'it must be one of chosen, tie, both_bad, strong'),
    (None, r'it must be one of chosen, tie, both_bad, strong'),
    (['tie'], r'it must be one of chosen, tie, both_bad, strong'),
  ],
)
def test_outcomes_that_a_model_does_not_read_are_refused(modelled, outcome, remedy):
  api = Interface(modelled)
  given = compared(('i0', 'i1', 'chosen'), ('i0', 'i2', outcome))
  error = api.call('update', status=400, name='joe', comparisons=given)['error']
  said = re.escape(f'reads the outcomes chosen, and was given {outcome!r}: ')
  assert re.search(said + remedy, error), error
  api.call('score', status=404, name='joe', candidates=['i0'])  # nothing of it is kept


def test_a_choice_among_other_answers_is_one_to_a_model_without_them(modelled):
  api = Interface(modelled)
  api.call('update', name='kim', comparisons=compared(SAID[-1]))
  own = modelled.study.beliefs.model.adapt(of_pairs(modelled, SAID[-1:]))
  assert scores_of(modelled, 'kim')['scores'] == own_scores(modelled, own)


def test_outcomes_are_given_of_all_comparisons_or_of_none(answering):
  given = [*compared(SAID[0]), {'chosen': 'i0', 'rejected': 'i1'}]
  error = Interface(answering).call('update', status=400, comparisons=given)['error']
  assert 'others have none, which says that people had to choose: give these the' in error


@pytest.mark.parametrize(
  ('verb', 'values', 'message'),
  [
    ('update', {}, "lacks 'comparisons'"),
    ('update', {'comparisons': 'x'}, 'list of objects'),
    ('update', {'comparisons': [{'chosen': 'i0'}]}, "lacks 'rejected'"),
    ('update', {'comparisons': [{'chosen': 'i0', 'rejected': 'nobody'}]}, 'no item is called'),
    ('update', {'comparisons': [{'chosen': [1, 2], 'rejected': [1, 3]}]}, '3 numbers, got [1, 2]'),
    (
      'update',
      {'comparisons': [{'chosen': [1, 2, 'x'], 'rejected': 'i0'}]},
      'the id of an item or a list of 3 numbers',
    ),
    ('update', unsure(0.4), 'confidence of comparison [0] is 0.4; expected the chance'),
    ('update', unsure(90), 'confidence of comparison [0] is 90.0; expected the chance'),
    ('update', unsure('sure'), "comparison 0: field 'confidence' must be a valid number, got 'su"),
    ('update', unsure('1'), "must be a valid number, got '1'"),
    ('update', unsure(None), 'must be a valid number, got None'),
    ('update', only(weight=True), "comparison 0: field 'weight' must be a valid number, got True"),
    ('update', only(weight='3'), "must be a valid number, got '3'"),
    ('update', only(weight=10**400), "comparison 0: field 'weight' must be less than"),
    ('update', only(id=True), "field 'id' must be a valid integer, got True"),
    ('update', only(id=1.0), "field 'id' must be a valid integer, got 1.0"),
    ('update', only(id=2**70), 'ids must be [1] whole numbers from 0 up to 2**63 - 1'),
    ('update', only(wieght=9), "comparison 0: no field is called 'wieght'; known: chosen, rej"),
    ('update', {'comparison': []}, "the request: no field is called 'comparison'; known: compari"),
    ('adapt', {'comparison': []}, "the request: no field is called 'comparison'; known: compari"),
    ('adapt', {}, "lacks 'comparisons'"),
    ('adapt', {'comparisons': {}}, 'must be a list of objects with chosen and rejected, got {}'),
    ('adapt', {'comparisons': 0}, 'must be a list of objects with chosen and rejected, got 0'),
    ('adapt', {'comparisons': None}, 'must be a list of objects with chosen and rejected, got No'),
    ('adapt', {'comparisons': [[]]}, 'must be a list of objects'),
    ('score', {'candidates': 5}, 'must be a list'),
    ('score', {'candidates': [{'a': 1}]}, 'the id of an item or a list of 3 numbers'),
    ('score', {'candidates': [['1', 2, 3]]}, "list of 3 numbers, got ['1', 2, 3]"),
    ('score', {'candidates': [[True, 2, 3]]}, 'list of 3 numbers, got [True, 2, 3]'),
    ('score', {'candidates': [[10**400, 2, 3]]}, 'list of 3 numbers, got [1000'),
    ('score', {'candidates': [[[1, 2, 3]]]}, 'list of 3 numbers, got [[1, 2, 3]]'),
    ('score', {'candidates': [], 'count': 1}, "no field is called 'count'; known: candidates"),
    ('ask', {'pool': [['i0', 'i1']], 'count': 9}, 'count must be'),
    ('ask', {'pool': [['i0', 'i1']], 'count': 0}, 'count must be a whole number from 1 to 1'),
    ('ask', {'pool': [['i0', 'i1']], 'count': None}, "'count' must be a valid integer, got None"),
    ('ask', {'pool': [['i0', 'i1']], 'count': True}, "'count' must be a valid integer, got True"),
    ('ask', {'pool': [['i0', 'i1']], 'count': 10**400}, 'count must be a whole number from 1 to 1'),
    ('ask', {'pool': 3}, 'pool must be a list of questions'),
    ('ask', {'pool': [['i0', 'i1'], ['i0']]}, 'lists of as many candidates each'),
    ('probability', {'a': ['i0'], 'b': ['i1'], 'c': ['i1']}, "is called 'c'; known: a, b"),
    ('forget', {'comparison': 77}, 'there is no comparison 77'),
    ('forget', {'comparison': '0'}, "field 'comparison' must be a valid integer, got '0'"),
    ('forget', {'comparison': False}, "field 'comparison' must be a valid integer, got False"),
    ('forget', {'comparison': 10**400}, 'expected one id, a whole number'),
  ],
)
def test_the_interface_says_what_is_wrong(modelled, verb, values, message):
  api = Interface(modelled)
  held = api.call('adapt', name='eve', comparisons=compared(SAID[-1]))['comparisons']
  assert message in api.call(verb, status=400, name='eve', **values)['error']
  assert api.call('update', name='eve', comparisons=[])['comparisons'] == held


def test_the_interface_is_closed_without_the_token(modelled):
  api = Interface(modelled)
  api.headers = {'authorization': 'Bearer wrong'}
  api.call('score', status=401)
  api.headers = {}
  assert 'Bearer' in api.call('score', status=401)['error']
  assert modelled.client.get('/api/model').status_code == 401
