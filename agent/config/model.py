"""The keys of the configuration, each with default, unit and consequence.

Theory of operation. pydantic models, frozen, which refuse any key that they do not
know and never turn one type into another (`"2s"` is no number of seconds). Every
description is written for the operator: the example file and the JSON schema are
made of them. A value that only the machine knows (which node is mine, where is the
server's socket) is None here and found by `loading` or at run time.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from agent.config import forms, likeness
from agent.config.kinds import (
    AbsolutePath,
    Command,
    Dsn,
    DsnPart,
    Flag,
    HostPort,
    Name,
    NodeName,
    Number,
    OffsiteUrl,
    Recipient,
    RemoteDsn,
    Table,
    Url,
    WebhookUrl,
    as_many,
)
from agent.config.loss import LossSettings
from agent.config.receivers import ChannelSettings, RouteSettings
from agent.config.vnfm import VnfmSettings
from agent.core.policy import Minimum, NodeSpec, Policy, WinnerRule
from agent.errors import ConfigError

MIB = 1 << 20


class NodeSettings(Table):
    """One machine of the cluster. The first agent in this order that answers tells."""

    name: NodeName
    """What verdicts, snapshots and commands call this machine."""
    agent: Url | None = None
    """Address of the agent there, for the other agents. Without it the node is seen
    only through its PostgreSQL and manager, and nothing on it is captured."""
    postgres: RemoteDsn | None = Field(default=None, repr=False)
    """libpq connection string to its PostgreSQL, for role splitguard_probe. Put the
    password into a passfile (passfile=…). Without it the node casts no vote."""
    manager: Url | None = None
    """Base address of the manager there, asked whether it is active."""
    upstreams: Annotated[tuple[HostPort, ...], BeforeValidator(as_many)] = ()
    """By which "host:port" texts standbys stream from this node (primary_conninfo), if
    they differ from host and port of postgres: a VIP, a proxy. By them a standby's
    replication testifies that this node lives."""
    local: Flag = True
    """Whether the agent stands on the machine of its PostgreSQL. With false no file is
    read: no tail, no copy, no end of WAL of a stopped server."""

    @property
    def streamed_from(self) -> tuple[str, ...]:
        """Return every `host:port` by which standbys name this node's server."""
        if self.postgres is None:
            return self.upstreams
        own = ":".join(forms.server_of(self.postgres))
        return tuple(dict.fromkeys((own, *self.upstreams)))


class WitnessSettings(Table):
    """An agent without a database: it votes, and breaks the tie of two nodes."""

    name: NodeName
    """What verdicts call it; unlike every node's name."""
    agent: Url
    """Address of the agent there."""


class TlsSettings(Table):
    """PEM files; without them the agents speak plain HTTP, on loopback only."""

    ca: AbsolutePath | None = None
    """Who signed the peers' and managers' certificates. Default: what this machine
    trusts."""
    cert: AbsolutePath | None = None
    """This agent's certificate with its chain."""
    key: AbsolutePath | None = None
    """Its private key, readable by the agent only."""


class AuthSettings(Table):
    """Who may ask over the network; the unix socket needs no token."""

    peer_token_file: AbsolutePath | None = None
    """File with the secret that all agents of the cluster share, one line."""
    tokens_file: AbsolutePath | None = None
    """File with one JSON object a line, {"name", "scope", "sha256"}, as `splitguard
    token create` appends them. Scopes: read, operate, data, peer."""


class LocalSettings(Table):
    """The PostgreSQL beside this agent. Default: found from the running server."""

    data_dir: AbsolutePath | None = None
    """PGDATA. Give it so that a server that is stopped at the start is found too."""
    bin_dir: AbsolutePath | None = None
    """Where pg_controldata, pg_waldump and postgres are."""
    socket_dir: AbsolutePath | None = None
    """Where the server's unix socket is."""
    dsn: Dsn | None = Field(default=None, repr=False)
    """Connection string for role splitguard_local, which starts and stops a backup.
    Default: through socket_dir, as user splitguard_local, database postgres."""


