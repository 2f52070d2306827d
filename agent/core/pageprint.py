"""Pages of WAL that tell apart two servers which wrote on under one timeline number.

Theory of operation. A machine that is set back to an old image and writes past where it
was leaves no trace in numbers: same system, same timeline, same history, and a higher
position than its standbys. Only the bytes differ. So each agent keeps prints of whole
pages of its server's WAL and tells them; where two prints of one page differ, the two
servers hold other WAL (`kinship`).

Which pages. For each other server on the timeline the last page that is wholly at or
below what both have flushed, and those that peers tell prints of, so that two agents
come to have pages in common. Such a page is never written again by an honest server:
only the page at the end of WAL is. The reader takes a page only when its own header
and the next page's name this timeline and their positions, so one that is perhaps half
written, a recycled file, a segment that was begun on the parent's timeline and a page
that is gone are not there, which proves nothing.

What counts. A print that two readings one after the other gave alike. A server that
accepts writes is what its disk says now. A standby that streams from its twin has its
last segment overwritten from the start, and then holds its twin's bytes: the prints
taken before are the only witness. So a standby's prints stay, it begins at its own end,
takes new ones only past the highest that it has, and none at all once that one reads
otherwise. They are the prints of one data directory, and go with it: a clone, a
restored copy, an image that was put back and a rewind begin anew. They are kept with
the lineage, on disk.

How few. A standby keeps them the wider apart the older they are, so one from before
the servers parted is among them for long: the fork is put at the end of the last equal
page below the first that differs. That may be too early, which costs a longer report,
and never too late, because a standby never prints what may have been overwritten.
"""

from collections.abc import Container, Iterable, Sequence

from agent.core.frozen import replace
from agent.core.lineage import Fork, Lineage, PagePrint
from agent.core.lsn import Lsn
from agent.core.memo import remembered
from agent.core.observation import ServerFacts
from agent.core.policy import Policy
from agent.core.prints import undone_from
from agent.core.standing import local_facts, local_writable
from agent.core.state import State

PAGE_BYTES = 8192
"""The WAL page size of every packaged PostgreSQL."""
KEPT_MAX = 8
"""Pages that a standby keeps, at distances that grow like the powers of 8."""
READ_MAX = 16
"""Pages that are read in one round, at most: 128 KiB."""
_WIDER = 3
"""Each further one may be 2 to the power of this times as far from the highest."""


def wanted(state: State, policy: Policy) -> tuple[Lsn, ...]:
    """Return where the pages begin that the reader should print now.

    All are of the timeline that the server beside this agent is on.
    """
    facts = local_facts(state)
    if facts is None or not facts.running:
        return ()
    timeline = facts.lineage.timeline
    end = _own_end(state, timeline, policy)
    if end is None:
        return ()
    others = [
        place.lsn
        for node, place in state.view.positions.items()
        if node != policy.me and place.timeline == timeline
    ]
    own: list[int] = [page.lsn for page in _kept(state, facts, policy)]
    first = [_last_below(min(end, other)) for other in others or [end]]
    once: list[int] = [page.lsn for page in state.view.pages]
    told: list[int] = sorted(_told(state, timeline, policy), reverse=True)
    if not local_writable(state, policy):
        # What lies below may have been overwritten since; the highest is looked at
        # again to find out.
        if not own:
            first, told = [_last_below(end)], []
        top = max(own, default=-1)
        first, once, told = (
            [one for one in some if one > top] for some in (first, once, told)
        )
    begins = _birth(facts.lineage)
    places = dict.fromkeys((*own[-1:], *first, *once, *told, *own))
    sound = [Lsn(lsn) for lsn in places if begins <= lsn and lsn + PAGE_BYTES <= end]
    return tuple(sorted(sound[:READ_MAX]))


def taken(
    state: State, facts: ServerFacts, policy: Policy
) -> tuple[State, ServerFacts]:
    """Return the facts with the pages that count in their lineage.

    And the state, the one before this reading, with the pages as they were read.
    """
    kept = _kept(state, facts, policy)
    now = {page.lsn: page for page in facts.pages}
    again = _is_same_directory(state, facts, policy)
    sure = [page for page in facts.pages if again and page in state.view.pages]
    if not facts.running:
        pages = kept
    elif local_writable(state, policy):
        told = _told(state, facts.lineage.timeline, policy)
        pages = _written(kept, sure, now, told)
    else:
        pages = _received(kept, sure, now)
    ordered = tuple(sorted(pages, key=lambda page: page.lsn))
    if facts.pages != state.view.pages:
        state = replace(state, view=replace(state.view, pages=facts.pages))
    if not ordered and not facts.pages:
        return state, facts
    lineage = replace(facts.lineage, pages=ordered)
    return state, replace(facts, pages=(), lineage=lineage)


def fork(ours: Lineage, theirs: Lineage) -> Fork | None:
    """Return a point that two lineages of one history share, if they then differ.

    None when no page is known of both, or all such pages are alike.
    """
    both = _both(ours, theirs)
    unlike = [one.lsn for one, that in both if one.digest != that.digest]
    if not unlike:
        return None
    first = min(unlike)
    alike = [
        Lsn(one.lsn + PAGE_BYTES)
        for one, that in both
        if one.digest == that.digest and one.lsn < first
    ]
    return Fork(ours.timeline, max(alike, default=_birth(ours)))


