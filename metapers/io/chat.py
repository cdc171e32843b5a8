"""The one client of OpenAI-compatible endpoints, hosted or local.

The key is read from the environment and goes into one header of requests to one host: it reaches no
message, log, file or redirect.
"""

import http.client
import itertools
import json
import queue
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from metapers.io import endpoint

LONGEST_PAUSE = 300.0  # seconds; who asks for more is better asked again another day
LONGEST_BACKOFF = 60.0
OF_ONE_REQUEST = (400, 403, 413, 422)  # its length, its content, its form
TEMPORARY = (408, 409, 425, 429)  # and all from 500 on

Message = Mapping[str, Any]


class Completion(NamedTuple):
  """What a model said.

  text: '' where it said nothing. finish_reason: 'stop', 'length', 'content_filter', ...
  model: as the endpoint names it. usage: numbers of tokens, as the endpoint counts them.
  """

  text: str
  finish_reason: str
  model: str
  usage: Mapping[str, Any]


class Request(NamedTuple):
  """What to ask: the arguments of `Client.complete`."""

  model: str
  messages: Sequence[Message]
  parameters: Mapping[str, Any]


class RequestFailed(OSError):
  """This request failed for good; another one need not."""


class Client:
  """Asks one endpoint, and asks again, after ever longer pauses, where that may help.

  Args:
    base_url: such as https://api.openai.com/v1 or http://localhost:8000/v1.
    key_variable: the environment variable that holds the key.
    requests_per_minute: at most, further tries included; None for no limit.
    timeout: seconds without a sign of life after which a request is given up.
    num_tries: of one request.
    backoff: seconds before the second try, doubled before each further one, give or take a half.

  Raises:
    ValueError: for a missing key, a URL of another form, or a number out of range.
  """

  def __init__(
    self,
    base_url: str,
    *,
    key_variable: str = 'OPENAI_API_KEY',
    requests_per_minute: float | None = None,
    timeout: float = 300.0,
    num_tries: int = 6,
    backoff: float = 1.0,
  ):
    for name, value in (('timeout', timeout), ('num_tries', num_tries)):
      if not value > 0:
        raise ValueError(f'{name} must be positive, got {value}')
    self.base_url = endpoint.checked_url(base_url)
    self._key_variable, self._key = key_variable, endpoint.checked_key(key_variable)
    self._timeout, self._num_tries, self._backoff = timeout, num_tries, backoff
    self._pace = endpoint.Pace(requests_per_minute)
    self._opener = urllib.request.build_opener(endpoint.NoRedirect)

  def __repr__(self) -> str:
    return f'Client({self.base_url!r})'

  def complete(self, model: str, messages: Sequence[Message], **parameters: Any) -> Completion:
    """Asks a model to answer.

    Args:
      model: as the endpoint names it.
      messages: with `role` and `content` each.
      **parameters: of the request besides these: temperature, max_tokens, ...

    Raises:
      RequestFailed: if this one request is refused, or fails at every try.
      ValueError: for a wrong key, URL or model: no other request would fare better.
      OSError: if the endpoint cannot be reached, or keeps limiting requests.
    """
    body = json.dumps({'model': model, 'messages': list(messages), **parameters}).encode()
    for trial in itertools.count(1):
      self._pace.wait()
      try:
        return self._read(model, *self._send(body))
      except _MayPass as error:
        if trial == self._num_tries or error.pause > LONGEST_PAUSE:
          raise error.final from error
        told = (logging.WARNING, '%s; try %d of %d', 10, error.final, trial, self._num_tries)
        logging.log_every_n_seconds(*told)
        self._pace.hold(error.pause)
        backoff = min(self._backoff * 2 ** (trial - 1), LONGEST_BACKOFF) * random.uniform(0.5, 1.5)
        time.sleep(max(error.pause, backoff))
    raise AssertionError('the last try returns or raises')

  def _send(self, body: bytes) -> tuple[int, str, bytes]:
    """Returns status, the header Retry-After and the content of the reply."""
    headers = {'Authorization': f'Bearer {self._key}', 'Content-Type': 'application/json'}
    request = urllib.request.Request(f'{self.base_url}/chat/completions', body, headers)
    try:
      with self._opener.open(request, timeout=self._timeout) as reply:
        return reply.status, '', reply.read()
    except urllib.error.HTTPError as error:
      with error:
        return error.code, error.headers.get('Retry-After', ''), error.read()
    except urllib.error.URLError as error:
      told = f'{self.base_url} cannot be reached ({error.reason}); see that it runs, and run again'
      raise _MayPass(OSError(told)) from error
    except (OSError, http.client.HTTPException) as error:
      told = f'{self.base_url} broke off ({type(error).__name__}: {error})'
      raise _MayPass(RequestFailed(told)) from error

  def _read(self, model: str, status: int, retry_after: str, content: bytes) -> Completion:
    try:
      answer = json.loads(content)
    except ValueError:  # no JSON, or not even text
      answer = None
    error = answer.get('error') if isinstance(answer, dict) else None
    details = error if isinstance(error, dict) else {}
    if status == 200 and error:  # so some routers hand on what befell the model behind them
      code = details.get('code')
      status = code if isinstance(code, int) and code >= 400 else 500
    if status == 200 and answer is not None:
      return _completion(answer)
    told = str(details.get('message') or error or content[:300].decode('utf-8', 'replace'))
    # Cut last: half a key could not be found.
    told = f'{status}: {told.replace(self._key, "[key]")[:300]}'
    raise self._failure(model, status, told, endpoint.seconds_asked(retry_after))

  def _failure(self, model: str, status: int, told: str, pause: float) -> Exception:
    url = self.base_url
    if status in OF_ONE_REQUEST:
      return RequestFailed(f'{model} refuses a request ({told})')
    if status == 429:
      asked = f', asks for a pause of {pause:.0f} s' if pause else ''
      advice = 'give fewer requests_per_minute or less concurrency, or see to the quota'
      return _MayPass(OSError(f'{url} limits requests ({told}{asked}); {advice}'), pause)
    if status in TEMPORARY or status >= 500:
      return _MayPass(RequestFailed(f'{model} at {url} fails ({told})'), pause)
    if status == 401:
      return ValueError(f'{url} does not accept the key in {self._key_variable} ({told})')
    return ValueError(
      f'{url}/chat/completions is not there, or knows no model {model!r} ({told}); give the '
      'base_url of an OpenAI-compatible endpoint, as https://HOST/v1, and a model of its /models'
    )