class ProbeSettings(Table):
    """How often and how patiently the nodes are asked."""

    round_s: Annotated[Number, Field(ge=0.1, le=60)] = 1.0
    """Seconds from one round of questions to the next. Shorter finds faults sooner and
    costs more; a node counts as unseen after two rounds."""
    deadline_s: Annotated[Number, Field(ge=0.05, le=60)] = 0.8
    """Seconds until an unanswered question counts as missed; not above round_s.
    Shorter makes a slow network look like a dead node."""


class CaptureSettings(Table):
    """Protective copies of the server beside this agent."""

    enabled: Flag = True
    """With false nothing is ever copied, and no permit is granted without a person."""
    dir: AbsolutePath | None = None
    """Where snapshots go. Default: snapshots below state_dir. On another disk than
    PGDATA's they survive the loss of that one. Pins lie beside PGDATA in any case."""
    reserve: Annotated[Number, Field(ge=0, le=1_000_000)] = 256.0
    """MiB held in dir, as a file of nothing, for the WAL tail and the journal when the
    disk is full; at most a twentieth of the volume. It is given back when one of them
    needs it and made again when there is room. 0: none is held."""
    isolation_hold_s: Annotated[Number, Field(ge=0, le=3600)] = 0.0
    """Seconds that isolation must last before the tail is kept. Longer spares work when
    links flap, and loses what a wipe destroys in the meantime."""
    max_mib_s: Annotated[Number, Field(ge=0, le=100_000)] = 0.0
    """MiB per second, read and read back together, at which a running server is copied
    at most. 0: as fast as it goes, at low priority. The WAL tail, and a server that is
    stopped, are always copied as fast as it goes."""
    exec: AbsolutePath | None = None
    """Program that freezes the volumes of a running server (LVM, ZFS, btrfs), for
    copies made from there; deploy/README.md says how it is called. Default: none."""
    exec_timeout_s: Annotated[Number, Field(ge=1, le=3600)] = 60.0
    """Seconds that one call of it may take; after that it is ended, and a copy made."""
    schedule: Annotated[str, Field(max_length=100)] | None = None
    """Five cron fields in UTC, such as "30 2 * * *": then the agent beside the primary
    takes a full snapshot, and makes up for one that was missed. Only where dir lies on
    another file system than PGDATA. Default: none by the clock."""
    compress: Flag = False
    """With true archives are compressed with zstd (ID.tar.zst). It costs CPU time and
    saves room, mostly two thirds or more."""
    recipients: tuple[Recipient, ...] = ()
    """Public keys of age (age1…) or ssh that archives are encrypted for (.age). What is
    encrypted can be read nowhere without the private key, not even here. Without any,
    archives hold the data in plain, and passwords and keys of the configuration are cut
    out."""
    keep: Annotated[int, Field(strict=True, ge=1, le=1000)] = 7
    """How many scheduled snapshots are kept; the oldest go first. Whatever this and the
    next three keys say, a snapshot stays that is pinned, whose incident is open or was
    never acknowledged, or on which a permit rests, and so does the newest complete
    one."""
    keep_others: Annotated[int, Field(strict=True, ge=1, le=10_000)] | None = None
    """How many of the others are kept: on demand, or of an incident. Default: all."""
    keep_days: Annotated[Number, Field(gt=0, le=36_500)] | None = None
    """Days after which any snapshot is given up. Default: age does not matter."""
    keep_gib: Annotated[Number, Field(gt=0)] | None = None
    """GiB that all snapshots may take together; scheduled ones go first, then others,
    each the oldest first. Default: as much as there is room for."""
    winner_rule: WinnerRule = WinnerRule.HIGHEST_TIMELINE
    """How the HA software chooses after a split: highest-timeline (Patroni, repmgr, VNF
    Manager 2 on Cloudify 5.0.5 and later) or newest-commit (VNF Manager 1 on Cloudify
    4.x, where the smaller side can win). It orders the work; all losers are copied
    anyway."""


