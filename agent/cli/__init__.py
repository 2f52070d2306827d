"""The command `splitguard`: one file per group of commands.

`main` is the door: it maps every end of a command to an exit code and no error to a
traceback. `call` holds what commands share (where the agent is, how to print), `client`
talks to it, `console` prints. Data goes to stdout, words to stderr. A command imports
its machinery when it is called, so that `--help` and `check` start fast.
"""
