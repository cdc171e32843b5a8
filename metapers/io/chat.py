"""The one client of OpenAI-compatible endpoints, hosted or local.

The key is read from the environment and goes into one header of requests to one host: it reaches no
message, log, file or redirect.
"""

import email.utils
import http.client
import itertools
import json
import os
import queue
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from absl import logging

LONGEST_PAUSE = 300.0  # seconds; an endpoint that asks for more is asked again another day
LONGEST_BACKOFF = 60.0
# These speak of one request: of its length, its content, its form.
OF_ONE_REQUEST = (400, 403, 413, 422)
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
  """What to ask: arguments of `Client.complete`."""

  model: str
  messages: Sequence[Message]
  parameters: Mapping[str, Any]


class RequestFailed(OSError):
  """This request failed for good; another one need not."""


class Client:
  """Asks one endpoint, patiently: what may pass is tried again, after exponentially longer pauses.

  Args:
    base_url: such as https://api.openai.com/v1 or http://localhost:8000/v1.
    key_variable: the environment variable that holds the key.
    requests_per_minute: at most, tries included; None for no limit.
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
    if requests_per_minute is not None and not requests_per_minute > 0:
      raise ValueError(f'requests_per_minute must be positive or None, got {requests_per_minute}')
    if num_tries < 1 or not timeout > 0:
      raise ValueError(
        f'num_tries and timeout must be positive, got {num_tries} and {timeout} seconds'
      )
    self.base_url = checked_url(base_url)
    self._key_variable = key_variable
    self._key = checked_key(key_variable)
    self._timeout, self._num_tries, self._backoff = timeout, num_tries, backoff
    self._pace = _Pace(60.0 / requests_per_minute if requests_per_minute else 0.0)
    self._opener = urllib.request.build_opener(_NoRedirect)

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
        return self._read(self._send(body), model)
      except _MayPass as error:
        pause = error.retry_after or 0.0
        if trial == self._num_tries or pause > LONGEST_PAUSE:
          raise error.final from error.__cause__
        self._pace.hold(pause)
        backoff = min(self._backoff * 2 ** (trial - 1), LONGEST_BACKOFF) * random.uniform(0.5, 1.5)
        logging.log_every_n_seconds(
          logging.WARNING, '%s; try %d of %d', 10, error.final, trial, self._num_tries
        )
        time.sleep(max(pause, backoff))
    raise AssertionError  # the last try returns or raises

  def _send(self, body: bytes) -> '_Reply':
    headers = {'Authorization': f'Bearer {self._key}', 'Content-Type': 'application/json'}
    request = urllib.request.Request(f'{self.base_url}/chat/completions', body, headers)
    try:
      with self._opener.open(request, timeout=self._timeout) as response:
        return _Reply(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
      with error:
        return _Reply(error.code, error.headers, error.read())
    except urllib.error.URLError as error:
      final = f'{self.base_url} cannot be reached ({error.reason}); see that it runs, and run again'
      raise _MayPass(OSError(final)) from error
    except (OSError, http.client.HTTPException) as error:
      final = f'{self.base_url} broke off: {type(error).__name__} {error}'
      raise _MayPass(RequestFailed(final)) from error

  def _read(self, reply: '_Reply', model: str) -> Completion:
    try:
      content = json.loads(reply.content)
    except ValueError:  # neither JSON nor, perhaps, text
      content = None
    error = content.get('error') if isinstance(content, dict) else None
    status = reply.status
    if status == 200 and error:  # some routers tell the status of the model behind them so
      code = error.get('code') if isinstance(error, dict) else None
      status = code if isinstance(code, int) and code >= 400 else 500
    if status == 200 and content is not None:
      return _completion(content)
    message = error.get('message') if isinstance(error, dict) else error
    told = str(message or reply.content[:300].decode('utf-8', 'replace'))
    self._refuse(status, f'{status}: {told[:300].replace(self._key, "[key]")}', reply, model)

  def _refuse(self, status: int, told: str, reply: '_Reply', model: str) -> NoReturn:
    if status in OF_ONE_REQUEST:
      raise RequestFailed(f'{model} refuses a request ({told})')
    if status in TEMPORARY or status >= 500:
      seconds = _seconds(reply.headers.get('Retry-After'))
      after = f', asks for {seconds:.0f} s of pause' if seconds else ''
      limited = OSError(
        f'{self.base_url} limits requests ({told}{after}); see to the quota, or give fewer '
        'requests_per_minute or less concurrency, and run again'
      )
      failed = RequestFailed(f'{model} at {self.base_url} fails ({told}{after})')
      raise _MayPass(limited if status == 429 else failed, seconds)
    if status == 401:
      raise ValueError(f'{self.base_url} does not accept the key in {self._key_variable} ({told})')
    if status == 404:
      raise ValueError(
        f'{self.base_url}/chat/completions is not there, or has no model {model!r} ({told}); '
        'give a base_url such as https://HOST/v1, and a model that it lists under /models'
      )
    if 300 <= status < 400:
      target = reply.headers.get('Location', 'nowhere')
      raise ValueError(f'{self.base_url} sends on to {target}; give the base_url it has moved to')
    raise ValueError(f'{self.base_url} is no OpenAI-compatible endpoint, or says no ({told})')


def complete_all(
  client: Client, requests: Iterable[Request], *, concurrency: int = 8
) -> Iterator[tuple[int, Completion | RequestFailed]]:
  """Asks many requests at once, and yields what comes of each as soon as it is there.

  An error that would befall all others as well is raised once the requests under way have ended.

  Args:
    client: whom to ask.
    requests: drawn from only when there is somebody free to ask them.
    concurrency: how many are under way at once.

  Yields:
    The number of the request, from 0, and its completion or why there is none.

  Raises:
    ValueError, OSError: as `Client.complete`; for a concurrency below 1.
  """
  if concurrency < 1:
    raise ValueError(f'concurrency must be at least 1, got {concurrency}')
  asked: queue.SimpleQueue = queue.SimpleQueue()
  ended: queue.SimpleQueue = queue.SimpleQueue()
  waiting = enumerate(requests)
  # Daemons, lest an interrupted program wait for its last requests.
  for _ in range(concurrency):
    threading.Thread(target=_work, args=(client, asked, ended), daemon=True).start()
  fatal, free, under_way = None, concurrency, 0
  try:
    while True:
      for item in itertools.islice(waiting, 0 if fatal else free):
        asked.put(item)
        under_way += 1
      if not under_way:
        break
      number, result = ended.get()
      under_way, free = under_way - 1, 1
      if isinstance(result, Completion | RequestFailed):
        yield number, result
      else:
        fatal = fatal or result
  finally:
    for _ in range(concurrency):
      asked.put(None)
  if fatal:
    raise fatal
