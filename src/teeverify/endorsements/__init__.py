"""Where endorsements come from: fetched answers, recorded HTTP exchanges, and plain files."""

from teeverify.endorsements.answers import Answer, read_bundle, write_bundle
from teeverify.endorsements.exchanges import (
    Exchange,
    is_directory,
    list_files,
    read_exchanges,
    read_file,
)

__all__ = [
    "Answer",
    "Exchange",
    "is_directory",
    "list_files",
    "read_bundle",
    "read_exchanges",
    "read_file",
    "write_bundle",
]
