"""Mechanism without meaning: signatures, hashes, certificate paths, revocation lists, tokens.

Nothing here knows a vendor, a policy, a clock or a socket. Every function takes the ``id`` of the
check that it serves, so that its error names that check.
"""
