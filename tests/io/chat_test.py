"""The client against a fake endpoint that limits, fails and drops connections."""

import email.utils
import itertools
import signal
import subprocess
import sys
import threading
import time

import pytest
from fake_endpoint import (
  CUT,
  DROP,
  KEY,
  MESSAGES,
  answer,
  client,
  first,
  number_of,
  requests,
  texts,
)

from metapers.io import chat


def test_a_completion_is_what_the_endpoint_said(serve):
  endpoint = serve(first())
  found = client(endpoint).complete('m', MESSAGES, temperature=0.5, max_tokens=7)
  assert found == chat.Completion('fine', 'stop', 'served', {'total_tokens': 3})
  assert endpoint.bodies == [
    {'model': 'm', 'messages': MESSAGES, 'temperature': 0.5, 'max_tokens': 7}
  ]
  assert endpoint.headers[0]['Authorization'] == f'Bearer {KEY}'


@pytest.mark.parametrize(
  'reply',
  [
    (429, {}, {'error': {'message': 'slow down'}}),
    (500, {}, 'oh no'),
    (503, {}, ''),
    (200, {}, {'error': {'code': 502, 'message': 'no model behind me'}}),
    (200, {}, {'choices': []}),
    (200, {}, {'choices': [{'message': None}]}),
    (200, {}, ''),
    (200, {}, '<html>Please wait</html>'),
    (200, {}, '{"choices": [{"mess'),
    (200, CUT, answer('fine')),
    (200, {}, {'choices': [{'error': {'code': 502}, 'message': {'content': 'a ha'}}]}),
    (200, {}, {'choices': [{'message': {'content': 'a ha'}, 'finish_reason': 'error'}]}),
    DROP,
  ],
  ids=[
    'limit',
    'error',
    'busy',
    'router',
    'no choices',
    'no message',
    'empty',
    'no JSON',
    'half JSON',
    'cut short',
    'error of a choice',
    'finished by an error',
    'drop',
  ],
)
def test_what_may_pass_is_tried_again(serve, reply):
  endpoint = serve(first(reply, reply))
  assert client(endpoint).complete('m', MESSAGES).text == 'fine'
  assert len(endpoint.times) == 3


def test_a_text_that_was_cut_before_it_began_is_no_completion(serve):
  nothing = {'choices': [{'message': {'content': ''}, 'finish_reason': 'length'}]}
  endpoint = serve(lambda n, body: (200, {}, nothing))
  with pytest.raises(chat.RequestFailed, match='m reached the limit of tokens before it said'):
    client(endpoint).complete('m', MESSAGES)
  assert len(endpoint.times) == 1


def test_a_model_that_wants_the_newer_name_of_a_limit_gets_it_from_then_on(serve):
  def behave(n, body):
    if 'max_tokens' in body:
      text = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
      return 400, {}, {'error': {'message': text, 'code': 'unsupported_parameter'}}
    return 200, {}, answer('fine')

  endpoint = serve(behave)
  asked = client(endpoint)
  assert [asked.complete('m', MESSAGES, max_tokens=9).text for _ in range(2)] == ['fine'] * 2
  assert [sorted(set(body) - {'model', 'messages'}) for body in endpoint.bodies] == [
    ['max_tokens'],
    ['max_completion_tokens'],
    ['max_completion_tokens'],
  ]
  with pytest.raises(chat.RequestFailed, match='max_completion_tokens'):
    refused = serve(
      lambda n, body: (400, {}, {'error': {'message': 'max_completion_tokens is too large'}})
    )
    client(refused).complete('m', MESSAGES, max_completion_tokens=10**9)


def test_a_key_that_an_answer_repeats_is_masked(serve):
  endpoint = serve(lambda n, body: (200, {}, answer(f'your key is {KEY}, is it not?')))
  assert client(endpoint).complete('m', MESSAGES).text == 'your key is [key], is it not?'


@pytest.mark.parametrize('word', ['x', 'none', 'EMPTY'])
def test_a_word_in_place_of_a_key_is_no_secret(serve, monkeypatch, word):
  monkeypatch.setenv('OPENAI_API_KEY', word)
  said = 'There are none in the next box; the list is EMPTY.'
  assert client(serve(lambda n, body: (200, {}, answer(said)))).complete('m', MESSAGES).text == said


def test_the_newer_name_of_a_limit_is_found_at_the_end_of_a_long_message(serve):
  def behave(n, body):
    if 'max_tokens' in body:
      return 400, {}, {'error': {'message': 300 * '.' + ' Use max_completion_tokens instead.'}}
    return 200, {}, answer('fine')

  assert client(serve(behave)).complete('m', MESSAGES, max_tokens=9).text == 'fine'


