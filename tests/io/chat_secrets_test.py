"""Where the client sends its key, and where nobody may see it."""

import pytest
from fake_endpoint import CUT, DROP, KEY, MESSAGES, answer, client, first

from metapers.io import chat


@pytest.mark.parametrize(
  'url',
  ['localhost:8000', 'ftp://host/v1', 'https://host/v1/chat/completions', 'https://', ''],
)
def test_other_urls_are_refused(serve, url):
  with pytest.raises(ValueError, match='https://HOST/v1'):
    chat.Client(url)


@pytest.mark.parametrize('url', ['https://me:secret@host/v1', 'https://host/v1?key=secret'])
def test_urls_with_secrets_are_refused_and_not_shown(monkeypatch, url):
  monkeypatch.setenv('OPENAI_API_KEY', KEY)
  with pytest.raises(ValueError, match='environment') as caught:
    chat.Client(url)
  assert 'secret' not in str(caught.value)


@pytest.mark.parametrize('key', [f'{KEY}\n', f'{KEY} {KEY}', f'{KEY}é', ''])
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(monkeypatch, key):
  monkeypatch.setenv('OPENAI_API_KEY', key)
  with pytest.raises(ValueError, match='OPENAI_API_KEY') as caught:
    chat.Client('https://host/v1')
  assert KEY not in str(caught.value)


def test_a_missing_key_names_its_variable(monkeypatch):
  monkeypatch.delenv('OTHER_KEY', raising=False)
  with pytest.raises(ValueError, match='set OTHER_KEY'):
    chat.Client('https://host/v1', key_variable='OTHER_KEY')


@pytest.mark.parametrize(
  ('name', 'value'), [('requests_per_minute', 0.0), ('num_tries', 0), ('timeout', -1.0)]
)
def test_numbers_out_of_range_are_refused(monkeypatch, name, value):
  monkeypatch.setenv('OPENAI_API_KEY', KEY)
  with pytest.raises(ValueError, match=name):
    chat.Client('https://host/v1', **{name: value})


def chain(error):
  """Returns an error, and all that it came from or while."""
  found, waiting = [], [error]
  while waiting:
    each = waiting.pop()
    if each is not None and each not in found:
      found.append(each)
      waiting += [each.__cause__, each.__context__]
  return found


def test_the_key_is_in_no_message_and_no_log(serve, monkeypatch, caplog):
  caplog.set_level(0)
  log = []
  monkeypatch.setattr(
    chat.logging, 'log_every_n_seconds', lambda level, text, n, *args: log.append(text % args)
  )
  # Ends behind the cut of long messages, lest half of it be left.
  text = 'x' * 290 + KEY
  for status in (200, 400, 401, 402, 404, 429, 500):
    content = text if status == 200 else {'error': {'message': text}}
    endpoint = serve(lambda n, body, s=status, c=content: (s, {}, c))
    asking = client(endpoint, num_tries=2)
    with pytest.raises((ValueError, OSError)) as caught:
      asking.complete('m', MESSAGES)
    assert 'xxx' in str(caught.value)
    assert all(KEY[:5] not in f'{each!r} {each} {vars(each)}' for each in chain(caught.value))
    assert KEY[:5] not in repr(asking)
  assert len(log) == 3
  assert all('xxx' in line and KEY[:5] not in line for line in log)
  assert KEY[:5] not in caplog.text
  assert 'openai' in caplog.text


@pytest.mark.parametrize('reply', [DROP, (200, CUT, answer('fine')), (302, {'Location': '/'}, '')])
def test_an_error_without_an_answer_does_not_hold_the_request(serve, reply):
  endpoint = serve(lambda n, body: reply)
  with pytest.raises((ValueError, OSError)) as caught:
    client(endpoint, num_tries=1).complete('m', MESSAGES)
  assert not [each for each in chain(caught.value) if hasattr(each, 'request')]


@pytest.mark.parametrize('status', [302, 307])
def test_the_key_follows_no_redirect(serve, status):
  other = serve(first())
  endpoint = serve(lambda n, body: (status, {'Location': f'{other.url}/chat/completions'}, ''))
  with pytest.raises(ValueError, match=str(status)):
    client(endpoint).complete('m', MESSAGES)
  assert other.headers == []


@pytest.mark.parametrize(
  ('text', 'kept'), [('cut \ud83d', 'cut \ufffd'), ('\U0001f600 é', '\U0001f600 é'), (None, '')]
)
def test_every_text_can_be_written(serve, text, kept):
  endpoint = serve(lambda n, body: (200, {}, answer(text)))
  found = client(endpoint).complete('m', MESSAGES)
  assert found.text == kept
  found.text.encode()
