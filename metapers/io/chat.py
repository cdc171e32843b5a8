"""The one client of OpenAI-compatible endpoints, hosted or local.

The key is read from the environment and goes into one header of requests to one host: it reaches no
message, log, file or redirect.
"""

import email.utils
import itertools
import os
import queue
import random
import threading
import time
import urllib.parse
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import httpx2
import openai
from absl import logging

from metapers.core import files

LONGEST_PAUSE = 300.0  # seconds; an endpoint that wants more is better asked again another day
LONGEST_BACKOFF = 60.0
OF_ONE_REQUEST = (400, 403, 413, 422)  # its length, its content, its form
TEMPORARY = (408, 409, 425, 429)  # and all from 500 on
UNREACHABLE = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)
MASK = '[key]'  # in place of a key, wherever it is repeated
SHORTEST_SECRET = 16  # characters; what local servers take for a key is a word, as texts hold it
ADVICE = 'give the base_url of an OpenAI-compatible endpoint, as https://HOST/v1'

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

  The `openai` package sends the requests. Its own retries are turned off: they count towards no
  rate, hold back no other request when the endpoint asks for a pause, and take an answer of status
  200 without a completion for good.

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
    self.base_url = checked_url(base_url)
    key = checked_key(key_variable)
    self._key_variable, self._secret = key_variable, key if len(key) >= SHORTEST_SECRET else None
    self._num_tries, self._backoff = num_tries, backoff
    self._pace = Pace(requests_per_minute)
    self._newer: set[str] = set()  # models that take no `max_tokens`
    # A redirect would carry the key to another place.
    transport = openai.DefaultHttpxClient(follow_redirects=False, timeout=timeout)
    self._openai = openai.OpenAI(
      base_url=self.base_url,
      api_key=key,
      max_retries=0,
      timeout=timeout,
      http_client=transport,
    )
    weakref.finalize(self, transport.close).atexit = False

  def __repr__(self) -> str:
    return f'Client({self.base_url!r})'

  def complete(self, model: str, messages: Sequence[Message], **parameters: Any) -> Completion:
    """Returns a model's answer.

    Args:
      model: as the endpoint names it.
      messages: with `role` and `content` each.
      **parameters: of the request besides these: temperature, max_tokens, ...

    Raises:
      RequestFailed: if this one request is refused, or fails at every try.
      ValueError: for a wrong key, URL or model: no other request would fare better.
      OSError: if the endpoint cannot be reached, or keeps limiting requests.
    """
    for trial in itertools.count(1):
      self._pace.wait()
      if model in self._newer and 'max_tokens' in parameters:
        parameters['max_completion_tokens'] = parameters.pop('max_tokens')
      try:
        return self._read(model, self._send(model, messages, parameters))
      except _WantsOtherName as error:
        if 'max_tokens' not in parameters:
          raise error.final from error
        self._newer.add(model)
      except _MayPass as error:
        if trial >= self._num_tries or error.pause > LONGEST_PAUSE:
          raise error.final from error
        message = (logging.WARNING, '%s; try %d of %d', 10, error.final, trial, self._num_tries)
        logging.log_every_n_seconds(*message)
        self._pace.hold(error.pause)
        backoff = min(self._backoff * 2 ** (trial - 1), LONGEST_BACKOFF) * random.uniform(0.5, 1.5)
        time.sleep(max(error.pause, backoff))
    raise AssertionError('the last try returns or raises')

  def _send(
    self, model: str, messages: Sequence[Message], parameters: Mapping[str, Any]
  ) -> httpx2.Response | openai.APIConnectionError:
    """Returns the reply of any status, or why there is none.

    The errors of `openai` hold the request, and so the key: none may become the context of another.
    """
    completions: Any = self._openai.chat.completions.with_raw_response
    try:
      # As `extra_body`: `create` takes no parameters but those of OpenAI's own endpoint.
      sent = completions.create(model=model, messages=list(messages), extra_body=parameters)
      return sent.http_response
    except openai.APIStatusError as error:
      return error.response
    except openai.APIConnectionError as error:
      return error

  def _read(self, model: str, reply: httpx2.Response | openai.APIConnectionError) -> Completion:
    if isinstance(reply, openai.APIConnectionError):
      raise self._broken(reply.__cause__)
    try:
      answer = files.parse_json(reply.content, 'the answer')
    except ValueError:
      answer = {}
    status, error = reply.status_code, answer.get('error')
    details = error if isinstance(error, dict) else {}
    if status < 300 and error:  # so some routers hand on what befell the model behind them
      code = details.get('code')
      status = code if isinstance(code, int) and code >= 400 else 500
    if status < 300 and answer:
      found = _completion(model, answer)
      return found._replace(text=self._masked(found.text))
    text = details.get('message') or error or reply.content.decode('utf-8', 'replace')
    pause = seconds_asked(reply.headers.get('Retry-After', ''))
    raise self._failure(model, status, str(text), pause)

  def _masked(self, text: str) -> str:
    return text.replace(self._secret, MASK) if self._secret else text

  def _shown(self, text: Any) -> str:
    return self._masked(str(text))[:300]  # cut last: half a key could not be found

  def _broken(self, cause: BaseException | None) -> Exception:
    reason = f'{type(cause).__name__}: {self._shown(cause)}'
    if isinstance(cause, UNREACHABLE):
      message = f'{self.base_url} cannot be reached ({reason}); see that it runs, and run again'
      return _MayPass(OSError(message))
    return _MayPass(RequestFailed(f'{self.base_url} broke off ({reason})'))

  def _failure(self, model: str, status: int, text: str, pause: float) -> Exception:
    url, reason = self.base_url, f'{status}: {self._shown(text)}'
    if status < 300:
      return _MayPass(RequestFailed(f'{url} answers with no JSON object ({reason}); {ADVICE}'))
    if status in OF_ONE_REQUEST:
      refused = RequestFailed(f'{model} refuses a request ({reason})')
      return _WantsOtherName(refused) if 'max_completion_tokens' in text else refused
    if status == 429:
      wanted = f', asks for a pause of {pause:.0f} s' if pause else ''
      advice = 'give fewer requests_per_minute or less concurrency, or see to the quota'
      return _MayPass(OSError(f'{url} limits requests ({reason}{wanted}); {advice}'), pause)
    if status in TEMPORARY or status >= 500:
      return _MayPass(RequestFailed(f'{model} at {url} fails ({reason})'), pause)
    if status == 401:
      return ValueError(f'{url} does not accept the key in {self._key_variable} ({reason})')
    if status == 402:
      return ValueError(f'{url} asks for payment ({reason}); add credit to the account of the key')
    return ValueError(
      f'{url}/chat/completions is not there, or knows no model {model!r} ({reason}); {ADVICE}, and '
      'a model of its /models'
    )


