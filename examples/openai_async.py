"""The OpenAI SDK in an event loop, verified: several questions at once.

Usage: openai_async.py URL MODEL [ROOTS.pem]   (the roots are for simulated endpoints only)
"""

from __future__ import annotations

import asyncio
import sys

from teeverify import AsyncOpenAI, TeeVerifyError, UnsafeTestRoots


async def main(url: str, model: str, *rest: str) -> None:
    """Ask three questions at once, one of them streamed."""
    roots = UnsafeTestRoots.load(rest[0]) if rest else None
    async with AsyncOpenAI(base_url=url, api_key="unused", roots=roots) as client:

        async def ask(question: str, *, stream: bool) -> None:
            messages = [{"role": "user", "content": question}]
            answer = await client.chat.completions.create(
                model=model, messages=messages, stream=stream
            )
            if stream:
                async for _ in answer:
                    pass

        await asyncio.gather(*(ask(f"Question {n}.", stream=n == 1) for n in range(3)))
        print(f"{len(client.receipts)} answers, each verified and with its own receipt")


try:
    asyncio.run(main(*sys.argv[1:]))
except TeeVerifyError as error:
    print(f"not verified: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
