"""The commands: options, and words for people. One file a command; nothing outside this room names an option."""
