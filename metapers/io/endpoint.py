"""What talking to an HTTP endpoint takes: its URL, its key, its pace."""

import email.utils
import os
import threading
import time
import urllib.parse
import urllib.request
from typing import Any


class NoRedirect(urllib.request.HTTPRedirectHandler):
  """Follows nowhere: urllib would carry the key to another host."""

  def redirect_request(self, *_: Any) -> None:
    """Makes no further request."""
    return


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
  """Reads the header Retry-After, a number of seconds or a date; 0 without one."""
  if retry_after.replace('.', '', 1).isdigit():
    return float(retry_after)
  date = email.utils.parsedate_tz(retry_after)
  return max(0.0, email.utils.mktime_tz(date) - time.time()) if date else 0.0


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