def test_a_change_of_name_is_no_way_past_the_last_try(serve):
  def behave(n, body):
    if 'max_tokens' in body:
      return 400, {}, {'error': {'message': 'Use max_completion_tokens instead.'}}
    return 500, {}, 'down'

  endpoint = serve(behave)
  with pytest.raises(chat.RequestFailed, match='fails'):
    client(endpoint, num_tries=1).complete('m', MESSAGES, max_tokens=9)
  assert len(endpoint.times) == 2


def test_tries_come_to_an_end(serve):
  endpoint = serve(lambda n, body: (500, {}, 'oh no'))
  with pytest.raises(chat.RequestFailed, match='500: oh no'):
    client(endpoint, num_tries=3).complete('m', MESSAGES)
  assert len(endpoint.times) == 3


def test_a_page_in_place_of_an_answer_says_what_to_do(serve):
  endpoint = serve(lambda n, body: (200, {}, '<html>Welcome</html>'))
  with pytest.raises(chat.RequestFailed, match=r'no JSON object.*Welcome.*https://HOST/v1'):
    client(endpoint, num_tries=2).complete('m', MESSAGES)


@pytest.mark.parametrize(
  ('content', 'expected'),
  [
    (
      [{'type': 'text', 'text': 'one '}, {'type': 'image'}, {'type': 'text', 'text': 'two'}],
      'one two',
    ),
    ([], ''),
    (None, ''),
  ],
)
def test_a_text_in_parts_is_joined(serve, content, expected):
  endpoint = serve(lambda n, body: (200, {}, answer(content)))
  assert client(endpoint).complete('m', MESSAGES).text == expected


def test_parameters_that_openai_does_not_know_are_sent(serve):
  endpoint = serve(first())
  client(endpoint).complete('m', MESSAGES, top_k=3, guided_choice=['a', 'b'])
  assert endpoint.bodies[0]['top_k'] == 3
  assert endpoint.bodies[0]['guided_choice'] == ['a', 'b']


@pytest.mark.parametrize(
  ('header', 'seconds'),
  [
    ('', 0), ('2', 2), ('0.5', 0.5), ('-3', 0), ('nan', 0), ('²', 0), ('soon', 0),
    ('Thu, 01 Jan 1970 00:00:00 GMT', 0), ('Mon, 99 Jan 999999999999 00:00:00 GMT', 0),
  ],
)  # fmt: skip
def test_no_header_of_a_pause_is_too_odd(header, seconds):
  assert chat.seconds_asked(header) == seconds


def test_pauses_double(serve, monkeypatch):
  endpoint = serve(lambda n, body: (500, {}, ''))
  pauses = []
  asking = client(endpoint, num_tries=5, backoff=1.0)
  monkeypatch.setattr(chat.time, 'sleep', pauses.append)
  with pytest.raises(chat.RequestFailed):
    asking.complete('m', MESSAGES)
  assert len(pauses) == 4
  assert all(0.5 * 2**n <= pause <= 1.5 * 2**n for n, pause in enumerate(pauses))


@pytest.mark.parametrize('as_date', [False, True])
def test_retry_after_is_honoured_by_every_request(serve, as_date):
  # A date has whole seconds: of 3 at least 2 are left.
  after = email.utils.formatdate(time.time() + 3, usegmt=True) if as_date else '0.6'
  endpoint = serve(first((429, {'Retry-After': after}, '')))
  asking = client(endpoint)
  list(chat.complete_all(asking, requests(1)))
  assert endpoint.times[1] - endpoint.times[0] >= (1.0 if as_date else 0.6)

  held = serve(first((429, {'Retry-After': '0.6'}, '')))
  other = client(held)
  asked = threading.Thread(target=other.complete, args=('m', MESSAGES))
  asked.start()
  while not held.times or held.open:
    time.sleep(0.01)
  time.sleep(0.1)
  other.complete('m', MESSAGES)
  asked.join()
  assert min(held.times[1:]) - held.times[0] >= 0.6


def test_who_asks_for_an_hour_is_not_waited_for(serve):
  endpoint = serve(lambda n, body: (429, {'Retry-After': '3600'}, 'quota'))
  with pytest.raises(OSError, match=r'quota, asks for a pause of 3600 s.*requests_per_minute'):
    client(endpoint).complete('m', MESSAGES)
  assert len(endpoint.times) == 1


