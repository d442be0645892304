"""What a command does: a question in, data out. Nothing here prints, draws or names an option."""