class OffsiteSettings(Table):
    """Where the archive of every finished snapshot goes, away from this machine.

    It is sealed as [capture] compress and recipients say, sent in the background, read
    back and compared; while it fails it is tried again, up to every six hours.
    """

    url: OffsiteUrl | None = None
    """A folder (file:///FOLDER, which must be there) or a bucket (s3://BUCKET/PREFIX).
    With it no snapshot is given up before its archive there was read back. Nothing is
    ever removed there. Default: nothing is sent."""
    endpoint: Url | None = None
    """Address of an S3 that is not Amazon's. Default: Amazon's."""
    region: Name = "us-east-1"
    """Region of the bucket."""
    credentials_file: AbsolutePath | None = None
    """File with lines aws_access_key_id = … and aws_secret_access_key = …, readable by
    the agent only. Default: what the environment or the machine gives."""
    timeout_s: Annotated[Number, Field(ge=1, le=3600)] = 60.0
    """Seconds that one request may take; a part has 8 MiB. Longer bears a slow line,
    shorter finds a store that hangs."""


class LimitSettings(Table):
    """From when on a trouble is one."""

    lag_mib: Annotated[Number, Field(ge=0, le=1_000_000)] = 256.0
    """MiB by which a standby may be behind, in what it received or in what it replayed
    of that; one with recovery_min_apply_delay may replay as late as it likes. Lower
    tells of every burst of writes. 0: a standby may be behind as far as it likes."""
    lag_s: Annotated[Number, Field(ge=0, le=86_400)] = 30.0
    """Seconds that it must be further behind than that before anybody is told."""


class GuardSettings(Table):
    """The gate in front of a resync."""

    minimum: Minimum = Minimum.FULL
    """What must be kept of a losing side before its resync goes on: full (a complete
    copy), or rows (every row that it wrote past the fork, read out while it ran).
    With full, rows count too once max_wait_s has passed, and where no copy fits."""
    max_wait_s: Annotated[Number, Field(ge=0, le=86_400)] = 900.0
    """Seconds after which a resync that still waits may rest on rows, and is otherwise
    said to need a person, who may run `splitguard guard release`. It is never let go by
    time alone."""
    patroni: AbsolutePath | None = None
    """Patroni's configuration file. Default: that of a running Patroni, or where
    packages put it, if it is of this server's data directory."""
    repmgr: AbsolutePath | None = None
    """repmgr.conf. Default: where packages put it."""


class ResyncSettings(Table):
    """`splitguard resync`, which brings a loser back where no HA software does.

    Commands are given as words (["systemctl", "start", "postgresql@15-main"]) or as one
    text; no shell runs them. They run as whoever calls `splitguard resync`.
    """

    source: DsnPart = "user=postgres dbname=postgres"
    """As whom the source is read and copied, beside its node's host and port: a
    superuser, or a role with REPLICATION and the four functions that pg_rewind needs
    (deploy/README.md). Put the password into a passfile (passfile=…)."""
    follow: DsnPart | None = None
    """As whom the server streams afterwards (primary_conninfo), beside host and port.
    Default: as it did before, else like source."""
    start_command: Command = ()
    """Starts the server in a way that your system knows of. Default: pg_ctl start, as
    the owner of the data directory."""
    stop_command: Command = ()
    """Stops the server and ends when it is stopped. Default: pg_ctl stop -m fast."""
    wait_s: Annotated[Number, Field(ge=1, le=86_400)] = 120.0
    """Seconds within which the server must stop, and follow the source after its start.
    Shorter gives up on a slow one, which then goes on starting all the same."""


class LbSettings(Table):
    """What load balancers hear."""

    fail_closed: Flag = False
    """With true a proven split brain makes /primary answer 503 on every node but the
    predicted winner: writes stop there. With false doubt is only a header."""