def complete_all(
  client: Client, requests: Iterable[Request], *, concurrency: int = 8
) -> Iterator[tuple[int, Completion | RequestFailed]]:
  """Asks many requests at once, and yields what comes of each as soon as it is there.

  An error that would befall the others as well is raised when the requests under way have ended.

  Args:
    client: whom to ask.
    requests: taken one by one, as there is room for them.
    concurrency: how many are under way at once.

  Yields:
    The number of the request, from 0, and its completion or why there is none.

  Raises:
    ValueError, OSError: as `Client.complete`; for a concurrency below 1.
  """
  if concurrency < 1:
    raise ValueError(f'concurrency must be at least 1, got {concurrency}')
  asked, ended = queue.SimpleQueue(), queue.SimpleQueue()
  waiting, under_way, fatal = enumerate(requests), 0, None
  for _ in range(concurrency):  # daemons: an interrupted program does not wait for its requests
    threading.Thread(target=_work, args=(client, asked, ended), daemon=True).start()
  try:
    while True:
      for item in itertools.islice(waiting, 0 if fatal else concurrency - under_way):
        asked.put(item)
        under_way += 1
      if not under_way:
        break
      number, result = ended.get()
      under_way -= 1
      if isinstance(result, Completion | RequestFailed):
        yield number, result
      else:
        fatal = fatal or result
  finally:
    for _ in range(concurrency):
      asked.put(None)
  if fatal:
    raise fatal


def _work(client: Client, asked: queue.SimpleQueue, ended: queue.SimpleQueue) -> None:
  while (item := asked.get()) is not None:
    number, request = item
    try:
      result = client.complete(request.model, request.messages, **request.parameters)
    except Exception as error:  # raised by whom it is for
      result = error
    ended.put((number, result))


class _MayPass(Exception):
  """Worth another try. final: to raise without one. pause: asked for by the endpoint, seconds."""

  def __init__(self, final: OSError, pause: float = 0.0):
    super().__init__(str(final))
    self.final, self.pause = final, pause


def _completion(answer: Any) -> Completion:
  try:
    choice = answer['choices'][0]
    text = choice['message'].get('content') or ''
    # A limit of tokens may cut an emoji in half, and no file could hold the other half.
    whole = text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')
  except (KeyError, IndexError, TypeError, AttributeError) as error:
    # Without what it says instead, which may be the key.
    raise _MayPass(RequestFailed('the endpoint answers without choices and message')) from error
  reason, model = choice.get('finish_reason') or '', answer.get('model') or ''
  return Completion(whole, str(reason), str(model), answer.get('usage') or {})
