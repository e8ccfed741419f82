"""Constraints in llguidance's dialect of Lark."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from langchain_localhf.engines.generation.schemas import closed, mapped
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_localhf.engines.generation.request import Constraint, Tag
    from langchain_localhf.engines.grammar.vocabulary import Vocabulary

# Between a marker and the answer, models write line breaks.
_BREAK = r'("\n" | "\n\n")?'
# Models write JSON with spaces behind commas and colons, as Python does, or with none; to forbid either misleads them.
_JSON = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
# The formats that llguidance can guarantee; others, such as pydantic's "password", describe only.
_FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"))


def lark_grammar(constraint: Constraint, vocabulary: Vocabulary) -> str:
    """The constraint in llguidance's dialect of Lark."""
    special = vocabulary.special
    lines = ["%llguidance {}", r"TEXT: /(.|\n)+/"]
    bodies: dict[str, list[str]] = {}
    for tag in constraint.tags:
        trigger = trigger_of(tag) if constraint.free_text else ""
        value = {**mapped(closed(dict(tag.schema)), _described), "x-guidance": _JSON}
        parts = (_literal(tag.begin[len(trigger) :], special), f"%json {json.dumps(value)}", _literal(tag.end, special))
        bodies.setdefault(trigger, []).append(" ".join(part for part in parts if part))
    start = "(" + " | ".join(bodies.get("", ())) + ")"
    if constraint.free_text:
        others = _other_tokens(vocabulary, "".join(bodies))
        start = f"(tag{' | TEXT? ' + others if others else ''})* TEXT?"
        lines.append("tag: " + " | ".join(f"mark{n} ({' | '.join(body)})" for n, body in enumerate(bodies.values())))
        lines += [line for n, trigger in enumerate(bodies) for line in _marker_rules(f"mark{n}", trigger, special)]
    if constraint.after:
        others = _other_tokens(vocabulary, constraint.after)
        start = f"{f'(TEXT? {others})* ' if others else ''}after {'' if constraint.free_text else _BREAK} {start}"
        lines += _marker_rules("after", constraint.after, special)
    return "\n".join([*lines, f"start: {start}"])


def _marker_rules(name: str, marker: str, special: Mapping[str, int]) -> list[str]:
    """Text up to the first of these markers, written as tokens of their own or spelled out."""
    spelled = f"spelled_{name}[lazy]: /(.|\\n)*/ {json.dumps(marker, ensure_ascii=False)}"
    token = f" | TEXT? {_literal(marker, special)}" if any(text in marker for text in special) else ""
    return [spelled, f"{name}: spelled_{name}{token}"]


def _literal(text: str, special: Mapping[str, int]) -> str:
    """A text as the model was trained to write it: with its special tokens."""
    if not special:
        return json.dumps(text, ensure_ascii=False) if text else ""
    pattern = "|".join(re.escape(name) for name in sorted(special, key=len, reverse=True) if name)
    parts = [part for part in re.split(f"({pattern})", text) if part]
    return " ".join(
        f"<[{special[part]}]>" if part in special else json.dumps(part, ensure_ascii=False) for part in parts
    )


def _other_tokens(vocabulary: Vocabulary, markers: str) -> str:
    """The special tokens that may stand in free text: all but those that end it."""
    tokens = {token for text, token in vocabulary.special.items() if text not in markers}
    ids = sorted(token for token in tokens - vocabulary.end_ids if token < vocabulary.known)
    return f"<[{','.join(map(str, ids))}]>" if ids else ""


def trigger_of(tag: Tag) -> str:
    """What starts a tag in free text.

    Raises:
        InputError: Nothing does.
    """
    trigger = tag.trigger or tag.begin
    if not trigger or not tag.begin.startswith(trigger):
        msg = f"a form in free text has to begin with its trigger {tag.trigger!r}, and begins with {tag.begin!r}"
        raise InputError(msg, hint="give it a begin that starts with the trigger")
    return trigger


def _described(node: dict[str, Any]) -> dict[str, Any]:
    """A schema without what only describes, and which llguidance would refuse."""
    return {key: value for key, value in node.items() if key != "format" or value in _FORMATS}
