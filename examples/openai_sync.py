"""The OpenAI SDK, verified: plain, streamed, and held back until verified.

Usage: openai_sync.py URL MODEL [ROOTS.pem]   (the roots are for simulated endpoints only)
"""

from __future__ import annotations

import sys

from teeverify import OpenAI, TeeVerifyError, UnsafeTestRoots

url, model, *rest = sys.argv[1:]
roots = UnsafeTestRoots.load(rest[0]) if rest else None
ask = {"model": model, "messages": [{"role": "user", "content": "Say something."}]}

try:
    with OpenAI(base_url=url, api_key="unused", roots=roots) as client:
        reply = client.chat.completions.create(**ask)
        print("plain:", client.receipts[reply.id].result.summary)

        # The text flows as it comes; the loop raises at its end if the answer was not good.
        for chunk in client.chat.completions.create(**ask, stream=True):
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        print("\nstreamed:", client.receipts.last.id)

    # Nothing of the answer is handed over before all of it is verified.
    with OpenAI(base_url=url, api_key="unused", roots=roots, hold_until_verified=True) as client:
        for _ in client.chat.completions.create(**ask, stream=True):
            pass
        print("held back:", client.receipts.last.id)
except TeeVerifyError as error:
    print(f"not verified: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
