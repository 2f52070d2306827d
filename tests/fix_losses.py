"""Loss reports for tests: a shop's tables, a manager's things, and stories read in."""

from collections.abc import Iterable
from dataclasses import replace

from agent.core.lsn import Lsn
from agent.divergence.headline_of_loss import headline
from agent.divergence.managers_words import WAY_BACK
from agent.divergence.model import DifferenceKind as Kind
from agent.divergence.report import (
    Cell,
    Contrast,
    Counts,
    Delivered,
    Entity,
    EntityCount,
    Gap,
    ManagersLoss,
    Named,
    Released,
    Report,
    Sample,
    Side,
    TableLoss,
    Waiting,
    Winner,
    Wrote,
)
from agent.divergence.story import Story
from agent.divergence.transfer import StoryReader

NIGHT_S = 1_795_452_781.25
"""2026-11-23 16:53:01 UTC and a bit."""
SNAPSHOT = "20261123T165500Z-n1-4f1a"
LOSER = Side(470, 31, 439, 31, NIGHT_S, NIGHT_S + 69)


def read_story_lines(lines: Iterable[bytes]) -> Story:
    """Return the story that these lines tell. Raises DivergenceError."""
    reader = StoryReader()
    for line in lines:
        reader.take(line)
    return reader.story()


def shop_tables() -> tuple[TableLoss, ...]:
    """Three tables in which something differs, and one that is alike."""
    orders = TableLoss(
        database="shop",
        schema="public",
        table="orders",
        counts=Counts(lost=400, changed=5, conflicts=4, collisions=10, equal=3),
        wrote=Wrote(413, 9, 0),
        key=("id",),
        redacted=("card_token",),
        samples=(
            Sample(
                Kind.LOST,
                (Cell("id", "20117"),),
                row=(Cell("customer", "Æther <co>"), Cell("status", "paid")),
            ),
            Sample(
                Kind.CONFLICT,
                (Cell("id", "19002"),),
                (
                    Contrast("status", "paid", "cancelled"),
                    Contrast("card_token", "sha256:3f9a1c22d0be…", None),
                ),
            ),
            Sample(
                Kind.COLLISION,
                (Cell("id", "20101"),),
                (Contrast("customer", "Æsop & Sons <ltd>", "Bolt"),),
                "the winner's row under the same customer has id 20113",
            ),
        ),
    )
    lines = TableLoss(
        "shop", "public", "order_lines_2026_11", Counts(lost=11), Wrote(11, 0, 0),
        root="public.order_lines", key=("order_id", "line"),
        samples=(Sample(Kind.LOST, (Cell("order_id", "20117"), Cell("line", "1"))),),
    )  # fmt: skip
    notes = TableLoss(
        "shop", "audit", "Notes of the day", Counts(lost=1, deleted=2, unknown=1),
        Wrote(1, 0, 3), whole=True, note="its file was made anew past the fork",
        samples=(
            Sample(Kind.LOST, (Cell("at", "2026-11-23 16:53:09+00"), Cell("n", None))),
        ),
    )  # fmt: skip
    alike = TableLoss("shop", "public", "rates", Counts(equal=7), Wrote(0, 7, 0))
    return orders, lines, notes, alike


def shop_report(**changes: object) -> Report:
    """A report with everything in it."""
    made = Report(
        cluster="shop-prod",
        node="n1",
        snapshot_id=SNAPSHOT,
        incident_ids=("split-1f3c",),
        made_s=NIGHT_S + 200,
        fork_timeline=3,
        fork_lsn=Lsn.parse("0/5000148"),
        end_lsn=Lsn.parse("0/5A11C30"),
        loser=LOSER,
        winner=Winner("n2", Lsn.parse("0/61F2A80"), NIGHT_S + 190, Side(512, 4),
                      "host=10.0.0.2 port=5432 user=postgres"),
        tables=shop_tables(),
        headline="",
        objects=(
            Named("sequence", "public.orders_id_seq", "at 20150 on the losing side,"
                  " at 20133 on the winner", "shop"),
            Named("role", "night_shift", "created by the losing side"),
        ),
        gaps=(
            Gap("table public.sessions in database shop", "it is unlogged: the log does"
                " not tell what became of its rows"),
        ),
        waiting=(Waiting(2, NIGHT_S + 60, NIGHT_S + 69),),
        delivered=(
            Delivered("to_warehouse", "shop", "pgoutput", Lsn.parse("0/59F0000")),
        ),
        released=(
            Released("n1", "mira", "the shop must open", NIGHT_S + 120,
                     Lsn.parse("0/5A00000")),
        ),
    )  # fmt: skip
    made = replace(made, **changes)  # type: ignore[arg-type]  # any field of a report
    compared = made.winner is not None
    if not compared:
        bare = [replace(t, counts=Counts(), samples=()) for t in made.tables]
        made = replace(made, tables=tuple(bare), objects=(), managers=())
    words = headline(made.loser, made.tables, made.managers, compared=compared)
    return replace(made, headline=words)


def managers_loss() -> ManagersLoss:
    """What a manager lost, as its report has it."""
    return ManagersLoss(
        "cloudify_db",
        (
            EntityCount("deployment", lost=3, changed=1),
            EntityCount("plugin", lost=1),
            EntityCount("user", lost=2, collisions=1),
        ),
        (
            Entity("deployment", "default_tenant", "edge-vnf-17", Kind.LOST,
                   "2026-11-23 16:53:20.114", "mira", "active"),
            Entity("deployment", "default_tenant", "edge-vnf-18", Kind.LOST,
                   "2026-11-23 16:53:41.002", "mira", "active"),
            Entity("deployment", "lab", "probe", Kind.LOST, "2026-11-23 16:54:01"),
            Entity("deployment", "lab", "core", Kind.CHANGED, "2026-10-01 08:00:00"),
            Entity("plugin", "default_tenant", "0f6d1c34-77aa", Kind.LOST,
                   "2026-11-23 16:53:11", "", "cloudify-openstack-plugin 3.3.8"),
            Entity("user", "", "night", Kind.LOST, "2026-11-23 16:53:02", "admin"),
            Entity("user", "", "guest", Kind.LOST, "2026-11-23 16:53:05", "admin"),
            Entity("user", "", "ops", Kind.COLLISION, "2026-11-23 16:53:09"),
        ),
        audited=True,
        note=WAY_BACK,
    )  # fmt: skip


def managers_report(**changes: object) -> Report:
    """A manager's report: rows are there too, things come first."""
    rows = TableLoss(
        "cloudify_db", "public", "deployments", Counts(lost=3, changed=1),
        Wrote(3, 1, 0), key=("_storage_id",),
    )  # fmt: skip
    more = {"tables": (rows,), "managers": (managers_loss(),), "objects": (), **changes}
    return shop_report(**more)
