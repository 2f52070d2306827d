"""What the losing side of a split brain wrote: found, kept, told, and given back.

Theory of operation. The server's own WAL reader prints the records past the fork;
`records` and `story` make of them where each row that was at the fork is now, which
rows are new and which are gone, of committed transactions only. `catalog` tells which
table a file belongs to, `values` and `extraction` read the rows out of an opened copy
and keep them. `compare` sets them against the winner, read in one snapshot, and
`report` says what came out; `rescue` puts it back, on a person's word only.
"""
