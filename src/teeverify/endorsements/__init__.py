"""Where endorsements come from: recorded HTTP exchanges (fetching follows)."""

from teeverify.endorsements.exchanges import Exchange, read_exchanges

__all__ = ["Exchange", "read_exchanges"]
