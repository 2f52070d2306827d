"""The kinds of values that the configuration is made of.

Theory of operation. A kind is a Python type with the check of its form; what is wrong
with a value is said by the check, in `forms`. A `Table` is a part of the file: frozen,
with no key that it does not know, and silent about what was put in, which may be a
secret.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from agent.config import forms


def as_many(value: object) -> object:
    """Let one word stand where a list of words is asked for."""
    return [value] if isinstance(value, str) else value


Name = Annotated[str, AfterValidator(forms.name)]
NodeName = Annotated[str, AfterValidator(forms.node_name)]
Url = Annotated[str, AfterValidator(forms.url)]
Dsn = Annotated[str, AfterValidator(forms.dsn)]
RemoteDsn = Annotated[str, AfterValidator(forms.remote_dsn)]
DsnPart = Annotated[str, AfterValidator(forms.dsn_part)]
Command = Annotated[tuple[str, ...], BeforeValidator(forms.command)]
OffsiteUrl = Annotated[str, AfterValidator(forms.offsite_url)]
Recipient = Annotated[str, AfterValidator(forms.recipient)]
WebhookUrl = Annotated[str, AfterValidator(forms.webhook_url)]
AbsolutePath = Annotated[Path, AfterValidator(forms.absolute)]
HostPort = Annotated[str, AfterValidator(forms.host_port)]
Flag = Annotated[bool, Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Table(BaseModel):
    """A part of the configuration."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )
