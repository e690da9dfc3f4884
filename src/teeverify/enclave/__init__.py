"""[server] The reference enclave server: attests its keys, answers, and signs what it answered.

It hashes the exact bytes that come in and go out, as they pass, and it has stored the signature
before the last byte of an answer leaves. What gathers evidence is handed in
(:class:`~teeverify.enclave.attestation.Tee`): nothing here simulates anything.
"""
