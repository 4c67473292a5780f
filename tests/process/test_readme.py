"""What the README shows works when it is pasted."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from helpers import ROOT, run_python
from isolation import isolated

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_quick_start(tmp_path: Path) -> None:
    script = tmp_path / "quick_start.py"
    script.write_text(BLOCKS[0])
    done = run_python(str(script))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([(n, n * n) for n in range(10)])


@isolated()
def test_the_two_programs_that_meet_by_name() -> None:
    sender, receiver = BLOCKS[1:3]
    waiting = subprocess.Popen(
        [sys.executable, "-c", receiver], stdout=subprocess.PIPE, text=True, cwd="/"
    )
    done = run_python("-c", sender)
    assert done.returncode == 0, done.stderr
    assert waiting.communicate(timeout=30)[0].strip() == str(b"a message")


def test_a_file_is_mapped() -> None:
    done = run_python("-c", BLOCKS[3])
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout.split()[0]) > 1000


def test_the_page_on_mappings(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "mapping.md").read_text()
    (tmp_path / "access.log").write_bytes(b"a line\n" * 20 + b"ERROR\n")
    (tmp_path / "index.bin").write_bytes(bytes(8192))
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        code = f"import os; os.chdir({str(tmp_path)!r})\n{block}"
        done = run_python("-c", code)
        assert (done.returncode, done.stderr) == (0, ""), block
