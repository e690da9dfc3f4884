"""A fake of dstack's guest agent: HTTP on a unix socket, with a simulated machine behind it."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class Agent:
    """Answers as the agent does (its RPC's JSON form).

    Attributes:
        changes: Members of an answer to change, by method; a member ``...`` is left out.
        raw: Whole answers instead, by method: status and bytes.
        asked: The questions.
    """

    def __init__(self, path, tee):
        self.path = path
        self.tee = tee
        self.changes = {}
        self.raw = {}
        self.asked = []
        agent = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def address_string(self):
                return "unix"

            def log_message(self, *_arguments):
                pass

            def do_POST(self):
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, body = agent.answer(self.path.removeprefix("/"), question)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = _UnixServer(str(path), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method, question):
        self.asked.append((method, question))
        if method in self.raw:
            return self.raw[method]
        methods = {"GetQuote": self._quote, "Info": self._info}
        if method not in methods:
            return 404, b'{"error": "Method not found"}'
        answer = methods[method](question) | self.changes.get(method, {})
        return 200, json.dumps({k: v for k, v in answer.items() if v is not ...}).encode()

    def _quote(self, question):
        data = bytes.fromhex(question["report_data"]).ljust(64, b"\0")
        quote = self.tee.quote(data)
        return {
            "quote": quote.quote.hex(),
            "event_log": json.dumps(quote.event_log),
            "report_data": data.hex(),
            "vm_config": quote.vm_config,
        }

    def _info(self, _question):
        info = self.tee.quote(bytes(64)).info
        return {**info, "tcb_info": json.dumps(info["tcb_info"]), "vm_config": '{"from": "info"}'}
