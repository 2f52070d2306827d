"""A report is put in order once: each line stands where it is looked for, no other."""

from agent.core import testimony
from agent.core.observation import Channel, Outcome, Sight
from tests.core import given


def line(node: str, channel: Channel, outcome: Outcome, missed: int = 0) -> Sight:
    server = channel is Channel.POSTGRES and outcome is Outcome.ANSWERED
    read = given.sight() if server else None
    return Sight(node, channel, outcome, "", 0.5, missed, read, None)


def test_lines_are_sorted_by_what_is_asked_of_them():
    lines = (
        heard := line("n1", Channel.AGENT, Outcome.ANSWERED),
        read := line("n1", Channel.POSTGRES, Outcome.ANSWERED),
        useless := line("n2", Channel.AGENT, Outcome.GARBLED),
        line("n2", Channel.POSTGRES, Outcome.REFUSED),
        gone := line("n3", Channel.AGENT, Outcome.TIMED_OUT, 1),
        line("n3", Channel.POSTGRES, Outcome.TIMED_OUT, 2),
    )
    found = testimony.testimony(given.report("n1", sights=lines))
    assert found.at["n1", Channel.AGENT] == heard
    assert [one[0] for one in found.lines] == list(found.at)
    assert [(place[0], missed) for place, missed, _ in found.missed] == [
        ("n3", 1),
        ("n3", 2),
    ]
    assert found.readings == (read,)
    assert found.useless == (useless, gone)
