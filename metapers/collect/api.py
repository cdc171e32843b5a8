"""The model over HTTP, for front ends of others: profiles by id, in JSON, behind the admin's token.

A candidate is the id of an item of the study, or a list of its features in the model's order.
"""

import json
import sqlite3
from collections.abc import Callable, Collection
from typing import Any
from urllib import parse

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from metapers.collect import web
from metapers.collect.beliefs import Beliefs
from metapers.collect.store import Conflict, Store, hashed
from metapers.core import fields, files
from metapers.core.outcomes import NO_CHOICE
from metapers.core.types import Float
from metapers.serving import profiles
from metapers.serving.answers import OUTCOMES
from metapers.serving.comparisons import Comparisons, pairs
from metapers.serving.profiles import Profile

LONGEST_ID = 200
COMPARISON = ('chosen', 'rejected', 'outcome', 'id', 'weight', 'confidence')
NUMBERS = {
  'comparison': int, 'count': int, 'id': int, 'weight': fields.Number, 'confidence': fields.Number,
}  # fmt: skip
Values = dict[str, Any]


def routes() -> list[BaseRoute]:
  """Returns where the interface is."""
  return [
    Route('/api/model', about),
    Route('/api/profiles/{id}', forgotten, methods=['DELETE']),
    Route('/api/profiles/{id}/{verb}', called, methods=['POST']),
  ]


async def about(request: Request) -> Response:
  """What the model is, and which features and answers it reads."""
  guide = _admitted(request)
  model, export = guide.model, guide.model.export
  return JSONResponse(
    {
      'learner': export.learner,
      'about': export.about,
      'features': model.num_features,
      'feature_names': list(export.item_names),
      'outcomes': list(guide.readable),
      'capacity': model.capacity,
    }
  )


async def called(request: Request) -> Response:
  """Does one thing with one profile; see docs/people.md for each."""
  guide, name, verb = _admitted(request), _name(request), request.path_params['verb']
  if verb not in FIELDS:
    raise HTTPException(404)
  key, store = request.headers.get('idempotency-key', ''), web.pages_of(request).study.store
  try:
    values = files.parse_json(await request.body() or b'{}', 'the request')
    _check('the request', values, FIELDS[verb])
    if verb in CHANGES:
      found = await run_in_threadpool(_change, guide, store, name, verb, values, key=key)
    else:
      found = await run_in_threadpool(_answer, guide, store, name, ANSWERS[verb], values)
  except Conflict as error:
    raise HTTPException(404, str(error)) from error
  except ValueError as error:
    raise HTTPException(400, ' '.join(str(error).split())[:500]) from error
  return JSONResponse(found)


async def forgotten(request: Request) -> Response:
  """Deletes a profile."""
  _admitted(request)
  store, name = web.pages_of(request).study.store, _name(request)
  count = await run_in_threadpool(_delete, store, name)
  if not count:
    raise HTTPException(404)
  return JSONResponse({'profile': name, 'deleted': True})


def adapt(guide: Beliefs, profile: Profile | None, values: Values) -> Profile:
  """Returns a new profile, in the place of one that there is."""
  return guide.model.adapt(_comparisons(guide, _given(values, 'comparisons')))


def update(guide: Beliefs, profile: Profile | None, values: Values) -> Profile:
  """Returns a profile with comparisons added; a new one where there is none."""
  kept = guide.model.adapt() if profile is None else profile
  return guide.model.update(kept, _comparisons(guide, _given(values, 'comparisons')))


def forget(guide: Beliefs, profile: Profile | None, values: Values) -> Profile:
  """Returns a profile without a comparison."""
  return guide.model.forget(_known(profile), _given(values, 'comparison'))


def score(guide: Beliefs, profile: Profile, values: Values) -> Values:
  """Returns expected utilities in logits."""
  return {'scores': guide.model.score(profile, _features(guide, values, 'candidates')).tolist()}


def best_of(guide: Beliefs, profile: Profile, values: Values) -> Values:
  """Returns the index of the best candidate."""
  return {'best': int(guide.model.best_of(profile, _features(guide, values, 'candidates')))}


def ask(guide: Beliefs, profile: Profile, values: Values) -> Values:
  """Returns the indices of the questions to ask, the best first."""
  given = _given(values, 'pool')
  if not isinstance(given, list) or len({len(q) for q in given if isinstance(q, list)}) > 1:
    raise ValueError(
      f'pool must be a list of questions, lists of as many candidates each; got {given!r:.80}'
    )
  pool = np.array([guide.features(each) for each in given])
  return {'questions': guide.model.ask(profile, pool, count=values.get('count', 1)).tolist()}


