"""The directive `command-line`: the reference of the command line, from its parser."""

import argparse

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from h5video_data.tools.cli import _parser


class CommandLine(SphinxDirective):
    """Writes a section for each command: what it does, its usage, its arguments."""

    def run(self) -> list[nodes.Node]:
        parser = _parser()
        (commands,) = [
            action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
        ]
        helps = {action.dest: action.help for action in commands._choices_actions}
        sections: list[nodes.Node] = []
        for name, command in commands.choices.items():
            title = f"h5video-data {name}"
            section = nodes.section(ids=[nodes.make_id(name)], names=[name])
            section += nodes.title(text=title)
            lines = [f"{_sentence(helps[name])} {command.description or ''}".strip(), ""]
            usage = (
                command.format_usage()
                .removeprefix("usage: ")
                .replace(" [-h] [--debug]", "")
                .rstrip()
            )
            lines += ["```text", *usage.splitlines(), "```", ""]
            for action in command._actions:
                if action.help and not isinstance(action, argparse._HelpAction):
                    lines += [f"`{_shown(action)}`", f": {_sentence(action.help)}", ""]
            if command.epilog:
                lines += [_sentence(command.epilog)]
            self.state.nested_parse(StringList(lines, f"h5video-data {name}"), 0, section)
            sections.append(section)
        return sections


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _shown(action: argparse.Action) -> str:
    """Returns what to type: `FILE`, `--level N`, `--fit {crop,letterbox}`."""
    value = action.metavar or (
        f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper()
    )
    if not action.option_strings:
        return str(value)
    flag = ", ".join(action.option_strings)
    return flag if action.nargs == 0 else f"{flag} {value}"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
