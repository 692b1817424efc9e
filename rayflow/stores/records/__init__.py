"""Records (`messages.records`): their rules, and where they are kept, in the file or database of the shard."""
