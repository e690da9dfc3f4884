"""Encryption to an attested key, in the field's schemes.

A request is sealed to a key that an attestation has proven, with a fresh key pair for the answer.
What comes back is opened, and anything in it that should have been encrypted and is not is a
failure. That an answer can be opened says nothing about who made it: a signature does.

============  ==============================================================================
``boxes``     one text, sealed to one public key
``hpke``      RFC 9180, base mode, with export
``fields``    requests and answers whose texts are sealed one by one (NEAR, Phala, Venice)
``dialects``  each provider's headers, keys and additional data for ``fields``
``ehbp``      whole bodies in frames (Tinfoil)
``chutes``    whole bodies under ML-KEM (Chutes)
``methods``   all of them as one thing, by the name that a dialect gives
============  ==============================================================================
"""

from teeverify.e2ee.dialects import SCHEMES, seal_request
from teeverify.e2ee.fields import Envelope
from teeverify.e2ee.methods import METHODS, Method, Opener, Sealed

__all__ = ["METHODS", "SCHEMES", "Envelope", "Method", "Opener", "Sealed", "seal_request"]
