"""A command of a second: does what --config.act says, and writes down that it was started."""

import pathlib
import signal
import sys
import time

given = dict(word.lstrip('-').split('=', 1) for word in sys.argv[1:] if '=' in word)
workdir = pathlib.Path(given['workdir'])
workdir.mkdir(parents=True, exist_ok=True)
with (workdir / 'starts').open('a') as file:
  file.write('started\n')
starts = len((workdir / 'starts').read_text().splitlines())


def stop(number, frame):
  (workdir / 'saved').touch()
  sys.exit(128 + number)


signal.signal(signal.SIGTERM, stop)
act = given.get('config.act', 'end')
print(f'act {act}, start {starts}', flush=True)
if act == 'fail' or (act == 'fail_once' and starts == 1):
  sys.exit('it went wrong')
if act == 'refuse':
  print('error: a mistake in the input')
  sys.exit(2)
if act == 'stubborn':
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
end = time.monotonic() + 120  # a test that fails leaves nothing behind for longer
while act in ('wait', 'stubborn') and not (workdir / 'saved').exists():
  time.sleep(0.02)
  if time.monotonic() > end:
    sys.exit('nobody stopped it')
(workdir / 'results.csv').write_text('done\n')
