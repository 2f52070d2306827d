"""What people are told of a change, in the words of the webhook body."""

from agent.core.notice import NoticeReason


def test_each_reason_has_the_type_that_receivers_know():
    assert {reason.value: reason.event_type for reason in NoticeReason} == {
        "first": "splitguard.incident.opened",
        "worse": "splitguard.incident.changed",
        "changed": "splitguard.incident.changed",
        "reminder": "splitguard.incident.reminder",
        "resolved": "splitguard.incident.resolved",
        "loss": "splitguard.incident.changed",
        "test": "splitguard.incident.test",
    }