def complete_all(
  client: Client, requests: Iterable[Request], *, concurrency: int = 8
) -> Iterator[tuple[int, Completion | RequestFailed]]:
  """Asks many requests at once, and yields what comes of each as soon as it is there.

  An error that would befall the others as well is raised when the requests under way have ended.

  Args:
    client: of the endpoint.
    requests: taken one by one, as others end.
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


class Pace:
  """Lets requests start evenly, so many a minute, and none while held."""

  def __init__(self, requests_per_minute: float | None):
    if requests_per_minute is not None and not requests_per_minute > 0:
      raise ValueError(f'requests_per_minute must be positive or None, got {requests_per_minute}')
    self._interval = 60.0 / requests_per_minute if requests_per_minute else 0.0
    self._free, self._lock = 0.0, threading.Lock()

  def wait(self) -> None:
    """Returns when the next request may start."""
    while (delay := self._claim()) > 0:
      time.sleep(delay)

  def hold(self, seconds: float) -> None:
    """Lets no request start for some seconds."""
    with self._lock:
      self._free = max(self._free, time.monotonic() + seconds)

  def _claim(self) -> float:
    with self._lock:
      now = time.monotonic()
      if now >= self._free:
        self._free = now + self._interval
        return 0.0
      return self._free - now


def seconds_asked(retry_after: str) -> float:
  """Returns the seconds that a header Retry-After, a number or a date, asks for; 0 without one."""
  try:
    seconds = float(retry_after)
  except ValueError:
    date = email.utils.parsedate_tz(retry_after)
    try:
      seconds = email.utils.mktime_tz(date) - time.time() if date else 0.0
    except (ValueError, OverflowError):
      seconds = 0.0
  return seconds if seconds > 0 else 0.0  # NaN is no pause, either


def checked_url(base_url: str) -> str:
  """Returns a URL without its last slash.

  Raises:
    ValueError: for a URL of another form, or one that holds a secret.
  """
  parts = urllib.parse.urlsplit(base_url)
  if parts.username or parts.password or parts.query or parts.fragment:
    raise ValueError('base_url must hold no password and no query: keys go into the environment')
  path = parts.path.rstrip('/')
  if parts.scheme not in ('http', 'https') or not parts.hostname or path.endswith('/completions'):
    raise ValueError(
      f'base_url must be like https://HOST/v1, without /chat/completions, got {base_url!r}'
    )
  return f'{parts.scheme}://{parts.netloc}{path}'


def checked_key(variable: str) -> str:
  """Returns the key that an environment variable holds.

  Raises:
    ValueError: where there is none, or what no header could carry.
  """
  key = os.environ.get(variable, '')
  if not key:
    raise ValueError(f'set {variable} to the key of the endpoint; any word where it needs none')
  # Python's own error would show the header.
  if not (key.isascii() and key.isprintable()) or ' ' in key:
    raise ValueError(f'{variable} holds spaces, line breaks or other characters that no key has')
  return key


class _MayPass(Exception):
  """Worth another try. final: to raise without one. pause: asked for by the endpoint, seconds."""

  def __init__(self, final: OSError, pause: float = 0.0):
    super().__init__(str(final))
    self.final, self.pause = final, pause


class _WantsOtherName(Exception):
  """A model takes `max_completion_tokens` alone. final: to raise where that was given."""

  def __init__(self, final: RequestFailed):
    super().__init__(str(final))
    self.final = final


def _work(client: Client, asked: queue.SimpleQueue, ended: queue.SimpleQueue) -> None:
  while (item := asked.get()) is not None:
    number, request = item
    try:
      result = client.complete(request.model, request.messages, **request.parameters)
    except Exception as error:  # raised by `complete_all`
      result = error
    ended.put((number, result))


def _completion(model: str, answer: Mapping[str, Any]) -> Completion:
  try:
    choice = answer['choices'][0]
    text = _joined(choice['message'].get('content') or '')
    # A limit of tokens may cut an emoji in half, and no file could hold the other half.
    whole = text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')
  except (KeyError, IndexError, TypeError, AttributeError):
    # Without what it says instead, which may be the key.
    failure = RequestFailed('the endpoint answers without choices and message')
    raise _MayPass(failure) from None
  reason, served = choice.get('finish_reason') or '', answer.get('model') or ''
  if choice.get('error') or reason == 'error':
    raise _MayPass(RequestFailed(f'{model} broke off in its answer'))
  if reason == 'length' and not whole.strip():
    raise RequestFailed(f'{model} reached the limit of tokens before it said anything; raise it')
  usage = answer.get('usage')
  return Completion(whole, str(reason), str(served), usage if isinstance(usage, dict) else {})


def _joined(content: Any) -> str:
  # Some endpoints give the text in parts, beside parts of other kinds.
  return content if isinstance(content, str) else ''.join(part.get('text', '') for part in content)
