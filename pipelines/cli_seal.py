"""`reserve verify`, `prove`, `check`, `withdraw` and `seal`: a part of :mod:`pipelines.cli`, and as thin."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.errors import UsageError

Add = Callable[..., argparse.ArgumentParser]

_SEAL = """\
examples:
  reserve seal keygen example.com/reserve --out keys
  reserve run --input 'crawl/*.warc.gz' --set seal.key=keys/example.com_reserve-ed25519.key
  reserve seal sign out --key keys/example.com_reserve-ed25519.key       a seal that was not signed yet
  reserve seal timestamp out --request rfc3161 --out request.tsq          to carry to an authority
  reserve seal timestamp out --attach answer.tsr --roots authority.pem
"""


def add_seal(commands: Any, command: Add) -> None:
    """Adds the commands; ``command`` makes one as :mod:`pipelines.cli` makes its own."""
    _add_verify(commands, command)
    _add_prove(commands, command)
    _add_check(commands, command)
    _add_withdraw(commands, command)
    parser = command(commands, "seal", None, "make keys; sign and time-stamp a seal", epilog=_SEAL)
    below = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_keygen(below, command)
    _add_sign(below, command)
    _add_timestamp(below, command)
    _add_attest(below, command)
    _add_bag(below, command)


def _add_verify(commands: Any, command: Add) -> None:
    parser = command(commands, "verify", _verify, "compare an output with its seal, to the last bit")
    parser.add_argument("output", metavar="OUT", help="the folder of a sealed output")
    _add_key(parser)
    parser.add_argument("--quick", action="store_true", help="the seal alone, and names and sizes of the files")
    parser.add_argument(
        "--since", metavar="OLD", help="an earlier output or checkpoint: the log must go on from it unchanged"
    )
    parser.add_argument("--roots", metavar="PEM", help="certificates of time-stamping authorities that you trust")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _verify(options: argparse.Namespace) -> int:
    from pipelines.reserve.verify import report, verify
    from pipelines.reserve.words import verified

    result = verify(
        options.output,
        _verifiers(options.key),
        options.quick,
        _earlier(options.since) if options.since else None,
        _roots(options.roots),
    )
    print(json.dumps(report(result), indent=2) if options.json else verified(options.output, result))
    return 0 if result.whole else 1


def _add_prove(commands: Any, command: Add) -> None:
    parser = command(commands, "prove", _prove, "write a proof of one document that stands alone")
    parser.add_argument("output", metavar="OUT", help="the folder of a sealed output")
    parser.add_argument("doc_id", metavar="DOC_ID", help="32 hex digits, or enough of the first ones")
    parser.add_argument("--text", action="store_true", help="with the text")
    parser.add_argument("--out", metavar="FILE", help="file to write (default: standard output)")


def _prove(options: argparse.Namespace) -> int:
    from pipelines.reserve.prove import prove

    proof = json.dumps(prove(options.output, options.doc_id, options.text), indent=1, ensure_ascii=False) + "\n"
    if options.out:
        Path(options.out).write_text(proof, encoding="utf-8")
        print(f"proof  {options.out}, {len(proof.encode()):,} bytes\ncheck  reserve check {options.out} --key KEY.vkey")
    else:
        sys.stdout.write(proof)
    return 0


def _add_check(commands: Any, command: Add) -> None:
    parser = command(commands, "check", _check, "check a proof of one document, without the archive")
    parser.add_argument("proof", metavar="PROOF", help="the file that `reserve prove` wrote")
    _add_key(parser)
    parser.add_argument("--json", action="store_true", help="print the document as JSON")


def _check(options: argparse.Namespace) -> int:
    from pipelines.reserve.prove import check, read_proof
    from pipelines.reserve.words import checked

    result = check(read_proof(options.proof, _file(options.proof)), _verifiers(options.key), options.proof)
    print(json.dumps(dict(result.document), indent=2, ensure_ascii=False) if options.json else checked(result))
    return 0


def _add_withdraw(commands: Any, command: Add) -> None:
    parser = command(
        commands, "withdraw", _withdraw, "remove one document from a sealed output, and leave a tombstone in the log"
    )
    parser.add_argument("output", metavar="OUT", help="the folder of a sealed output")
    parser.add_argument("doc_id", metavar="DOC_ID", help="32 hex digits")
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; it stands in the log for good")
    add_private(parser, required=False)


def _withdraw(options: argparse.Namespace) -> int:
    from pipelines.descriptions import rewrite_croissant
    from pipelines.finish import rewrite_report
    from pipelines.reserve.withdraw import withdraw

    def rewrite(output: str) -> list[str]:
        return [rewrite_report(output), rewrite_croissant(output)]

    gone = withdraw(options.output, options.doc_id, options.reason, given_signers(options), rewrite)
    close_output(options.output)
    print(f"withdrawn  {gone.doc_id}, entry {gone.index:,} of the log\nverify     reserve verify {options.output}")
    return 0


def _add_keygen(commands: Any, command: Add) -> None:
    parser = command(commands, "keygen", _keygen, "make a key to sign seals with")
    parser.add_argument(
        "name", metavar="NAME", help="of the key, by custom a URL without a scheme: example.com/reserve"
    )
    parser.add_argument("--out", default=".", metavar="DIR", help="folder for the three files (default: here)")
    parser.add_argument("--algorithm", choices=["ed25519", "ml-dsa-44"], default="ed25519")
    _add_passphrase(parser)
    parser.add_argument("--no-passphrase", action="store_true", help="leave the private key unencrypted")


def _keygen(options: argparse.Namespace) -> int:
    from pipelines.reserve.keys import keygen
    from pipelines.reserve.note import Algorithm

    if options.no_passphrase and (options.passphrase_file or options.passphrase_env):
        raise UsageError("--no-passphrase: a pass phrase is named as well; leave one of them out")
    phrase = None if options.no_passphrase else _passphrase(options, ask=True, confirm=True)
    made = keygen(options.name, Path(options.out), Algorithm(options.algorithm), phrase)
    print(f"private key  {made.private}  keep it to yourself")
    print(f"public key   {made.vkey}, {made.public}")
    print(f"vkey         {made.verifier.vkey}")
    return 0


def _add_sign(commands: Any, command: Add) -> None:
    parser = command(commands, "sign", _sign, "sign the checkpoint of a seal")
    parser.add_argument("output", metavar="OUT", help="the folder of a sealed output")
    add_private(parser, required=True)


def _sign(options: argparse.Namespace) -> int:
    from pipelines.reserve.seal import sign

    sealed, signers = _sealed(options.output), given_signers(options)
    done = sign(sealed.folder, sealed.checkpoint.origin, sealed.tree, signers, sealed.note.signatures)
    close_output(options.output)
    print(f"signed  {done.checkpoint.origin}, {done.checkpoint.size:,} entries")
    for signer in signers:
        print(f"by      {signer.verifier}")
    return 0


def _add_timestamp(commands: Any, command: Add) -> None:
    parser = command(commands, "timestamp", _timestamp, "have others attest when a checkpoint was there")
    parser.add_argument("output", metavar="OUT", help="the folder of a sealed output")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--request", choices=["rfc3161", "opentimestamps"], help="write what to carry to a network")
    what.add_argument("--attach", metavar="FILE", help="an answer: .tsr or .ots")
    parser.add_argument("--out", metavar="FILE", help="file for the request")
    parser.add_argument("--roots", metavar="PEM", help="certificates of authorities that you trust")


def _timestamp(options: argparse.Namespace) -> int:
    from pipelines.reserve.timestamps import Kind, attach, write_request

    folder = _sealed(options.output).folder
    if options.attach:
        print(attach(folder, _file(options.attach), _roots(options.roots), options.attach).statement)
        close_output(options.output)
        return 0
    if not options.out:
        raise UsageError("--out: name the file for the request")
    Path(options.out).write_bytes(write_request(folder, Kind(options.request)))
    close_output(options.output)
    print(f"request  {options.out}\nattach   reserve seal timestamp {options.output} --attach ANSWER")
    return 0


def _add_attest(commands: Any, command: Add) -> None:
    parser = command(commands, "attest", _attest, "sign the statement of what an output was made of (in-toto, DSSE)")
    parser.add_argument("output", metavar="OUT", help="the folder of a finished output")
    parser.add_argument("--out", required=True, metavar="FILE", help="file for the envelope, outside the output")
    add_private(parser, required=True)


def _attest(options: argparse.Namespace) -> int:
    from pipelines.reserve.provenance_statement import NAME, sign_statement

    envelope = sign_statement(_file(str(Path(options.output) / NAME)), given_signers(options))
    Path(options.out).write_bytes(envelope)
    print(f"envelope  {options.out}")
    return 0


def _add_bag(commands: Any, command: Add) -> None:
    parser = command(commands, "bag", _bag, "make a BagIt bag of a sealed output, of hard links where possible")
    parser.add_argument("output", metavar="OUT", help="the folder of a sealed output")
    parser.add_argument("target", metavar="BAG", help="folder to make")


def _bag(options: argparse.Namespace) -> int:
    from pipelines.reserve.bag import make_bag

    made = make_bag(options.output, options.target)
    print(f"bag  {made.folder}: {made.files:,} files, {made.size / 1e6:,.1f} MB, {made.linked:,} of them hard links")
    return 0


def _add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--key", nargs="+", default=[], metavar="VKEY", help="public keys (.vkey) that must have signed the checkpoint"
    )


def add_private(parser: argparse.ArgumentParser, required: bool) -> None:
    """Adds the options that name private keys."""
    parser.add_argument("--key", nargs="+", required=required, default=[], metavar="KEY", help="private keys (.key)")
    _add_passphrase(parser)


def _add_passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--passphrase-file", metavar="FILE", help="file with the pass phrase, for its owner alone")
    parser.add_argument("--passphrase-env", metavar="NAME", help="environment variable with the pass phrase")


def _passphrase(options: argparse.Namespace, ask: bool = False, confirm: bool = False) -> Any:
    from pipelines.reserve.keys import read_passphrase

    file = Path(options.passphrase_file) if options.passphrase_file else None
    named = file is not None or options.passphrase_env is not None
    return read_passphrase(file, options.passphrase_env, prompt=ask and not named, confirm=confirm)


def given_signers(options: argparse.Namespace) -> list[Any]:
    """The private keys that the options of :func:`add_private` name."""
    from pipelines.reserve.keys import read_signer

    phrase = _passphrase(options)
    return [read_signer(Path(key), phrase) for key in options.key]


def _verifiers(keys: list[str]) -> list[Any]:
    from pipelines.reserve.keys import read_verifier

    return [read_verifier(Path(key)) for key in keys]


def _roots(path: str | None) -> list[Any]:
    from pipelines.reserve.rfc3161 import read_roots

    return read_roots(_file(path), path) if path else []


def _sealed(output: str) -> Any:
    from pipelines.layout import Layout
    from pipelines.reserve.seal import read_seal

    sealed = read_seal(Layout(output).seal)
    if sealed is None:
        raise UsageError(f"{output}: holds no seal (no seal/checkpoint)")
    return sealed


def close_output(output: str) -> None:
    """Makes what was written into a sealed output read-only again."""
    from pipelines.layout import Layout
    from pipelines.sealing import make_read_only

    make_read_only(Layout(output))


def _earlier(path: str) -> Any:
    """An earlier seal, from an output or from a checkpoint alone."""
    from pipelines.reserve.seal import parse_seal

    return parse_seal(_file(path), path) if Path(path).is_file() else _sealed(path)


def _file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
