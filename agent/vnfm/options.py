"""What can be asked for with a create and a restore, and which version knows what.

Theory of operation. Managers ignore keys that they do not know, so an option would
silently do nothing. Each option here says from which version to which it exists; only
those that the manager at hand knows are sent, and the others can be named to a person.
Source: `snapshots.py` of the REST service, 4.3 to 7.1.
"""

from dataclasses import dataclass

from agent.vnfm.records import Version

_Numbers = tuple[int, int, int]
_METRICS_END: _Numbers = (5, 0, 0)
_QUEUE: _Numbers = (4, 5, 0)
_TEMPDIR: _Numbers = (6, 0, 0)
_NEW_FORMAT: _Numbers = (7, 0, 0)


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """What goes into a snapshot."""

    include_metrics: bool = False
    """Up to 4.6; later managers keep none."""
    include_credentials: bool = True
    include_logs: bool = True
    include_events: bool = True
    queue: bool = False
    """Wait behind other work in place of being refused (4.5 and later)."""
    legacy: bool | None = None
    """The format that replaces everything when it is restored (7.x can do both; None
    leaves it to the manager, which makes the new one). Older ones know no other."""
    tempdir_path: str | None = None
    """A folder on the manager (6.x and later)."""
    listener_timeout_s: float | None = None
    """How long the new format waits for late changes (7.x; None: 10 s)."""

    def body(self, version: Version) -> dict[str, object]:
        """Return what to send to a manager of this version."""
        return {
            "include_credentials": self.include_credentials,
            "include_logs": self.include_logs,
            "include_events": self.include_events,
            **{
                key: value
                for key, value, known in self._some(version)
                if known and value is not None
            },
        }

    def unknown_to(self, version: Version) -> tuple[str, ...]:
        """Return the options asked for that a manager of this version has not."""
        return tuple(
            key
            for key, value, known in self._some(version)
            if not known and value is not None and value is not False
        )

    def _some(self, version: Version) -> tuple[tuple[str, object, bool], ...]:
        """Return the options that not every version knows."""
        numbers = version.numbers
        return (
            ("include_metrics", self.include_metrics, numbers < _METRICS_END),
            ("queue", self.queue, numbers >= _QUEUE),
            ("tempdir_path", self.tempdir_path, numbers >= _TEMPDIR),
            ("legacy", self.legacy, numbers >= _NEW_FORMAT),
            ("listener_timeout", self.listener_timeout_s, numbers >= _NEW_FORMAT),
        )


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """How a snapshot is restored."""

    force: bool = False
    """Restore though the manager is not empty: in the legacy format all that it holds
    is REPLACED. The new format never asks and merges."""
    restore_certificates: bool = False
    """The manager's own certificates too; it reboots unless `no_reboot`."""
    no_reboot: bool = False
    recreate_deployments_envs: bool = True
    """Up to 5.x, which want it said."""
    timeout_s: int = 300
    """How long the manager waits for its own work (7.x)."""

    def body(self) -> dict[str, object]:
        """Return what to send: all keys that any version wants; others are ignored."""
        return {
            "force": self.force,
            "restore_certificates": self.restore_certificates,
            "no_reboot": self.no_reboot,
            "recreate_deployments_envs": self.recreate_deployments_envs,
            "timeout": self.timeout_s,
        }
