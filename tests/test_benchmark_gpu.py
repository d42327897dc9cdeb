"""The one command for a GPU: that it runs what it says, and tells what fails."""

import argparse
import json

import pytest

from benchmarks import __main__ as suite
from benchmarks import gpu, scaling, step_profile


def test_all_run_and_what_fails_is_told(tmp_path, capsys):
    folder = tmp_path / "new" / "results"
    programs = {
        "bad": ("json.tool", "FOLDER/nothing.json"),
        "good": ("timeit", "-n", "1", "-r", "1", "open('FOLDER/found.json', 'w').write('[1]')"),
    }
    assert gpu.run(programs, folder) == ["bad"]
    assert json.loads((folder / "found.json").read_text()) == [1]
    assert "nothing.json" in (folder / "bad.txt").read_text()
    assert "1 loop" in (folder / "good.txt").read_text()
    printed = capsys.readouterr().out
    assert f"python -m json.tool {folder}/nothing.json" in printed
    assert "1 loop" in printed


def test_the_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "PROGRAMS", {"good": ("this",)})
    assert gpu.main([str(tmp_path)]) == 0
    monkeypatch.setattr(gpu, "PROGRAMS", {"good": ("this",), "bad": ("json.tool", "nothing")})
    assert gpu.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == "failed: bad\n"


class ParsedError(Exception):
    """Raised when arguments were parsed, before anything is measured."""


@pytest.mark.parametrize(
    ("name", "module"), [("feeds", suite), ("threads", scaling), ("steps", step_profile)]
)
def test_a_program_takes_its_arguments(monkeypatch, name, module):
    assert gpu.PROGRAMS.keys() == {"feeds", "threads", "steps"}
    program, *arguments = gpu.PROGRAMS[name]
    assert module.__name__ in (program, f"{program}.__main__")
    parse_args = argparse.ArgumentParser.parse_args

    def parse(parser, given):
        parse_args(parser, given)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    with pytest.raises(ParsedError):
        module.main(arguments)
