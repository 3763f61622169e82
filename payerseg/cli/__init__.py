"""The command line: click, thin; every command is a module that is imported when it is called."""
