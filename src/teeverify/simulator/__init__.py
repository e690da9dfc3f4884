"""Software vendors and an evidence forge, for tests and demonstrations. Proves nothing.

Every key is random and made anew in each run, and every root says ``O=teeverify simulator``: what
is forged here verifies only for a caller who hands over those very roots with
:class:`~teeverify.roots.UnsafeTestRoots`. Nothing in the verifier imports this package.
"""
