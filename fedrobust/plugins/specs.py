"""Text to specifications: a plug-in's name with its options, and chains of them."""

from __future__ import annotations

import ast
import re
from typing import Any

from fedrobust.errors import UserError

__all__ = ["parse_call", "split_chain"]

#: A quoted text, or a bare word with dashes behind an equals sign.
_DASHED = re.compile(r"""'[^']*'|"[^"]*"|(?<==)(\s*)([A-Za-z_]\w*(?:-\w+)+)(?=\s*(?:,|$))""")
_CALL = re.compile(r"\s*([A-Za-z_][\w\-.:/]*)\s*(?:\((.*)\))?\s*", re.DOTALL)


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``name`` or ``name(option=value, ...)``.

    Parameters
    ----------
    text : str
        Values are Python literals; a bare word, dashes and all, counts as a string.

    Returns
    -------
    tuple of str and dict
        The name and its options.

    Raises
    ------
    UserError
        If the text has another form.
    """
    match = _CALL.fullmatch(text)
    if match is None:
        raise UserError(f"'{text}' is not of the form name or name(option=value, ...)")
    name, inside = match.group(1), match.group(2)
    if not inside or not inside.strip():
        return name, {}
    try:
        quoted = _DASHED.sub(lambda m: f"{m[1]}'{m[2]}'" if m[2] else m[0], inside)
        call = ast.parse(f"f({quoted})", mode="eval").body
        assert isinstance(call, ast.Call)
        names = [keyword.arg for keyword in call.keywords]
        if call.args or None in names or len(set(names)) != len(names):
            raise ValueError
        return name, {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, AssertionError, RecursionError):
        raise UserError(
            f"'{text}': options are written name=value, each once, with plain values, such as {name}(size=0.1)"
        ) from None


def _literal(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def split_chain(text: str, separator: str) -> list[str]:
    """Split ``a(x=1) + b`` at a separator that stands outside brackets and quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == separator and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts = [part.strip() for part in (*parts, text[start:])]
    if not all(parts):
        raise UserError(f"'{text}': something is missing beside '{separator}'")
    return parts