class Settings(Table):
    """All that an agent is told. The same file serves every node."""

    cluster: Name
    """What this cluster is called in notices; agents of another cluster are refused."""
    node: NodeName | None = None
    """Which node this machine is. Default: the one that is called like this host, else
    the one that has one of this machine's addresses."""
    listen: Annotated[str, AfterValidator(forms.listen)] = "127.0.0.1:8009"
    """Where this agent answers HTTP. Beyond loopback only with [tls] cert and key and a
    token file in [auth]."""
    state_dir: AbsolutePath = Path("/var/lib/splitguard")
    """Journal and working files, readable by the agent only (mode 0700)."""
    socket: AbsolutePath = Path("/run/splitguard/agent.sock")
    """Unix socket (mode 0660) for commands on this machine, which need no token."""
    page_url: WebhookUrl | None = None
    """Where people reach this agent's page; goes into notices. Default: no link."""
    runbook_url: WebhookUrl | None = None
    """Your runbook; goes into notices. One that ends with "/" is a folder with the
    pages of deploy/runbooks: that for the verdict is added. Default: no link."""
    nodes: Annotated[tuple[NodeSettings, ...], Field(min_length=1)]
    """The machines of the cluster, each with its own [[nodes]]."""
    witnesses: tuple[WitnessSettings, ...] = ()
    """Agents without a database, each with its own [[witnesses]]."""
    tls: TlsSettings = TlsSettings()
    auth: AuthSettings = AuthSettings()
    local: LocalSettings = LocalSettings()
    probe: ProbeSettings = ProbeSettings()
    capture: CaptureSettings = CaptureSettings()
    offsite: OffsiteSettings = OffsiteSettings()
    limits: LimitSettings = LimitSettings()
    guard: GuardSettings = GuardSettings()
    resync: ResyncSettings = ResyncSettings()
    loss: LossSettings = LossSettings()
    vnfm: VnfmSettings = VnfmSettings()
    lb: LbSettings = LbSettings()
    channels: tuple[ChannelSettings, ...] = ()
    """Receivers of notices, each with its own [[channels]]."""
    routes: tuple[RouteSettings, ...] = ()
    """Which notices go where, each with its own [[routes]]."""

    @property
    def me(self) -> str:
        """Return the name of this machine's node. Raises ConfigError when unknown."""
        if self.node is None:
            raise ConfigError(("node: this machine is none of the nodes",), "set node")
        return self.node

    @property
    def listen_address(self) -> tuple[str, int]:
        """Return host and port to listen on."""
        return forms.split_listen(self.listen)

    @property
    def capture_dir(self) -> Path:
        """Return the folder that holds the snapshots."""
        return self.capture.dir or self.state_dir / "snapshots"

    @property
    def members(self) -> tuple[NodeSettings, ...]:
        """Return nodes, then witnesses as nodes that have only an agent."""
        witnesses = (NodeSettings(name=w.name, agent=w.agent) for w in self.witnesses)
        return (*self.nodes, *witnesses)

    @property
    def manager_snapshots_dir(self) -> Path:
        """Return the folder that holds the managers' snapshots."""
        return self.vnfm.dir or self.state_dir / "manager-snapshots"

    def node_settings(self, name: str) -> NodeSettings:
        """Return the node or witness called `name`; KeyError when there is none."""
        found = {member.name: member for member in self.members}
        return found[name]

    def policy(self) -> Policy:
        """Return the limits that the rules use, as configured."""
        return Policy(
            cluster=self.cluster,
            me=self.me,
            nodes=tuple(
                NodeSpec(
                    name=member.name,
                    has_postgres=member.postgres is not None,
                    has_manager=member.manager is not None,
                    has_agent=member.agent is not None,
                    upstreams=member.streamed_from,
                    local=member.local,
                )
                for member in self.members
            ),
            round_s=self.probe.round_s,
            # Two rounds and a probe's deadline, with a quarter of it for the loop.
            fresh_s=2 * self.probe.round_s + 1.25 * self.probe.deadline_s,
            isolation_hold_s=self.capture.isolation_hold_s,
            permit_wait_s=self.guard.max_wait_s,
            guard_minimum=self.guard.minimum,
            lag_limit_bytes=round(self.limits.lag_mib * MIB),
            lag_hold_s=self.limits.lag_s,
            winner_rule=self.capture.winner_rule,
            capture_enabled=self.capture.enabled,
            settings=likeness.digests(self),
        )
