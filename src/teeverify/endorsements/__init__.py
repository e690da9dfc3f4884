"""Where endorsements come from: recorded HTTP exchanges and plain files."""

from teeverify.endorsements.exchanges import (
    Exchange,
    is_directory,
    list_files,
    read_exchanges,
    read_file,
)

__all__ = ["Exchange", "is_directory", "list_files", "read_exchanges", "read_file"]
