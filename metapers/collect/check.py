"""A server in a process of its own with simulated people: how fast it is, and what a kill costs."""

import pathlib
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import httpx2
import numpy as np

from metapers.collect.study import DATABASE

KILLS = 5
PATIENCE = 300.0  # seconds until a server must answer
ANSWERS = ('choice:0', 'choice:1', 'same', 'both_bad', 'skip')
SHARES = (0.45, 0.45, 0.05, 0.025, 0.025)


class Sent(NamedTuple):
  """What simulated people know: the keys of acknowledged answers by token, and the seconds that
  answers and pages took."""

  keys: dict[str, list[str]]
  answers: list[float]
  pages: list[float]


class Served:
  """A server in a process of its own; `kill` ends it as a power cut would."""

  def __init__(self, command: Sequence[str], folder: pathlib.Path, *words: str, port: int = 0):
    self._given = [*command, f'--study={folder}', *words]
    self.port = port
    self.start()

  def start(self) -> None:
    """Starts it, and waits until it listens.

    Raises:
      ValueError: if it ends instead.
    """
    self._process = subprocess.Popen(
      [*self._given, f'--port={self.port}'], stdout=subprocess.PIPE, text=True
    )
    assert self._process.stdout is not None
    lines = []
    for line in self._process.stdout:
      lines.append(line)
      if found := re.match(r'http://[^ ]+:(\d+) ', line):
        self.port = int(found[1])
        return
    self.kill()
    raise ValueError(f'the server ended: {"".join(lines)[-500:]}')

  @property
  def address(self) -> str:
    """Where it listens."""
    return f'http://127.0.0.1:{self.port}'

  def close(self) -> None:
    """Asks it to end, and waits."""
    self.kill(signal.SIGTERM)

  def kill(self, sent: int = signal.SIGKILL) -> None:
    """Ends it."""
    self._process.send_signal(sent)
    self._process.wait()
    assert self._process.stdout is not None
    self._process.stdout.close()


class Person:
  """A simulated participant, who sends again what was not acknowledged, with the same key.

  Args:
    address: of the server.
    seed: of the answers.
    sent: where to note what was acknowledged.
    think: mean seconds until an answer.
  """

  def __init__(self, address: str, seed: int, sent: Sent, think: float):
    self._rng, self._sent, self._think = np.random.default_rng(seed), sent, think
    self._client = httpx2.Client(base_url=address, timeout=30)
    self._deadline = time.monotonic() + PATIENCE

  def run(self, most: int = 1000) -> None:
    """Takes part from the first page on, for at most some answers."""
    self.path = self._insist(lambda: self._client.post('/begin')).headers['location']
    self._sent.keys[self.path] = []
    page = self._page()
    for _ in range(most):
      if 'name="question"' not in page:
        break
      time.sleep(self._rng.exponential(self._think) if self._think else 0)
      page = self._answered(page)
    self._client.close()

  def _answered(self, page: str) -> str:
    fields = dict(re.findall(r'name="(question|key)" value="([^"]+)"', page))
    fields['answer'] = str(self._rng.choice(ANSWERS, p=SHARES))
    begun = time.perf_counter()
    found = self._insist(lambda: self._client.post(f'{self.path}/answer', data=fields))
    self._sent.answers.append(time.perf_counter() - begun)
    if found.status_code == 303:
      self._sent.keys[self.path].append(fields['key'])
    begun = time.perf_counter()
    page = self._page()
    self._sent.pages.append(time.perf_counter() - begun)
    return page

  def _page(self) -> str:
    return self._insist(lambda: self._client.get(self.path)).text

  def _insist(self, call: Callable[[], httpx2.Response]) -> httpx2.Response:
    self._deadline = time.monotonic() + PATIENCE
    while True:
      try:
        found = call()
        if found.status_code < 500:
          return found
      except httpx2.TransportError:
        if time.monotonic() > self._deadline:
          raise
      time.sleep(self._rng.uniform(0.2, 0.6))  # a crowd that knocks leaves no time to start


def take_part(
  address: str,
  num_people: int,
  *,
  think: float,
  most: int,
  meanwhile: Callable[[Sent], None] = lambda sent: None,
) -> Sent:
  """Lets people take part at once, and returns what they know.

  Args:
    address: of the server.
    num_people: threads.
    think: mean seconds until an answer.
    most: answers of each.
    meanwhile: what else is done, with what they know so far.
  """
  sent = Sent({}, [], [])
  people = [
    threading.Thread(target=Person(address, seed, sent, think).run, args=(most,), daemon=True)
    for seed in range(num_people)
  ]
  for person in people:
    person.start()
  meanwhile(sent)
  for person in people:
    person.join()
  return sent


def kill_while_answered(
  server: Served, count: int, num_answers: int, seed: int = 0
) -> Callable[[Sent], None]:
  """Makes what kills and starts a server some times, spread at random over the answers to come.

  Args:
    server: a started one.
    count: kills.
    num_answers: that will be given.
    seed: of when.
  """
  rng = np.random.default_rng(seed)

  def kill(sent: Sent) -> None:
    for after in np.sort(rng.uniform(0.05, 0.9, count)) * num_answers:
      while len(sent.answers) < after:
        time.sleep(0.01)
      time.sleep(rng.uniform(0, 0.1))
      server.kill()
      server.start()

  return kill


def lost_and_doubled(database: pathlib.Path, sent: Sent) -> tuple[int, int, int]:
  """Returns how many acknowledged answers there are, are lost, and questions answered twice."""
  with sqlite3.connect(database) as db:
    kept = [key for (key,) in db.execute('SELECT key FROM answers')]
    standing = 'SELECT question FROM answers WHERE undone IS NULL'
    questions = [question for (question,) in db.execute(standing)]
  db.close()
  doubled = len(questions) - len(set(questions)) + len(kept) - len(set(kept))
  known = [key for keys in sent.keys.values() for key in keys]
  return len(known), len(set(known) - set(kept)), doubled


def figures(command: Sequence[str], place: pathlib.Path, num_people: int) -> Iterator[str]:
  """Yields a line for each figure.

  Args:
    command: that serves a study.
    place: an empty folder.
    num_people: simulated, at once.
  """
  server = Served(command, place / 'fast', '--questions=10')
  think = 4.0
  sent = take_part(server.address, num_people, think=think, most=10)
  server.close()
  for name, seconds in (('an answer is kept', sent.answers), ('the next page', sent.pages)):
    middle, late = 1000 * np.percentile(seconds, [50, 95])
    yield (
      f'{name}: p50 {middle:.0f} ms, p95 {late:.0f} ms ({num_people} people at once who think for '
      f'{think:.0f} s, {len(seconds)} answers, adaptive questions)'
    )
  server = Served(command, place / 'killed', '--model=none', '--rule=random', '--questions=20')
  kill = kill_while_answered(server, KILLS, 20 * num_people)
  sent = take_part(server.address, num_people, think=0.2, most=20, meanwhile=kill)
  server.close()
  known, lost, doubled = lost_and_doubled(place / 'killed' / DATABASE, sent)
  yield f'{KILLS} SIGKILLs, {known} acknowledged answers: {lost} lost, {doubled} counted twice'
