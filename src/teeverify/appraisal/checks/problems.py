"""Errors that are not the failure of a check: by id, what they mean, and what to do.

``teeverify explain`` and the docs read this, as they read the catalogue of checks; so every error
that this library raises has a page.
"""

from __future__ import annotations

from collections.abc import Mapping

from teeverify.encoding.checks import Problem

__all__ = ["PROBLEMS"]

_ENDPOINT = {
    "endpoint.unreachable": (
        "The endpoint could not be reached, or closed the connection.",
        "Check the address and the network, and try again; nothing was sent to it unverified.",
    ),
    "endpoint.timeout": (
        "The endpoint did not answer in time.",
        "Try again, or allow more seconds with timeout.",
    ),
    "endpoint.redirect": (
        "The endpoint sends clients elsewhere, and redirects are not followed.",
        "Give the address at which the endpoint itself answers.",
    ),
    "endpoint.encoding": (
        "The endpoint compressed what was asked for uncompressed.",
        "Something between you and the enclave changes answers; go around it.",
    ),
    "endpoint.size": (
        "The endpoint sent more than a report or a signature can be.",
        "Check that the address is an endpoint's; nothing of it was read further.",
    ),
    "endpoint.devices": (
        "The server cannot collect evidence of its devices.",
        "Look at the server's log; a missing GPU is never left out of a report.",
    ),
    "endpoint.engine": (
        "The engine behind the server gave no answer.",
        "Look at the engine; the server signs nothing that it did not see to its end.",
    ),
    "endpoint.memory": (
        "What is remembered of endpoints cannot be read or written.",
        "Check the cache's folder; 'teeverify doctor' names it.",
    ),
    "endpoint.remote-engine": (
        "The server says itself that its answers come from a machine that its evidence leaves out.",
        "Use a server whose engine runs inside the attested machine.",
    ),
    "endpoint.report": (
        "The endpoint gave no report of its machine.",
        "Check the address, the dialect, and that the endpoint is a confidential one.",
    ),
}
_ANSWER = {
    "answer.encoding": (
        "The answer came compressed, so the bytes that were signed are not to be had.",
        "Send 'Accept-Encoding: identity', and go around whatever compresses answers.",
    ),
    "answer.size": (
        "The answer is larger than what is held for verification.",
        "Ask for a shorter answer.",
    ),
    "ear": (
        "The file is no attestation result (EAR) of this key.",
        "Give the issuer's own public key; what it states is its issuer's word anyway.",
    ),
    "ethereum.typed-data": (
        "A value does not fit the fields of the typed data (EIP-712) that is signed.",
        "Give each field a value of its type and size.",
    ),
    "receipt": (
        "The file is no whole receipt of a version that is read here.",
        "Ask its maker for the file as it was saved; a receipt cannot be repaired.",
    ),
}
_ENCRYPTION = {
    "e2ee.key": (
        "A key for encryption to the enclave is none, or of another length.",
        "Encrypt to a key that verified evidence binds, and to no other.",
    ),
    "e2ee.open": (
        "An encrypted answer does not open with the session's key: it was changed or is another's.",
        "Do not use this answer; ask again.",
    ),
    "e2ee.plaintext": (
        "The answer came unencrypted although it had to be encrypted.",
        "Do not use this answer: something between you and the enclave could read it.",
    ),
}
_KEPT = {
    "release": (
        "A release's bundle is none, or was not signed by exactly the workflow that you named.",
        "Compare repository, workflow file and tag with the release; do not loosen them.",
    ),
    "endorsements.bundle": (
        "The file is no bundle of endorsements as 'teeverify endorsements export' writes it.",
        "Export it again; each answer in it is verified when it is used, wherever it comes from.",
    ),
    "endorsements.store": (
        "The cache of endorsements cannot be read or written.",
        "Check the folder's owner and rights, or name another with --cache.",
    ),
}
_SERVER = {
    "server.answer": (
        "The engine's answer has a form that the server does not sign.",
        "Look at the engine, and at the route that was asked.",
    ),
    "server.store": (
        "The store of signatures cannot be reached.",
        "Look at the store; no answer leaves whole before its signature is kept.",
    ),
    "server.nonce": (
        "A client asked the server for evidence without 64 hex digits of nonce.",
        "Send a new random nonce with each question.",
    ),
    "server.request": (
        "A client's request has a form that the server does not take.",
        "Send what OpenAI's chat completions take.",
    ),
}
_USAGE = {
    "usage.arguments": (
        "Arguments contradict each other, or one is of another kind.",
        "See the help of the command, or the docstring of the function.",
    ),
    "usage.bench": (
        "The benchmark cannot run in this way.",
        "See 'teeverify bench --help'.",
    ),
    "usage.capture": (
        "The recording cannot be written, or is of another endpoint.",
        "Name a folder that does not exist yet.",
    ),
    "usage.devices": (
        "The server's devices cannot be used in this way.",
        "See 'teeverify serve --help'.",
    ),
    "usage.e2ee": (
        "Encryption to the enclave cannot be used in this way, or its package is not installed.",
        "Run: pip install 'teeverify[e2ee]'.",
    ),
    "usage.nras": (
        "NVIDIA's service cannot be used in this way.",
        "Name https://HOST of the service, or leave it out.",
    ),
    "usage.ca-file": (
        "The file of certificate authorities cannot be read.",
        "Give a PEM file with certificates.",
    ),
    "usage.cache": (
        "The folder for kept endorsements cannot be used.",
        "Name a folder that only you can write.",
    ),
    "usage.dialect": (
        "There is no such dialect.",
        "See 'teeverify providers'.",
    ),
    "usage.ear": (
        "The key for attestation results (EAR) cannot be used.",
        "Give a key on P-256 or P-384 in PEM, without a password.",
    ),
    "usage.endorsements": (
        "What was given as endorsements is none, or cannot be read.",
        "Give files or directories with what Intel, AMD or NVIDIA signed.",
    ),
    "usage.beacon": (
        "The beacon that a request names is no beacon, or shows in no answer of this dialect.",
        "Give 64 hex digits, to an endpoint that speaks teeverify/1.",
    ),
    "usage.endpoint": (
        "The address is no endpoint's, or of another endpoint than the attested one.",
        "Give https://HOST/v1; plain http only for this machine.",
    ),
    "usage.evidence": (
        "A function got another kind of evidence than it takes.",
        "See its docstring.",
    ),
    "usage.explain": (
        "There is no claim, check, error or fault of this name.",
        "Copy the id from a verdict or an error; it stands in square brackets.",
    ),
    "usage.extra": (
        "A package that this needs is not installed.",
        "Install the extra that the message names.",
    ),
    "usage.fetch": (
        "A transport of your own gave no answer.",
        "Let it return the answer, or raise one of teeverify's errors.",
    ),
    "usage.html": (
        "The report cannot be written, or is none with an embedded receipt or result.",
        "Give the path of a file that can be written, or the report as it was saved.",
    ),
    "usage.http-client": (
        "The HTTP client cannot be used under a verifying transport.",
        "Pass a client of httpx2 or httpx, without hooks that change answers.",
    ),
    "usage.layout": (
        "There is no report_data layout of this name.",
        "A layout follows from the dialect; it is not chosen by hand.",
    ),
    "usage.measure": (
        "A measurement cannot be computed from what was given.",
        "See 'teeverify measure --help'.",
    ),
    "usage.nonce": (
        "The nonce is not 32 bytes.",
        "Give 64 hex digits, or 32 bytes.",
    ),
    "usage.offline": (
        "An offline verifier was asked to open a connection.",
        "Use another verifier for live endpoints.",
    ),
    "usage.openai": (
        "The OpenAI client cannot be used in this way, or its package is not installed.",
        "Run: pip install 'teeverify[openai]'.",
    ),
    "usage.output": (
        "The output cannot be written.",
        "Give the path of a file that can be written.",
    ),
    "usage.policy": (
        "The policy is none, or has something in it that is not understood.",
        "Run 'teeverify policy check FILE'; an unknown key could be a check left out.",
    ),
    "usage.receipt": (
        "The receipt cannot be saved, found or read in this way.",
        "See the page on receipts.",
    ),
    "usage.records": (
        "There is nothing to verify among the receipts, or a file of them cannot be read.",
        "Give a directory of receipts, or a .jsonl or .parquet file with one a row.",
    ),
    "usage.request": (
        "The bytes of the request are not known.",
        "Pass request=, the exact bytes that were sent.",
    ),
    "usage.response": (
        "What was given is neither bytes nor an HTTP answer that was read to its end.",
        "Pass the answer's bytes, or the whole answer of httpx2, httpx or requests.",
    ),
    "usage.result": (
        "A result was used as if it were a yes or a no, or asked for what it does not have.",
        "Call result.require(), or read result.satisfied and result.tier.",
    ),
    "usage.roots": (
        "The roots are none, or cannot be read.",
        "Leave them out: the vendors' roots ship with teeverify. Test roots are for tests.",
    ),
    "usage.route": (
        "Answers of this route carry no signature in this dialect, so nothing was sent.",
        "Use another client for it, knowing that nothing is verified there.",
    ),
    "usage.scope": (
        "There is no such scope.",
        "Use answer, endpoint or evidence.",
    ),
    "usage.sealed": (
        "A verified type was built, copied or unpickled outside the step that verifies.",
        "Keep the raw evidence, and verify it where it is needed.",
    ),
    "usage.serve": (
        "The server cannot run in this way.",
        "See 'teeverify serve --help'.",
    ),
    "usage.session": (
        "The session was not attested yet.",
        "Call attest(), or send a request first.",
    ),
    "usage.snp": (
        "A function of teeverify.snp got another kind of argument than it takes.",
        "See its docstring.",
    ),
    "usage.source": (
        "The source is not there, or cannot be read in this way.",
        "Give a file, a directory, bytes, or the address of an endpoint.",
    ),
    "usage.store": (
        "The file that keeps signatures cannot be used.",
        "Name a file that the server can write.",
    ),
    "usage.tdx": (
        "A function of teeverify.tdx got another kind of argument than it takes.",
        "See its docstring.",
    ),
    "usage.time": (
        "The time is none, or has no zone.",
        "Give ISO 8601 with a zone, for example 2026-06-29T14:37:19Z.",
    ),
    "usage.timeout": (
        "The time-out is no positive number of seconds.",
        "Give seconds.",
    ),
    "usage.timestamp": (
        "The timestamp cannot be added, or its authority's roots cannot be read.",
        "Give an answer of an RFC 3161 authority about this receipt, and a PEM file of roots.",
    ),
}

PROBLEMS: Mapping[str, Problem] = {
    name: Problem(id=name, means=means, fix=fix)
    for group in (_ANSWER, _ENDPOINT, _ENCRYPTION, _KEPT, _SERVER, _USAGE)
    for name, (means, fix) in group.items()
}