def probability(guide: Beliefs, profile: Profile, values: Values) -> Values:
  """Returns the chance that each of a is chosen over each of b."""
  a, b = (_features(guide, values, name) for name in 'ab')
  return {'probability': guide.model.probability(profile, a, b).tolist()}


def stop(guide: Beliefs, profile: Profile, values: Values) -> Values:
  """Returns which candidate is best, how probable that is, and the regret."""
  found = guide.model.stop(profile, _features(guide, values, 'candidates'))
  return {name: value.item() for name, value in found._asdict().items()}


CHANGES: dict[str, Callable[[Beliefs, Profile | None, Values], Profile]] = {
  'adapt': adapt,
  'update': update,
  'forget': forget,
}
ANSWERS: dict[str, Callable[[Beliefs, Profile, Values], Values]] = {
  'score': score,
  'best_of': best_of,
  'ask': ask,
  'probability': probability,
  'stop': stop,
}
FIELDS = {
  'adapt': ('comparisons',),
  'update': ('comparisons',),
  'forget': ('comparison',),
  'score': ('candidates',),
  'best_of': ('candidates',),
  'ask': ('pool', 'count'),
  'probability': ('a', 'b'),
  'stop': ('candidates',),
}


def _change(
  guide: Beliefs, store: Store, name: str, verb: str, values: Values, *, key: str
) -> Values:
  """Changes a profile in one transaction, once for each key."""
  # Of the key, too, which is not kept: or what was forgotten could be guessed from the digest.
  digest = hashed(json.dumps([key, verb, values], sort_keys=True)) if key else ''
  with store.transaction() as db:
    profile = _read(guide, store, name)
    before = _held(profile)
    is_repeated = bool(key) and _is_repeated(db, name, key, digest)
    if not is_repeated:
      with guide.turn:
        profile = CHANGES[verb](guide, profile, values)
      db.execute(
        'INSERT INTO profiles VALUES (?, ?) '
        'ON CONFLICT (id) DO UPDATE SET content = excluded.content',
        (name, profiles.to_bytes(profile)),
      )
    if key and not is_repeated:
      db.execute('INSERT INTO requests VALUES (?, ?, ?)', (name, hashed(key), digest))
  held = _held(profile)
  if verb != 'update' or not set(before) <= set(held):  # the oldest go where there is no room
    store.purge()
  return {'profile': name, 'comparisons': held, 'repeated': is_repeated}


def _is_repeated(db: sqlite3.Connection, name: str, key: str, digest: str) -> bool:
  """Returns whether a request came before.

  Raises:
    HTTPException: if another one had its key, or its profile was deleted since.
  """
  of_deleted = [_spent(name, kept) for kept in (hashed(key), key)]
  if db.execute('SELECT 1 FROM spent WHERE digest IN (?, ?)', of_deleted).fetchone():
    raise HTTPException(
      409,
      'a request came with this Idempotency-Key before the profile was deleted, so that nothing '
      'was changed: give each change a key of its own',
    )
  query = 'SELECT digest FROM requests WHERE profile = ? AND key IN (?, ?)'
  found = db.execute(query, (name, hashed(key), key)).fetchone()
  if found and found['digest'] not in (None, digest):
    raise HTTPException(
      409,
      'another request came with this Idempotency-Key before, so that nothing was changed: give '
      'each change a key of its own',
    )
  return bool(found)


def _spent(name: str, kept: str) -> str:
  """Returns what outlives a profile of one of its requests; `kept` is its key as it was stored."""
  return hashed(json.dumps([name, kept]))


def _answer(guide: Beliefs, store: Store, name: str, what: Callable, values: Values) -> Values:
  profile = _known(_read(guide, store, name))
  with guide.turn:
    return what(guide, profile, values)


def _read(guide: Beliefs, store: Store, name: str) -> Profile | None:
  found = store.rows('SELECT content FROM profiles WHERE id = ?', (name,))
  return profiles.from_bytes(found[0]['content'], guide.profile(())) if found else None


def _delete(store: Store, name: str) -> int:
  with store.transaction() as db:
    rows = db.execute('SELECT key FROM requests WHERE profile = ?', (name,)).fetchall()
    spent = [(_spent(name, row['key']),) for row in rows]
    db.executemany('INSERT OR IGNORE INTO spent VALUES (?)', spent)
    count = db.execute('DELETE FROM profiles WHERE id = ?', (name,)).rowcount
  store.purge()
  return count