def current(
    state: State, node: str, answers: Container[str], facts: ServerFacts | None
) -> Lineage | None:
    """Return the last lineage that was read from a node's disk.

    Without pages where its server `answers` and nobody tells what is on its disk now:
    that may have been replaced since.
    """
    lineage = state.knowledge.lineages.get(node)
    if lineage is None or not lineage.pages or facts is not None:
        return lineage
    return _without_pages(lineage) if node in answers else lineage


@remembered
def _without_pages(lineage: Lineage) -> Lineage:
    return replace(lineage, pages=())


def parted_page(ours: Lineage, theirs: Lineage, fork: Fork) -> str | None:
    """Return where the first page begins that is known to differ; None without one.

    None also where they parted at a switch: what follows it differs anyhow.
    """
    if fork.timeline != ours.timeline:
        return None
    both = _both(ours, theirs)
    unlike = [one.lsn for one, that in both if one.digest != that.digest]
    return str(min(unlike)) if unlike else None


def _both(ours: Lineage, theirs: Lineage) -> list[tuple[PagePrint, PagePrint]]:
    """Return the pages of our timeline of which both tell a print."""
    other = {(page.timeline, page.lsn): page for page in theirs.pages}
    return [
        (page, that)
        for page in ours.pages
        if page.timeline == ours.timeline
        and (that := other.get((page.timeline, page.lsn))) is not None
    ]


def _own_end(state: State, timeline: int, policy: Policy) -> Lsn | None:
    """Return up to where the local server has WAL of this timeline on its disk."""
    held = state.view.received.get(policy.me)
    if held is not None:
        return held.lsn if held.timeline == timeline else None
    place = state.view.positions.get(policy.me)
    return place.lsn if place is not None and place.timeline == timeline else None


def _last_below(end: int) -> int:
    """Return where the last page begins that ends at or below this position."""
    return end // PAGE_BYTES * PAGE_BYTES - PAGE_BYTES


def _birth(lineage: Lineage) -> Lsn:
    """Return where the lineage's own timeline began."""
    return lineage.switches[-1].lsn if lineage.switches else Lsn(0)


def _told(state: State, timeline: int, policy: Policy) -> list[Lsn]:
    """Return the pages of this timeline that peers have told prints of."""
    return [
        page.lsn
        for node, lineage in state.knowledge.lineages.items()
        if node != policy.me and node in policy.order
        for page in lineage.pages
        if page.timeline == timeline
    ]


def _kept(state: State, facts: ServerFacts, policy: Policy) -> list[PagePrint]:
    """Return what was kept of this incarnation and timeline, by position."""
    before = state.knowledge.lineages.get(policy.me)
    if before is None or not _is_same_directory(state, facts, policy):
        return []
    birth = _birth(facts.lineage)
    return [
        page
        for page in before.pages
        if page.timeline == facts.lineage.timeline and page.lsn >= birth
    ]


def _is_same_directory(state: State, facts: ServerFacts, policy: Policy) -> bool:
    """Whether nothing was put in the place of the files that were read before.

    Any other label counts, not only one that undid something: pages begin anew at
    little cost.
    """
    before, now = state.knowledge.printed.get(policy.me), facts.marks
    if before is None or now is None or before.system_id != facts.lineage.system_id:
        return False
    same = before.marks.labels == now.labels
    return same and undone_from(before.marks, now) is None


def _written(
    kept: Sequence[PagePrint],
    sure: Iterable[PagePrint],
    now: dict[Lsn, PagePrint],
    told: Iterable[Lsn],
) -> list[PagePrint]:
    """Return the pages of a server that accepts writes: the disk is the truth.

    A page that is gone since stays as long as a peer tells of it too.
    """
    still = {page.lsn: page for page in kept if now.get(page.lsn, page) == page}
    still.update({page.lsn: page for page in sure})
    both = {*told}
    ranked = sorted(still.values(), key=lambda page: (page.lsn in both, page.lsn))
    return ranked[-READ_MAX:]


def _received(
    kept: Sequence[PagePrint], sure: Iterable[PagePrint], now: dict[Lsn, PagePrint]
) -> list[PagePrint]:
    """Return the pages of a standby: what was seen first stays (see the theory)."""
    if any(now.get(page.lsn, page) != page for page in kept):
        return list(kept)
    top = kept[-1].lsn if kept else -1
    return _thinned([*kept, *(page for page in sure if page.lsn > top)])


def _thinned(pages: list[PagePrint]) -> list[PagePrint]:
    """Return a few of these, the wider apart the further they are from the highest."""
    top = max((page.lsn for page in pages), default=Lsn(0))
    found: dict[int, PagePrint] = {}
    for page in sorted(pages, key=lambda one: one.lsn, reverse=True):
        away = (top - page.lsn) // PAGE_BYTES
        found[-(-away.bit_length() // _WIDER)] = page  # the lowest of each stays
    return [found[step] for step in sorted(found)][:KEPT_MAX]
