"""LangChain, verified: pip install langchain-openai.

Usage: with_langchain.py URL MODEL [ROOTS.pem]   (the roots are for simulated endpoints only)
"""

from __future__ import annotations

import sys

from langchain_openai import ChatOpenAI

from teeverify import TeeVerifyError, UnsafeTestRoots, http_clients

url, model, *rest = sys.argv[1:]
clients = http_clients(url, roots=UnsafeTestRoots.load(rest[0]) if rest else None)
chat = ChatOpenAI(base_url=url, api_key="unused", model=model, **clients)
try:
    print(chat.invoke("Say something.").content)
    print(clients["http_client"].receipts.last.result.summary)
except TeeVerifyError as error:
    print(f"not verified: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
finally:
    clients["http_client"].close()
