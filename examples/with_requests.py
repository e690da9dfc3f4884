"""``requests``, verified.

Usage: with_requests.py URL MODEL [ROOTS.pem]   (the roots are for simulated endpoints only)
"""

from __future__ import annotations

import sys

import requests

from teeverify import RequestsAdapter, TeeVerifyError, UnsafeTestRoots

url, model, *rest = sys.argv[1:]
adapter = RequestsAdapter(url, roots=UnsafeTestRoots.load(rest[0]) if rest else None)
ask = {"model": model, "messages": [{"role": "user", "content": "Say something."}]}
with requests.Session() as session:
    for scheme in ("https://", "http://"):  # so that no other host is asked past it
        session.mount(scheme, adapter)
    try:
        answer = session.post(f"{url}/chat/completions", json=ask, timeout=60)
        answer.raise_for_status()
        print(answer.json()["choices"][0]["message"]["content"])
        print(adapter.receipts[answer.json()["id"]].result.summary)
    except TeeVerifyError as error:
        print(f"not verified: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
