"""How the report of what was lost is made, and what it must not show.

Theory of operation. A pattern names schema, table and column, each of the three by the
signs of a shell (`*` any text, `?` one sign), without regard to case; so a name may
hold a dot. The default names what holds passwords and keys by its column, and the
tables of a manager that hold them under a harmless name.
"""

from typing import Annotated

from pydantic import AfterValidator, Field

from agent.config import forms
from agent.config.kinds import Flag, Number, Table

REDACT = (
    "*.*.*passw*",
    "*.*.*passphrase*",
    "*.*.*secret*",
    "*.*.*token*",
    "*.*.*credential*",
    "*.*.*api_key*",
    "*.*.*private_key*",
    "*.secrets.value",
    "*.secrets_providers.connection_parameters",
    "*.certificates.value",
    "*.config.value",
    "*.provider_context.context",
)
"""Passwords, secrets, tokens and keys, also those of known managers."""

Pattern = Annotated[str, AfterValidator(forms.column_pattern)]
RoleName = Annotated[str, AfterValidator(forms.role_name)]


class LossSettings(Table):
    """The report of what a losing side wrote and the winner does not have."""

    report: Flag = True
    """With true the agent beside the losing side makes the report by itself, in a
    process of lowest priority that needs room for a clone, as soon as a snapshot is
    complete; its headline goes into the incident and to the receivers. With false it is
    made when somebody asks for it."""
    redact: tuple[Pattern, ...] = REDACT
    """Columns whose values are not shown, as "schema.table.column" with * and ?. In
    their place stands a hash that is equal for equal values within one report. A list
    of your own takes the place of this one. The rescue holds the values in plain."""
    user: RoleName = "splitguard_loss"
    """As whom the winner is read: this role in place of the user in its node's
    postgres, the rest of which stays as it is. It needs nothing but to read
    (`splitguard grants`)."""
    statement_timeout_s: Annotated[Number, Field(ge=1, le=86_400)] = 300.0
    """Seconds that one statement on the winner may take; after that the comparison ends
    and the report says so. Longer bears large tables that must be compared whole."""
