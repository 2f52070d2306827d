"""What remains of a lab is removed, also when somebody else does the same."""

import threading
from pathlib import Path

from agent.lab.handle import clear
from agent.lab.plan import Layout

FOLDERS = 200


def test_two_that_remove_a_lab_at_once_do_not_fail(tmp_path: Path):
    layout = Layout(tmp_path / "lab")
    for number in range(FOLDERS):
        folder = layout.state_dir / "n1" / str(number)
        folder.mkdir(parents=True)
        for name in "abcde":
            (folder / name).touch()
    layout.mark.touch()
    failures: list[BaseException] = []
    ready = threading.Barrier(2)

    def remove() -> None:
        ready.wait(10)
        try:
            clear(layout)
        except Exception as error:  # noqa: BLE001 - whatever it is, it fails the test
            failures.append(error)

    both = [threading.Thread(target=remove) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert not failures
    assert not layout.state_dir.exists()
