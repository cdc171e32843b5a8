"""Where the client sends its key, and where nobody may see it."""

import pytest
from fake_endpoint import KEY, MESSAGES, answer, client, first

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


def test_the_key_is_in_no_message_and_no_log(serve, monkeypatch):
  log = []
  monkeypatch.setattr(
    chat.logging, 'log_every_n_seconds', lambda level, text, n, *args: log.append(text % args)
  )
  for status in (400, 401, 404, 429, 500):
    # Ends behind the cut of long messages, lest half of it be left.
    told = {'error': {'message': 'x' * 290 + KEY}}
    endpoint = serve(lambda n, body, s=status, t=told: (s, {}, t))
    asking = client(endpoint, num_tries=2)
    with pytest.raises((ValueError, OSError)) as caught:
      asking.complete('m', MESSAGES)
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert 'xxx' in str(caught.value)
    assert all(KEY[:5] not in f'{each!r} {each}' for each in [*chain, asking])
  assert len(log) == 2
  assert all('xxx' in line and KEY[:5] not in line for line in log)


def test_the_key_follows_no_redirect(serve):
  other = serve(first())
  endpoint = serve(lambda n, body: (302, {'Location': f'{other.url}/chat/completions'}, ''))
  with pytest.raises(ValueError, match='302'):
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
