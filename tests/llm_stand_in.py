"""A server on loopback that speaks as much of OpenAI's API as the client needs, and misbehaves as
it is told: the tests of the client put it through every failure."""

import json, threading, time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(text, finish="stop"):
    "A chat completion as the API gives it."
    message = {"role": "assistant", "content": text}
    return {
        "id": "1", "object": "chat.completion", "created": 1, "model": "stand-in",
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_): ...

    def reply(self, status, body, headers=(), cut=0):
        "Send a body; with `cut`, so many of its bytes never come and the connection ends."
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw[: len(raw) - cut])
        if cut:
            self.close_connection = True

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        owner = self.server.owner
        with owner.lock:
            owner.asked.append(asked)
            owner.keys.append(self.headers.get("Authorization"))
            owner.now += 1
            owner.most = max(owner.most, owner.now)
            what = owner.script.pop(0) if owner.script else "ok"
        try:
            self.behave(what)
        finally:
            with owner.lock:
                owner.now -= 1

    def behave(self, what):
        error = {"error": {"message": "as I was told", "type": "test", "code": None}}
        if what == "ok":
            self.reply(200, completion("A fine film."))
        elif what == "wait a little":
            time.sleep(0.2)
            self.reply(200, completion("A fine film."))
        elif what == "silent":
            self.server.owner.over.wait(60)
            self.close_connection = True
        elif what == "gone":
            self.close_connection = True  # not a byte
        elif what == "torn":
            self.reply(200, completion("A fine film."), cut=20)
        elif what == "unfinished":
            self.reply(200, completion("A fine fi", finish=None))
        elif what == "filtered":
            self.reply(200, completion("", finish="content_filter"))
        elif what == "empty":
            self.reply(200, completion("  "))
        elif what == "no choices":
            self.reply(200, completion("") | {"choices": []})
        elif what == "no JSON":
            self.reply(200, b"<html>gateway</html>")
        elif what.startswith("says "):
            self.reply(200, completion(what.removeprefix("says ")))
        else:
            status, _, more = what.partition(" ")
            if status == "401":  # some servers quote the key that they refuse
                error["error"]["message"] = f"no such {more}"
            self.reply(int(status), error, [("retry-after", more)] if more else [])


class StandIn:
    "What the server was told, and what it has seen."

    def __init__(self, script):
        self.script, self.asked, self.keys = list(script), [], []
        self.now = self.most = 0
        self.lock, self.over = threading.Lock(), threading.Event()


@contextmanager
def stand_in(*script):
    "A server that does as each word of the script says, one a request, then answers well."
    owner = StandIn(script)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.owner = owner
    owner.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield owner
    finally:
        owner.over.set()
        server.shutdown()
        server.server_close()
