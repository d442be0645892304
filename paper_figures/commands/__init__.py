"""The commands: options, and words for people. One file for each command; nothing outside this folder names an option."""
