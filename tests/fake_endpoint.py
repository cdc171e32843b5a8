"""A chat endpoint on this machine that answers as its test wants."""

import http.server
import json
import socket
import threading
import time

from metapers.io import chat

KEY = 'sk-a-key-that-nobody-may-see'
MESSAGES = [{'role': 'user', 'content': 'hello'}]
DROP = 'drop the connection'
CUT = {'Content-Length': '1000'}  # more than is sent


def answer(text, **fields):
  choice = {'message': {'role': 'assistant', 'content': text}, 'finish_reason': 'stop'}
  return {'choices': [choice], 'model': 'served', 'usage': {'total_tokens': 3}, **fields}


class Endpoint:
  """Answers request number n as `behave(n, body)` says: (status, headers, content) or DROP."""

  def __init__(self, behave):
    self.behave, self.times, self.bodies, self.headers = behave, [], [], []
    self.open = self.most_open = 0
    self.lock = threading.Lock()
    endpoint = self

    class Handler(http.server.BaseHTTPRequestHandler):
      def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        reply = endpoint.reply(body, self.headers)
        if reply == DROP:
          self.connection.shutdown(socket.SHUT_RDWR)
          return
        status, headers, content = reply
        made = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {'Content-Length': str(len(made)), **headers}.items():
          self.send_header(name, value)
        self.end_headers()
        self.wfile.write(made)

      do_GET = do_POST

      def log_message(self, *_):
        pass

    class Server(http.server.ThreadingHTTPServer):
      def handle_error(self, *_):  # whoever asked has left
        pass

    self.server = Server(('127.0.0.1', 0), Handler)
    self.url = f'http://127.0.0.1:{self.server.server_port}/v1'
    threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

  def close(self):
    self.server.shutdown()
    self.server.server_close()

  def reply(self, body, headers):
    with self.lock:
      number = len(self.times)
      self.times.append(time.monotonic())
      self.bodies.append(body)
      self.headers.append(headers)  # of any case
      self.open += 1
      self.most_open = max(self.most_open, self.open)
    try:
      return self.behave(number, body)
    finally:
      with self.lock:
        self.open -= 1


def client(endpoint, **options):
  return chat.Client(endpoint.url, **{'backoff': 0.01, **options})


def first(*replies):
  """Gives these replies in turn, then good ones."""
  return lambda n, body: replies[n] if n < len(replies) else (200, {}, answer('fine'))


def requests(count):
  return [chat.Request('m', [{'role': 'user', 'content': str(n)}], {}) for n in range(count)]


def texts(results):
  return [result.text for result in results if isinstance(result, chat.Completion)]


def number_of(body):
  return int(body['messages'][0]['content'])
