"""The managers' guide's four recovery scenarios, and what runs them.

Theory of operation. A scenario is data: steps that say what a person types, do what
Splitguard can, or check that something is so (`model`, and one module for each). The
runbooks of deploy/runbooks are rendered from it (`markdown`), and one small `runner`
plays it: every step is shown before it is done, every thing that a person was told to
do is seen to be done before it goes on, and a journal lets it go on where it stopped.
What is so is gathered into one picture (`world`) and judged without I/O (`judging`);
`hands` does the rest.
"""
