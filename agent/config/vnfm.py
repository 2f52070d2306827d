"""The managers of the cluster: how they are asked, and what is kept of them.

Theory of operation. Without a login the agents only ask each manager whether it is
active. With one, the agent beside a manager has it take snapshots, fetches them, checks
them and keeps them. A password that a manager refuses is not tried again until the
configuration is read anew: four wrong ones lock the account.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from agent.config import forms
from agent.config.kinds import AbsolutePath, Flag, Name, Number, Table

CERTIFICATES = (Path("/home/admin/files/ssl"), Path("/etc/cloudify/ssl"))
"""The folders that the managers' guide names."""

Count = Annotated[int, Field(strict=True, ge=0, le=10_000)]
ZoneName = Annotated[str, AfterValidator(forms.time_zone)]


class VnfmSettings(Table):
    """The managers (F5 VNF Manager, Cloudify Manager) under [[nodes]] manager."""

    username: Name = "admin"
    """As whom the managers are asked. Snapshots want an administrator of the system;
    only the first one, "admin", may restore."""
    password_file: AbsolutePath | None = None
    """File with that user's password, one line, readable by the agent only. Without it
    and token_file the managers are only asked whether they are active."""
    token_file: AbsolutePath | None = None
    """File with a token in place of user and password, one line (6.3 and later; in 4.x
    and 5.x a token lasts ten hours)."""
    tenant: Name = "default_tenant"
    """The tenant that snapshots are made in; a manager's snapshot holds all tenants."""
    ca: AbsolutePath | None = None
    """PEM file: who signed the managers' certificates. Default: that of [tls]."""
    dir: AbsolutePath | None = None
    """Where the managers' snapshots are kept. Default: manager-snapshots below
    state_dir. Best on another disk than the manager's and PostgreSQL's."""
    protect: Flag = True
    """With true the agent beside a manager has it take a snapshot when a split shows,
    beside the copies of the database, which never wait for it."""
    schedule: Annotated[str, Field(max_length=100)] | None = None
    """Five cron fields, such as "30 2 * * *": then the agent beside the active manager
    has it take a snapshot, and makes up for one that was missed. Default: none."""
    time_zone: ZoneName = "UTC"
    """Time zone of schedule, such as "Europe/Berlin"."""
    jitter_s: Annotated[Number, Field(ge=0, le=86_400)] = 300.0
    """Seconds by which a scheduled snapshot is put off at most, by chance: so that many
    clusters do not all begin at once."""
    include_metrics: Flag = False
    """Metrics too (managers up to 4.6; later ones have none to give)."""
    include_credentials: Flag = True
    """The keys of agents and hosts: without them a restored manager reaches none."""
    include_logs: Flag = True
    """The logs of executions too."""
    include_events: Flag = True
    """The events of executions too."""
    wait_s: Annotated[Number, Field(ge=10, le=86_400)] = 3600.0
    """Seconds within which a manager must have made a snapshot; one that takes longer
    counts as failed, and its execution is named."""
    remove: Flag = False
    """With true a snapshot is removed from the manager once it is kept here and was
    checked. Those that others made are never touched."""
    certificates: tuple[AbsolutePath, ...] = CERTIFICATES
    """Folders on the manager's machine that are kept with each snapshot, with owner and
    mode, encrypted for capture.recipients; without any recipient they are not kept."""
    keep_daily: Count = 7
    """Of so many days the last good scheduled snapshot is kept."""
    keep_weekly: Count = 5
    """Of so many weeks."""
    keep_monthly: Count = 12
    """Of so many months."""
    keep_yearly: Count = 7
    """Of so many years. The newest good one stays in any case, and so does one of an
    incident."""
    alert_after_h: Annotated[Number, Field(gt=0, le=8760)] = 36.0
    """Hours without a good scheduled snapshot after which on-call is told; the first
    that fails is told at once."""
    look_s: Annotated[Number, Field(ge=5, le=3600)] = 30.0
    """Seconds from one look at what the manager says of itself and its cluster to the
    next. Each look with a login writes one row into its database (the manager's habit),
    so it is rare, and left out on a side that is cut off."""

    @property
    def has_login(self) -> bool:
        """Whether more can be asked than who is active."""
        return self.password_file is not None or self.token_file is not None