def test_requests_keep_to_the_rate_tries_included(serve):
  endpoint = serve(first((500, {}, ''), (429, {}, '')))
  asking = client(endpoint, requests_per_minute=1200.0)  # one in 0.05 s
  assert len(list(chat.complete_all(asking, requests(18), concurrency=6))) == 18
  times = endpoint.times
  assert len(times) == 20
  # The server notes a time a little after the request began, so single gaps are not exact.
  assert times[-1] - times[0] >= 19 * 0.05 - 0.06  # the first may be late on a busy machine
  assert max(sum(t <= u < t + 0.5 for u in times) for t in times) <= 11


def test_concurrency_is_bounded_and_used(serve):
  def slow(n, body):
    time.sleep(0.05)
    return 200, {}, answer(body['messages'][0]['content'])

  endpoint = serve(slow)
  found = dict(chat.complete_all(client(endpoint), requests(12), concurrency=3))
  assert texts(found[n] for n in range(12)) == [str(n) for n in range(12)]
  assert endpoint.most_open == 3


def test_results_come_as_they_end(serve):
  release = threading.Event()

  def behave(n, body):
    assert number_of(body) or release.wait(10)
    return 200, {}, answer('fine')

  found = chat.complete_all(client(serve(behave)), requests(4), concurrency=2)
  assert sorted(number for number, _ in itertools.islice(found, 3)) == [1, 2, 3]
  release.set()
  assert [number for number, _ in found] == [0]


def test_requests_are_drawn_as_there_is_room(serve):
  drawn = []
  endless = (drawn.append(n) or chat.Request('m', MESSAGES, {}) for n in itertools.count())
  found = chat.complete_all(client(serve(first())), endless, concurrency=2)
  assert len(list(itertools.islice(found, 5))) == 5
  assert len(drawn) <= 7


def test_an_interrupted_program_does_not_wait_for_its_requests(serve):
  release = threading.Event()
  endpoint = serve(lambda n, body: (release.wait(60), (200, {}, answer('late')))[1])
  code = (
    'import signal\n'  # a shell's background job, and so its children, ignore SIGINT
    'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
    'from metapers.io import chat\n'
    f'client = chat.Client({endpoint.url!r})\n'
    "list(chat.complete_all(client, [chat.Request('m', [], {})] * 3, concurrency=2))"
  )
  program = subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.PIPE, text=True)
  while endpoint.open < 2:
    assert program.poll() is None
    time.sleep(0.02)
  program.send_signal(signal.SIGINT)
  try:
    assert 'KeyboardInterrupt' in program.communicate(timeout=20)[1]
  finally:
    release.set()


def test_a_refused_request_does_not_stop_the_others(serve):
  def behave(n, body):
    if number_of(body) == 1:
      return 400, {}, {'error': {'message': 'too long'}}
    return 200, {}, answer('fine')

  endpoint = serve(behave)
  found = dict(chat.complete_all(client(endpoint), requests(4)))
  assert isinstance(found.pop(1), chat.RequestFailed)
  assert texts(found.values()) == ['fine'] * 3
  assert len(endpoint.times) == 4


def test_an_error_of_all_requests_waits_for_answers_under_way(serve):
  def behave(n, body):
    if number_of(body) == 0:
      time.sleep(0.3)
      return 200, {}, answer('paid for')
    return 401, {}, 'no'

  endpoint = serve(behave)
  found = chat.complete_all(client(endpoint), requests(50), concurrency=2)
  assert texts(next(found)[1:]) == ['paid for']
  with pytest.raises(ValueError, match='OPENAI_API_KEY'):
    next(found)
  assert len(endpoint.times) == 2


@pytest.mark.parametrize(
  ('reply', 'expected'),
  [
    ((401, {}, ''), 'does not accept the key in OPENAI_API_KEY'),
    ((404, {}, {'error': {'message': 'The model does not exist'}}), "no model 'm'.*does not exist"),
    ((402, {}, 'pay first'), 'asks for payment .402: pay first.; add credit'),
  ],
)
def test_errors_that_stay_say_what_to_do(serve, reply, expected):
  endpoint = serve(lambda n, body: reply)
  with pytest.raises(ValueError, match=expected):
    client(endpoint).complete('m', MESSAGES)
  assert len(endpoint.times) == 1


def test_an_endpoint_that_is_not_there_is_named(serve):
  endpoint = serve(first())
  endpoint.server.shutdown()
  endpoint.server.server_close()
  with pytest.raises(OSError, match=r'127\.0\.0\.1.*cannot be reached'):
    client(endpoint, num_tries=2).complete('m', MESSAGES)


def test_silence_is_a_failed_request(serve):
  endpoint = serve(lambda n, body: time.sleep(0.4) or (200, {}, answer('late')))
  with pytest.raises(chat.RequestFailed, match=r'broke off .*ReadTimeout'):
    client(endpoint, timeout=0.1, num_tries=2).complete('m', MESSAGES)