def _held(profile: Profile | None) -> list[int]:
  """Returns the ids of the comparisons kept."""
  return [] if profile is None else profile.history.ids[profile.history.mask].tolist()


def _known(profile: Profile | None) -> Profile:
  if profile is None:
    raise Conflict('there is no such profile; adapt or update makes one')
  return profile


def _name(request: Request) -> str:
  """Returns the id of the profile; raises HTTPException for one that is too long or not UTF-8."""
  try:
    parse.unquote(request.scope['raw_path'], errors='strict')
  except UnicodeDecodeError as error:  # what cannot be read would be U+FFFD, one id for all such
    said = 'the id of a profile must be UTF-8, percent-encoded in the path'
    raise HTTPException(400, f'{said}; got bytes that are not') from error
  name = request.path_params['id']
  if len(name) > LONGEST_ID:
    raise HTTPException(404)
  return name


def _check(source: str, values: Values, known: Collection[str]) -> None:
  """Raises ValueError for a name that nothing reads, or a number that is none."""
  unknown = sorted(set(values) - set(known))
  if unknown:
    raise ValueError(f'{source}: no field is called {unknown[0]!r:.80}; known: {", ".join(known)}')
  kinds = {name: kind for name, kind in NUMBERS.items() if name in values}
  fields.check(source, values, kinds)


def _given(values: Values, name: str) -> Any:
  if name not in values:
    raise ValueError(f'the request lacks {name!r}; it has {sorted(values)!r:.80}')
  return values[name]


def _features(guide: Beliefs, values: Values, name: str) -> Float[np.ndarray, 'N D']:
  return guide.features(_given(values, name))


def _comparisons(guide: Beliefs, given: Any) -> Comparisons:
  if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
    raise ValueError(
      f'comparisons must be a list of objects with chosen and rejected, got {given!r:.80}'
    )
  for place, each in enumerate(given):
    _check(f'comparison {place}', each, COMPARISON)
  chosen, rejected = (
    guide.features([_given(each, name) for each in given]) for name in ('chosen', 'rejected')
  )
  numbers = {name: _numbers(name, given) for name in ('weight', 'confidence')}
  found = pairs(chosen, rejected, outcome=_outcomes(guide, given), **numbers)
  if any('id' in each for each in given):
    found = found._replace(ids=np.array([_given(each, 'id') for each in given]))
  return found


def _numbers(name: str, given: list[Values]) -> Float[np.ndarray, 'N'] | None:
  """Returns what may be given of each comparison, 1 where it is not; None where it never is."""
  if not any(name in each for each in given):
    return None
  return np.array([each.get(name, 1.0) for each in given], float)


def _outcomes(guide: Beliefs, given: list[Values]) -> list[str] | None:
  """Returns what was answered; None where people had to choose."""
  has = ['outcome' in each for each in given]
  if not any(has):
    return None
  if not all(has):  # whether more could be answered than a choice makes another likelihood
    raise ValueError(
      'some comparisons have an outcome and others have none, which says that people had to '
      "choose: give these the outcome 'chosen' if other answers were open, else a request of theirs"
    )
  found = [each['outcome'] for each in given]
  unread = [outcome for outcome in found if outcome not in guide.readable]
  if unread:
    reads = ', '.join(guide.readable)
    raise ValueError(
      f'this {guide.model.export.learner} reads the outcomes {reads}, and was given '
      f'{unread[0]!r:.80}: {_remedy(unread[0])}'
    )
  return found


def _remedy(outcome: Any) -> str:
  if outcome == 'strong':
    return "give it as 'chosen', or train on answers that tell strong choices apart (strong_from=)"
  if outcome in NO_CHOICE:
    return 'leave the comparison out, or train on answers that have it (ties=outcomes)'
  return f'it must be one of {", ".join(OUTCOMES)}'


def _admitted(request: Request) -> Beliefs:
  study = web.pages_of(request).study
  kind, _, token = request.headers.get('authorization', '').partition(' ')
  if kind.lower() != 'bearer' or not study.store.is_admin(token):
    raise HTTPException(401, 'give the token of the study: Authorization: Bearer TOKEN')
  if study.beliefs is None:
    raise HTTPException(404, 'this study has no model')
  return study.beliefs
