"""What verification and proofs have shown, in words: no more than what was checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.reserve.audits import bound_line
from pipelines.reserve.prove import Checked
from pipelines.reserve.verify import Verified

_MOST = 20
_NOT_HUMAN = "When a page was captured rests on the word of the crawl. Nothing here says that a person wrote a text."


def verified(output: str, result: Verified) -> str:
    """The outcome of `reserve verify`."""
    lines = [f"{output}: {'whole' if result.whole else 'NOT as sealed'}"]
    if result.problems:
        lines += [f"  {problem}" for problem in result.problems[:_MOST]]
        if len(result.problems) > _MOST:
            lines.append(f"  … and {len(result.problems) - _MOST} more")
        lines.append("")
    if result.sealed is None:
        return "\n".join(lines)
    log = result.sealed.checkpoint
    lines.append(f"log         {log.origin}, {log.size:,} entries, root {log.root.hex()}")
    lines += _signed(result)
    if result.chain is not None:
        latest = result.chain.latest.release
        gone = len(result.chain.withdrawals)
        withdrawn = f", {gone} withdrawn since" if gone else ""
        lines.append(f"release     {latest.number}: {latest.documents:,} documents{withdrawn}")
        if latest.captured_before:
            lines.append(f"captured    until {latest.captured_before}, on the word of the crawl")
        lines += [f"audit       {bound_line(audit)}" for _, audit in result.chain.audits]
    if result.since is not None:
        lines.append(f"goes on     from the earlier log of {result.since:,} entries, nothing of which was changed")
    if result.documents is None:
        lines.append(f"files       {result.files:,} by name and size alone (--quick)")
    else:
        lines.append(f"files       {result.files:,} read, {result.bytes_read / 1e6:,.1f} MB")
        lines.append(f"documents   {result.documents:,} entries made again from the rows")
    lines += [f"time stamp  {stamp}" for stamp in result.stamps] or ["time stamp  none"]
    return "\n".join(lines)


def _signed(result: Verified) -> list[str]:
    assert result.sealed is not None
    if not result.sealed.note.signatures:
        return ["signed by   nobody: it shows damage and change, and not who made it"]
    lines = [f"signed by   {verifier}" for verifier in result.signed_by]
    if not result.trusted:
        lines.append("            with keys from the archive itself: give --key to know whose they are")
    return lines


def checked(result: Checked) -> str:
    """The outcome of `reserve check`."""
    row = result.document
    signed = [f"signed by  {verifier}" for verifier in result.signed_by]
    lines = [
        f"document   {row['doc_id']}",
        f"url        {row['url'] or 'unknown'}",
        f"captured   {row['captured_at'] or 'unknown'}",
        f"decision   {result.folder}, {row['verdict']}: {row['because']}",
        *(f"evidence   {item['source']}, {item['kind']}: {_finding(item)}" for item in row.get("evidence") or ()),
        f"text       {'as sealed' if result.text else 'not in this proof'}, SHA-256 {row['text_sha256']}",
        f"in the log {result.checkpoint.origin}, entry {result.at:,} of {result.checkpoint.size:,}",
        *(signed or ["signed by  not checked: give --key; without it, anyone can have made this proof"]),
        _NOT_HUMAN,
    ]
    return "\n".join(lines)


def _finding(item: Mapping[str, Any]) -> str:
    if item["detail"]:
        return str(item["detail"])
    named = {"probability": item["probability"], "p-value": item["p_value"], "score": item["score"]}
    return next((f"{name} {value:.4g}" for name, value in named.items() if value is not None), "found")
