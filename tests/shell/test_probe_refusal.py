"""What libpq's words mean: who said them, and which SQLSTATE they stand for."""

import pytest

from agent.core.observation import Outcome
from agent.probe.refusal import of_connect, of_state

PLACE = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("FATAL:  sorry, too many clients already", "53300"),
        ("FATAL:  remaining connection slots are reserved for roles with", "53300"),
        ('FATAL:  too many connections for role "splitguard_probe"', "53300"),
        ("FATAL:  the database system is starting up", "57P03"),
        ("FATAL:  the database system is shutting down", "57P03"),
        ("FATAL:  the database system is not accepting connections", "57P03"),
        ('FATAL:  password authentication failed for user "x"', "28P01"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "x"', "28000"),
        ('FATAL:  role "x" does not exist', "28000"),
        ('FATAL:  database "x" does not exist', "3D000"),
        ('FATAL:  permission denied for database "x"', "42501"),
    ],
)
def test_the_servers_own_words_are_refusals_with_their_code(words, code):
    result = of_connect(PLACE + words)
    assert result.outcome is Outcome.REFUSED
    assert result.reason.startswith(f"{code} ")
    assert ";" in result.reason  # and what to do


@pytest.mark.parametrize(
    "words",
    [
        "FATAL:  désolé, trop de clients sont déjà connectés",
        "致命错误:  对不起, 已经有太多的客户",
        "PANIC:  something new",
    ],
)
def test_a_server_that_speaks_another_language_is_alive_all_the_same(words):
    result = of_connect(PLACE + words)
    assert result.outcome is Outcome.REFUSED
    assert result.reason == words.split(":  ")[1]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            "Connection refused\n\tIs the server running on that host?",
            "Connection refused",
        ),
        (
            "server closed the connection unexpectedly\n\tThis probably means",
            "server closed the connection unexpectedly",
        ),
        ("No route to host", "No route to host"),
    ],
)
def test_this_machines_own_words_mean_that_nobody_answered(words, reason):
    result = of_connect(PLACE + words)
    assert (result.outcome, result.reason) == (Outcome.UNREACHABLE, reason)


@pytest.mark.parametrize(
    "message",
    [
        "failed to resolve host 'nowhere.invalid': [Errno -2] Name or service",
        "connection is bad: no reason",
        "",
    ],
)
def test_what_has_no_known_form_means_that_nobody_answered(message):
    assert of_connect(message).outcome is Outcome.UNREACHABLE
    assert of_connect(message).reason


@pytest.mark.parametrize(
    "words",
    [
        "server does not support SSL, but SSL was required",
        "fe_sendauth: no password supplied",
        "SSL error: certificate verify failed",
    ],
)
def test_an_answer_that_libpq_will_not_accept_proves_life(words):
    result = of_connect(PLACE + words)
    assert result.outcome is Outcome.REFUSED
    assert "`postgres` setting" in result.reason


def test_a_reason_is_one_bounded_line():
    result = of_state("57014", "canceling statement\ndue to " + "x" * 1000)
    assert "\n" not in result.reason
    assert result.reason.startswith("57014 canceling statement; the statement took")
    assert len(of_state("XX000", "y" * 1000).reason) <= 300
