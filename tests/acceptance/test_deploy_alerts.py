"""The alert rules of deploy/prometheus, read and run by Prometheus' own promtool."""

import re
import subprocess
from pathlib import Path

from agent.core.verdict import VerdictCode

FOLDER = Path(__file__).resolve().parents[2] / "deploy/prometheus"
RULES = (FOLDER / "alerts.yml").read_text("utf-8")
UNIT_TESTS = (FOLDER / "alerts_test.yml").read_text("utf-8")


def promtool(*arguments: str) -> str:
    """Run promtool in the folder of the rules; return what it prints."""
    ran = subprocess.run(
        ["promtool", *arguments], cwd=FOLDER, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def test_prometheus_accepts_the_rules_and_the_scrape_configuration():
    assert "SUCCESS" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", "scrape.yml")


def test_the_rules_fire_when_they_should_and_are_silent_when_they_should():
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_every_alert_is_seen_firing_by_a_unit_test():
    alerts = re.findall(r"- alert: (\w+)", RULES)
    fired = re.findall(r"alertname: (\w+)\n +exp_alerts:", UNIT_TESTS)
    assert set(alerts) == set(fired)


def test_every_verdict_that_a_rule_names_is_one_that_agents_give():
    patterns = re.findall(r'verdict!?=~?"([^"]+)"', RULES)
    named = {name for pattern in patterns for name in pattern.split("|")}
    assert named <= {code.value for code in VerdictCode}
