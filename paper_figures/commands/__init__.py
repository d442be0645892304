"""The commands, one file each: options, and words for people. Nothing outside this folder names an option."""
